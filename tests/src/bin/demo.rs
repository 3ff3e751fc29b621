// SPDX-License-Identifier: Apache-2.0
//! Shows Pintle at work on one machine, with real traffic, in less than a minute.
//!
//! Each claim is checked, not just shown; the exit code says whether all of them held.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::client::{HttpConnection, http_get_from};
use pintle_lab::manifest::{Endpoint, Port, Service};
use pintle_lab::server::Server;
use pintle_lab::topology::{Cni, Family, Pod, World};
use pintle_tests::kernel_state::NodeState;
use pintle_tests::load::{Kind, Load, Report, repeat, short_http};

const HTTP: Port = Port { name: "http", protocol: "TCP", port: 80, target: 8080 };
const REQUESTS: u64 = 3000;
const PAUSE: Duration = Duration::from_millis(20);
/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_millis(400);
/// Longer than TCP waits before it sends again what nobody has answered.
const RESUMPTION: Duration = Duration::from_secs(4);
const MAX_ROWS: usize = 12;

fn main() -> ExitCode {
    let mut screen = Screen::new();
    if let Err(error) = run(&mut screen) {
        screen.claim(false, format!("{error:#}"));
    }
    screen.finish()
}

fn run(screen: &mut Screen) -> Result<()> {
    screen.step("A node and its pods");
    let mut stage = Stage::new()?;
    let before = stage.node_state()?;
    screen.claim(true, format!("1 node, 1 client, 4 web servers in {:?}", stage.built_in));

    screen.step("The agent on manifests/examples/demo");
    let start = Instant::now();
    stage.agent.start()?;
    screen.claim(true, format!("programmed in {:?}", round(start.elapsed())));

    screen.step("Requests to the ClusterIP spread over three pods");
    for family in Family::BOTH {
        show_spread(screen, &stage, family);
    }
    screen.step("Under load, web-1 leaves and web-4 joins");
    change_backends(screen, &mut stage)?;
    screen.step("Under load, the agent is killed with -9 and comes back");
    kill_agent(screen, &mut stage)?;
    screen.step("Policies take hold of a connection that is open");
    apply_policies(screen, &mut stage)?;
    screen.step("What the node knows");
    show_tables(screen, &stage)?;
    screen.step("Clean up");
    stage.agent.stop()?;
    stage.agent.cleanup()?;
    // Detaching frees a program only after a grace period of the kernel.
    let end = Instant::now() + Duration::from_secs(2);
    while stage.node_state()? != before && Instant::now() < end {
        sleep(Duration::from_millis(20));
    }
    screen.claim(stage.node_state()? == before, "the node is as it was before");
    Ok(())
}

/// The node and everything on it. Fields drop in this order: the agent ends before its node.
struct Stage {
    agent: Agent,
    service: Service,
    servers: Vec<Server>,
    client: Pod,
    web: Vec<Pod>,
    world: World,
    built_in: Duration,
}

impl Stage {
    fn new() -> Result<Stage> {
        let start = Instant::now();
        let mut world = World::new(1, Cni::Ptp)?;
        let node = &mut world.nodes[0];
        let client = node.add_pod("client")?;
        let web: Vec<Pod> =
            (1..=4).map(|n| node.add_pod(&format!("web-{n}"))).collect::<Result<_>>()?;
        let servers = web.iter().map(|pod| Server::http(pod, HTTP.target));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let built_in = round(start.elapsed());
        let agent = Agent::without_objects(node, FastPath::Auto)?;
        let examples = std::fs::read_dir(manifests("demo"));
        for entry in examples.context("manifests/examples/demo")?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            agent.manifests.write(&name, &std::fs::read_to_string(entry.path())?)?;
        }
        let mut service = Service::dual_stack("web", 0x10, &[HTTP]);
        service.namespace = "demo".into();
        service.cluster_ips[0] = [10, 96, 0, 10].into();
        Ok(Stage { agent, service, servers, client, web, world, built_in })
    }

    fn target(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.service.ip(family), HTTP.port)
    }

    fn node_state(&self) -> Result<NodeState> {
        NodeState::read(&self.world.nodes[0], self.agent.bpf_root())
    }

    /// Puts a policy of manifests/examples/policies into the agent's directory.
    fn add_policy(&mut self, file: &str) -> Result<()> {
        let text = std::fs::read_to_string(manifests("policies").join(file));
        self.agent.manifests.write(file, &text.with_context(|| file.to_owned())?)?;
        self.agent.settle()
    }

    /// A new connection to the service, from a pod.
    fn dial(&self, from: &Pod) -> io::Result<String> {
        let answer = from.run(|| http_get_from(0, self.target(Family::V4), PATIENCE));
        Ok(answer?.pod)
    }

    /// 40 connections that stay open and 300 short ones per second, half of each per family.
    fn load(&self) -> Vec<Load> {
        let long = Kind::LongLived { pause: PAUSE };
        let short = Kind::Short { per_second: 150 };
        let start = |family| {
            let target = self.target(family);
            [
                Load::start(&self.client, target, 20, long),
                Load::start(&self.client, target, 2, short),
            ]
        };
        Family::BOTH.into_iter().flat_map(start).collect()
    }
}

