// SPDX-License-Identifier: Apache-2.0
//! Measures what a ClusterIP costs over plain routing, for a table or as JSON.
//!
//! Worlds: `direct`, pod to pod by the node's routes with no hook; `pintle`, through a ClusterIP.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use pintle_bench::latency::{Measured, Side, Workload, mean_and_interval, measure, pin_to_one_cpu};
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::cgroup::Cgroup;
use pintle_lab::manifest::{Endpoint, Port, Service};
use pintle_lab::server::Server;
use pintle_lab::topology::{Cni, Family, Pod, World};
use serde_json::{Value, json};

const TCP_PORT: u16 = 9000;
const UDP_PORT: u16 = 5353;

const USAGE: &str = "usage: bench_latency [--rebuilds N] [--seconds S] [--sockets] [--json]
  --rebuilds N  build the worlds N times (default 3)
  --seconds S   epochs of one second per workload and build (default 5)
  --sockets     translate sockets when they dial, not packets (the client of `direct` meets the
                programs, too, and is none of theirs)
  --json        print JSON instead of a table";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

struct Options {
    rebuilds: u32,
    seconds: u32,
    translate: Translate,
    output: Format,
}

/// What is translated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Translate {
    Packets,
    Sockets,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Json,
}

/// All builds of one workload.
struct Row {
    workload: Workload,
    builds: Vec<Measured>,
}

/// Returns whether every operation succeeded.
fn run() -> Result<bool> {
    let Some(options) = parse(std::env::args().skip(1))? else {
        println!("{USAGE}");
        return Ok(true);
    };
    let cpu = pin_to_one_cpu()?;
    let mut rows = Workload::ALL.map(|workload| Row { workload, builds: Vec::new() });
    for build in 1..=options.rebuilds {
        let worlds = Worlds::new(options.translate).with_context(|| format!("build {build}"))?;
        for row in &mut rows {
            progress(&format!("build {build} of {}: {}", options.rebuilds, row.workload.name()));
            row.builds.push(worlds.measure(row.workload, options.seconds)?);
        }
    }
    progress("");
    match options.output {
        Format::Table => print_table(&rows, &options, cpu)?,
        Format::Json => println!("{:#}", as_json(&rows, &options)),
    }
    Ok(rows.iter().all(|row| row.failed() == 0))
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let (translate, output) = (Translate::Packets, Format::Table);
    let mut options = Options { rebuilds: 3, seconds: 5, translate, output };
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u32> {
            let value = args.next().with_context(|| format!("{arg} needs a number"))?;
            let number: u32 = value.parse().with_context(|| format!("{arg} {value}"))?;
            if number == 0 { bail!("{arg} must be at least 1") } else { Ok(number) }
        };
        match arg.as_str() {
            "--rebuilds" => options.rebuilds = number()?,
            "--seconds" => options.seconds = number()?,
            "--sockets" => options.translate = Translate::Sockets,
            "--json" => options.output = Format::Json,
            "--help" | "-h" => return Ok(None),
            _ => bail!("unknown argument {arg}\n{USAGE}"),
        }
    }
    Ok(Some(options))
}

/// Both worlds of one build. Fields drop in this order: agent, servers, namespaces.
struct Worlds {
    _agent: Agent,
    _servers: Vec<Server>,
    /// Where clients are whose sockets are translated.
    cgroup: Option<Cgroup>,
    sides: [Side; 2],
    _worlds: [World; 2],
    _pods: Vec<Pod>,
}

