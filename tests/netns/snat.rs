// SPDX-License-Identifier: Apache-2.0
//! Clients outside that stand behind one address of node 1: as many connections to one backend as it
//! has ports for them, and what happens when these run out.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::client::http_get;
use pintle_lab::netns::NetNs;
use pintle_lab::topology::{Cni, Family, Outsider};

use crate::company::{alone, beside_others};
use crate::scene::HTTP;
use crate::three_nodes::{NODE_PORT, ThreeNodes};

const CONNECTIONS: usize = 20_000;
/// Over so many processes on each side, for a process has only so many sockets.
const PARTS: usize = 4;
const CROWD_PORT: u16 = 9001;
/// So few that a test runs out of them.
const FEW: usize = 100;
/// A connection that is over is forgotten after 5 s, and a round of the sweeper.
const FORGOTTEN: Duration = Duration::from_secs(15);
/// One that got its port with the last step that the kernel allows a packet is never answered: it
/// waits for the client's next SYN, which does not come, and is forgotten after 60 s.
const GIVEN_UP: Duration = Duration::from_secs(75);

/// A process of the helper `crowd`; it ends with its handle.
struct Part {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Part {
    fn start(ns: &NetNs, args: &[String]) -> Part {
        let mut command: Command = ns.command(env!("CARGO_BIN_EXE_crowd"));
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("run the helper");
        let answers = BufReader::new(child.stdout.take().expect("its output"));
        Part { child, answers }
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Servers that share a port.
fn servers(ns: &NetNs) -> Vec<Part> {
    let args = ["serve".to_owned(), CROWD_PORT.to_string()];
    let mut parts: Vec<_> = (0..PARTS).map(|_| Part::start(ns, &args)).collect();
    for part in &mut parts {
        assert_eq!(part.answer(), "ready");
    }
    parts
}

/// Open connections.
struct Crowd {
    parts: Vec<Part>,
    open: usize,
    failures: String,
}

impl Crowd {
    fn open(ns: &NetNs, from: &[IpAddr], target: SocketAddr, count: usize) -> Crowd {
        let part = |ip: &IpAddr| {
            let count = count / from.len();
            let args = ["dial".into(), target.to_string(), count.to_string(), ip.to_string()];
            Part::start(ns, &args)
        };
        let mut parts: Vec<_> = from.iter().map(part).collect();
        let (mut open, mut failures) = (0, String::new());
        for part in &mut parts {
            let answer = part.answer();
            let (number, failed) = answer.split_once(' ').unwrap_or((&answer, ""));
            open += number.parse::<usize>().expect("a number");
            failures += failed;
        }
        Crowd { parts, open, failures }
    }

    /// How many connections carry data, while all are open.
    fn talk(&mut self) -> usize {
        for part in &mut self.parts {
            part.child.stdin.as_mut().expect("its input").write_all(b"\n").expect("ask");
        }
        let answers = self.parts.iter_mut().map(|part| part.answer().parse::<usize>());
        answers.map(|number| number.expect("a number")).sum()
    }
}

fn scene(prepare: impl FnOnce(&mut [Agent])) -> ThreeNodes {
    ThreeNodes::on(ThreeNodes::world(Cni::Ptp), FastPath::Auto, prepare)
}

/// Adds a service whose only backend is the crowd's servers on node 2; returns its external address.
fn crowded(scene: &mut ThreeNodes) -> SocketAddr {
    let mut service = crate::scene::web(11);
    service.ports.retain(|port| port.name == "echo");
    service.ports[0].target = CROWD_PORT;
    service.extra_spec = "  externalIPs: [203.0.113.30]\n".into();
    let endpoints = scene.ready(&[2]);
    let agent = &mut scene.agents[0];
    agent.manifests.endpoints(&service, &endpoints).expect("write the slices");
    agent.manifests.service(&service).expect("write the service");
    agent.settle().expect("settle");
    SocketAddr::new([203, 0, 113, 30].into(), service.ports[0].port)
}

/// Addresses of a client, the first of which it has already.
fn addresses(client: &Outsider, count: u8) -> Vec<IpAddr> {
    let more: Vec<IpAddr> = (8..7 + count).map(|n| IpAddr::from([198, 51, 100, n])).collect();
    let lines: Vec<_> = more.iter().map(|ip| format!("addr add {ip}/24 dev eth0")).collect();
    (**client).ip(&lines).expect("more addresses");
    [client.ip(Family::V4)].into_iter().chain(more).collect()
}

/// Tracked TCP connections of IPv4 on node 1, two entries for each.
fn flows(agent: &Agent) -> u64 {
    let maps = agent.json(&["get", "maps"]).expect("get maps");
    let mut maps = maps.as_array().expect("a list").iter();
    let map = maps.find(|map| map["name"] == "TCP_FLOWS_V4").expect("the map");
    map["entries"].as_u64().expect("a number")
}

#[test]
fn twenty_thousand_connections_reach_one_remote_backend_at_once() {
    let _company = alone();
    let mut scene = scene(|_| {});
    let _servers = servers(scene.pod(2));
    let target = crowded(&mut scene);
    let from = addresses(&scene.outside, PARTS as u8);

    let mut crowd = Crowd::open(&scene.outside, &from, target, CONNECTIONS);
    assert_eq!((crowd.open, &*crowd.failures), (CONNECTIONS, ""));
    assert_eq!(crowd.talk(), CONNECTIONS, "every connection carries data while all are open");
    let count = |reason: &str| scene.agents[0].counter(reason).expect("counters");
    assert_eq!(count("masqueraded flows"), CONNECTIONS as u64);
    assert_eq!(count("no masquerade port"), 0);
    assert_eq!(count("overflow flows"), 0);
}

#[test]
fn when_ports_run_out_new_connections_fail_and_nothing_else() {
    let _company = beside_others();
    let mut scene = scene(|agents| {
        agents[0].extra_args.push("--masquerade-ports=50000-50099".into());
    });
    let _servers = servers(scene.pod(2));
    let target = crowded(&mut scene);
    let from = addresses(&scene.outside, 2);
    let failed = |scene: &ThreeNodes| scene.agents[0].counter("no masquerade port");
    assert_eq!(failed(&scene).expect("counters"), 0);

    let mut crowd = Crowd::open(&scene.outside, &from, target, 3 * FEW);
    let open = crowd.open;
    // Which ports are tried is left to chance, so the last few may stay free.
    assert!((FEW * 3 / 4..=FEW).contains(&open), "{open} of {FEW}: {}", crowd.failures);
    assert!(failed(&scene).expect("counters") >= (3 * FEW - open) as u64);
    assert_eq!(crowd.talk(), open, "the others go on");
    for client in [&*scene.outside, scene.clients[0].ns()] {
        for _ in 0..20 {
            let http = SocketAddr::new(scene.node(Family::V4, 0).ip(), NODE_PORT);
            client.run(|| http_get(http)).expect("another service");
            let http = scene.cluster(Family::V4, HTTP.port);
            client.run(|| http_get(http)).expect("another service at its own address");
        }
    }
    assert_eq!(crowd.talk(), open, "the others still go on");

    drop(crowd);
    let again = Crowd::open(&scene.outside, &from, target, FEW / 2);
    assert_eq!((again.open, &*again.failures), (FEW / 2, ""), "ports are free again");
    drop(again);
    let start = Instant::now();
    while flows(&scene.agents[0]) > 0 {
        let left = scene.agents[0].text(&["get", "flows"]).expect("flows");
        // The last of them may have gone since they were counted: then there is no line.
        let unanswered = left.lines().skip(1).all(|line| line.contains(" syn-sent "));
        let patience = if unanswered { GIVEN_UP } else { FORGOTTEN };
        assert!(start.elapsed() < patience, "connections are left:\n{left}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