fn show_spread(screen: &mut Screen, stage: &Stage, family: Family) {
    let target = stage.target(family);
    let report = stage.client.run(|| repeat(REQUESTS, || short_http(target)));
    screen.line(format!("{REQUESTS} connections to {target}"));
    screen.bars(&report.by_pod);
    screen.no_failure(&report);
    let share = report.ok as f64 / 3.0;
    let even = |count: &u64| (*count as f64 - share).abs() < share * 0.15;
    let held = report.by_pod.len() == 3 && report.by_pod.values().all(even);
    screen.claim(held, format!("spread evenly ({family:?})"));
}

fn show_tables(screen: &mut Screen, stage: &Stage) -> Result<()> {
    let facts = [
        (&["get", "services"][..], "10.96.0.10"),
        (&["get", "flows"], "demo/client"),
        (&["counters"], ""),
    ];
    for (args, fact) in facts {
        let table = stage.agent.text(args)?;
        screen.table(&args.join(" "), &table);
        let held = !table.trim().is_empty() && table.contains(fact);
        let what = if fact.is_empty() { "its counters" } else { fact };
        screen.claim(held, format!("pintle {} shows {what}", args.join(" ")));
    }
    Ok(())
}

fn change_backends(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    let load = stage.load();
    sleep(Duration::from_millis(700));
    let remaining: Vec<Endpoint> = stage.web[1..].iter().map(Endpoint::ready).collect();
    stage.agent.manifests.endpoints(&stage.service, &remaining)?;
    stage.agent.settle()?;
    let target = stage.target(Family::V4);
    let new = stage.client.run(|| repeat(600, || short_http(target)));
    sleep(Duration::from_millis(700));
    let total = collect(load);
    screen.line("600 new connections after the change");
    screen.bars(&new.by_pod);
    screen.no_failure(&new);
    screen.claim(!new.by_pod.contains_key("web-1"), "web-1 gets no new connection");
    screen.claim(new.by_pod.contains_key("web-4"), "web-4 takes its share");
    screen.line("40 open connections and 300 short ones per second meanwhile");
    screen.no_failure(&total);
    Ok(())
}

fn kill_agent(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    let load = stage.load();
    sleep(Duration::from_millis(500));
    stage.agent.kill()?;
    let answered = || stage.servers.iter().map(Server::requests).sum::<u64>();
    let before = answered();
    sleep(Duration::from_secs(1));
    let alone = answered() - before;
    stage.agent.start()?;
    sleep(Duration::from_millis(500));
    let total = collect(load);
    screen.claim(alone > 300, format!("{alone} requests answered while no agent ran"));
    screen.no_failure(&total);
    Ok(())
}

fn apply_policies(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    let mut open = stage.client.run(|| HttpConnection::open(stage.target(Family::V4)))?;
    let mut ask = |stage: &Stage| stage.client.run(|| Ok(open.get()?.pod));
    screen.answered("the client has a connection", ask(stage));

    screen.line("default-deny.yaml comes: nobody is allowed");
    stage.add_policy("default-deny.yaml")?;
    screen.silent("a request on the open connection", ask(stage));
    screen.silent("a new connection", stage.dial(&stage.client));
    // The agent names new denials once a second.
    let named = |table: &String| table.contains("demo/default-deny");
    let drops = until(RESUMPTION, || stage.agent.text(&["get", "drops"]), named)?;
    screen.table("get drops", &drops);
    screen.claim(named(&drops), "pintle get drops shows demo/default-deny");

    screen.line("allow-client.yaml comes: the client is allowed");
    stage.add_policy("allow-client.yaml")?;
    let answer = until(RESUMPTION, || Ok(ask(stage)), io::Result::is_ok)?;
    screen.answered("the open connection goes on", answer);
    screen.answered("a new connection", stage.dial(&stage.client));
    let stranger = &stage.web[0];
    screen.silent("a new connection of web-1, which no rule allows", stage.dial(stranger));

    screen.line("Both are removed");
    stage.agent.manifests.remove("default-deny.yaml")?;
    stage.agent.manifests.remove("allow-client.yaml")?;
    stage.agent.settle()?;
    screen.answered("a new connection of web-1", stage.dial(&stage.web[0]));
    Ok(())
}