impl Worlds {
    fn new(translate: Translate) -> Result<Worlds> {
        let mut worlds = [World::new(1, Cni::Ptp)?, World::new(1, Cni::Ptp)?];
        let mut pods = Vec::new();
        for world in &mut worlds {
            pods.push(world.nodes[0].add_pod("client")?);
            pods.push(world.nodes[0].add_pod("server")?);
        }
        for client in [&pods[0], &pods[2]] {
            // More short connections than ports: closed ones are used again after a second.
            client.set_sysctls(&[("net/ipv4/tcp_tw_reuse", "1")])?;
        }
        let mut servers = Vec::new();
        for pod in [&pods[1], &pods[3]] {
            servers.push(Server::tcp_one_by_one(pod, TCP_PORT)?);
            servers.push(Server::udp_mirror(pod, UDP_PORT)?);
        }
        let tcp = Port { name: "tcp", protocol: "TCP", port: TCP_PORT, target: TCP_PORT };
        let udp = Port { name: "udp", protocol: "UDP", port: UDP_PORT, target: UDP_PORT };
        let service = Service::dual_stack("bench", 10, &[tcp, udp]);
        let mut agent = Agent::new(&worlds[1].nodes[0], FastPath::Auto)?;
        let cgroup = match translate {
            Translate::Packets => None,
            Translate::Sockets => Some(Cgroup::new()?),
        };
        if let Some(cgroup) = &cgroup {
            agent.translate_sockets("all", cgroup.path());
        }
        agent.manifests.service(&service)?;
        agent.manifests.endpoints(&service, &[Endpoint::ready(&pods[3])])?;
        agent.start()?;
        let side = |client: &Pod, ip| Side {
            ns: client.ns().clone(),
            tcp: SocketAddr::new(ip, TCP_PORT),
            udp: SocketAddr::new(ip, UDP_PORT),
        };
        let direct = side(&pods[0], pods[1].ip(Family::V4));
        let pintle = side(&pods[2], service.ip(Family::V4));
        let sides = [direct, pintle];
        Ok(Worlds { _agent: agent, _servers: servers, cgroup, sides, _worlds: worlds, _pods: pods })
    }

    fn measure(&self, workload: Workload, seconds: u32) -> Result<Measured> {
        if let Some(cgroup) = &self.cgroup {
            return cgroup.run(|| measure(&self.sides, workload, seconds));
        }
        thread::scope(|scope| {
            let measuring = scope.spawn(|| measure(&self.sides, workload, seconds));
            measuring.join().map_err(|_| anyhow!("the measuring thread panicked"))?
        })
    }
}

impl Row {
    fn ratio(&self) -> (f64, f64) {
        let ratios: Vec<f64> = self.builds.iter().map(|build| build.ratio).collect();
        mean_and_interval(&ratios)
    }

    fn base_us(&self) -> f64 {
        self.builds.iter().map(|build| build.base_us).sum::<f64>() / self.builds.len() as f64
    }

    fn failed(&self) -> u64 {
        self.builds.iter().map(|build| build.failed).sum()
    }

    fn operations(&self) -> u64 {
        self.builds.iter().map(|build| build.operations).sum()
    }
}

fn print_table(rows: &[Row], options: &Options, cpu: usize) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<27} {:>9} {:>7} {:>15} {:>7} {:>10} {:>6}",
        "WORKLOAD", "DIRECT US", "PINTLE", "95% INTERVAL", "TARGET", "OPERATIONS", "FAILED"
    )?;
    for row in rows {
        let (ratio, interval) = row.ratio();
        let interval = match interval.is_nan() {
            true => "-".to_owned(),
            false => format!("{:.3} to {:.3}", ratio - interval, ratio + interval),
        };
        let verdict = if ratio <= row.workload.target() { "" } else { "  above target" };
        writeln!(
            out,
            "{:<27} {:>9.2} {ratio:>7.3} {interval:>15} {:>7.2} {:>10} {:>6}{verdict}",
            row.workload.name(),
            row.base_us(),
            row.workload.target(),
            row.operations(),
            row.failed()
        )?;
    }
    let Options { rebuilds, seconds, .. } = options;
    let load = load_average();
    writeln!(
        out,
        "\nratio of medians to direct; {rebuilds} builds x {seconds} s; CPU {cpu}; load {load}"
    )?;
    Ok(())
}

fn as_json(rows: &[Row], options: &Options) -> Value {
    let row = |row: &Row| {
        let (ratio, interval) = row.ratio();
        json!({
            "workload": row.workload.name(),
            "base": "direct",
            "base_us": row.base_us(),
            "ratio": ratio,
            "interval95": if interval.is_nan() { Value::Null } else { json!(interval) },
            "ratios": row.builds.iter().map(|build| build.ratio).collect::<Vec<_>>(),
            "target": row.workload.target(),
            "operations": row.operations(),
            "failed": row.failed(),
        })
    };
    json!({
        "rebuilds": options.rebuilds,
        "seconds": options.seconds,
        "load": load_average(),
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

/// Replaces the progress line, where a person is watching.
fn progress(text: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r{text:<60}\r");
    }
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}