/// Looks again until it is as wanted, or the time is over.
fn until<T>(
    time: Duration,
    mut look: impl FnMut() -> Result<T>,
    is_wanted: impl Fn(&T) -> bool,
) -> Result<T> {
    let end = Instant::now() + time;
    loop {
        let seen = look()?;
        if is_wanted(&seen) || Instant::now() > end {
            return Ok(seen);
        }
        sleep(Duration::from_millis(50));
    }
}

fn collect(load: Vec<Load>) -> Report {
    let mut total = Report::default();
    for part in load {
        total.merge(part.stop());
    }
    total
}

fn manifests(folder: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "manifests", "examples", folder].iter().collect()
}

fn round(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}

/// Numbered steps, bars and check marks; colours only where a person watches.
struct Screen {
    colour: bool,
    step: u32,
    failed: u32,
    started: Instant,
}

impl Screen {
    fn new() -> Screen {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Screen { colour, step: 0, failed: 0, started: Instant::now() }
    }

    fn step(&mut self, title: &str) {
        self.step += 1;
        println!("\n{}", self.paint("1", &format!("{}. {title}", self.step)));
    }

    fn line(&self, text: impl Display) {
        println!("   {text}");
    }

    fn claim(&mut self, held: bool, text: impl Display) {
        if held {
            println!("   {} {text}", self.paint("32", "✓"));
        } else {
            self.failed += 1;
            println!("   {} {text}", self.paint("31;1", "FAIL"));
        }
    }

    /// A request that a pod must answer.
    fn answered(&mut self, what: &str, answer: io::Result<String>) {
        match answer {
            Ok(pod) => self.claim(true, format!("{what}: answered by {pod}")),
            Err(error) => self.claim(false, format!("{what}: {error}")),
        }
    }

    /// A request that policies deny: nobody answers, nothing refuses.
    fn silent(&mut self, what: &str, answer: io::Result<String>) {
        use io::ErrorKind::{TimedOut, WouldBlock};
        match answer {
            Ok(pod) => self.claim(false, format!("{what}: answered by {pod}")),
            Err(error) => {
                let is_silence = matches!(error.kind(), TimedOut | WouldBlock);
                let text = if is_silence { "silence".to_owned() } else { error.to_string() };
                self.claim(is_silence, format!("{what}: {text}"));
            }
        }
    }

    fn no_failure(&mut self, report: &Report) {
        let held = report.ok > 0 && report.failures() == 0;
        self.claim(held, format!("{} requests, {} failed", report.ok, report.failures()));
        for (error, count) in &report.failed {
            self.line(format!("  {count} x {error}"));
        }
    }

    fn bars(&self, by_pod: &BTreeMap<String, u64>) {
        let total = by_pod.values().sum::<u64>().max(1);
        for (pod, count) in by_pod {
            let bar = "█".repeat((count * 60 / total) as usize);
            let percent = *count as f64 * 100.0 / total as f64;
            println!("   {pod:<8}{} {count} ({percent:.1} %)", self.paint("36", &bar));
        }
    }

    fn table(&self, command: &str, text: &str) {
        println!("\n   {}", self.paint("2", &format!("$ pintle {command}")));
        for line in text.lines().take(MAX_ROWS) {
            println!("   {line}");
        }
        let more = text.lines().count().saturating_sub(MAX_ROWS);
        if more > 0 {
            println!("   ... and {more} more");
        }
    }

    fn finish(&self) -> ExitCode {
        let took = self.started.elapsed().as_secs_f64();
        if self.failed == 0 {
            println!("\n{} in {took:.1} s", self.paint("32;1", "Everything held"));
            return ExitCode::SUCCESS;
        }
        let text = format!("{} claims did not hold", self.failed);
        println!("\n{} ({took:.1} s)", self.paint("31;1", &text));
        ExitCode::FAILURE
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}
