// SPDX-License-Identifier: Apache-2.0
//! Clients outside that stand behind one address of node 1: as many connections to one backend as it
//! has ports for them, and what happens when these run out.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use pintle_tests::agent::{Agent, FastPath};
use pintle_tests::client::http_get;
use pintle_tests::crowd::{Crowd, allow_open_files};
use pintle_tests::server::Server;
use pintle_tests::topology::{Cni, Family, Outsider};

use crate::scene::{HTTP, alone, beside_others};
use crate::three_nodes::{ECHO_NODE_PORT, NODE_PORT, Policy, ThreeNodes};

const CONNECTIONS: usize = 20_000;
/// So few that a test runs out of them.
const FEW: usize = 100;
/// A connection that is over is forgotten after 5 s, and a round of the sweeper.
const FORGOTTEN: Duration = Duration::from_secs(15);

fn scene(prepare: impl FnOnce(&mut [Agent])) -> ThreeNodes {
    ThreeNodes::on(ThreeNodes::world(Cni::Ptp), FastPath::Auto, prepare)
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
    allow_open_files(3 * CONNECTIONS as u64).expect("as many sockets");
    let mut scene = scene(|_| {});
    let server = Server::crowd(scene.pod(2), 9001).expect("a server");
    scene.web.ports.iter_mut().find(|port| port.name == "echo").expect("echo").target = 9001;
    let endpoints = scene.ready(&[2]);
    scene.set([Policy::Cluster; 2], &endpoints);
    let from = addresses(&scene.outside, 4);
    let target = scene.node(Family::V4, ECHO_NODE_PORT);

    let mut crowd = Crowd::open(&scene.outside, &from, target, CONNECTIONS);
    assert_eq!((crowd.open_connections(), crowd.failures()), (CONNECTIONS, ""));
    assert_eq!(crowd.talk(), CONNECTIONS, "every connection carries data while all are open");
    assert_eq!(server.connections(), CONNECTIONS as u64);
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
    let _server = Server::crowd(scene.pod(2), 9001).expect("a server");
    let mut crowded = crate::scene::web(11);
    crowded.ports.retain(|port| port.name == "echo");
    crowded.ports[0].target = 9001;
    crowded.extra_spec = "  externalIPs: [203.0.113.30]\n".into();
    let endpoints = scene.ready(&[2]);
    let agent = &mut scene.agents[0];
    agent.manifests.endpoints(&crowded, &endpoints).expect("write the slices");
    agent.manifests.service(&crowded).expect("write the service");
    agent.settle().expect("settle");
    let target = SocketAddr::new([203, 0, 113, 30].into(), crowded.ports[0].port);
    let from = addresses(&scene.outside, 2);
    let failed = |scene: &ThreeNodes| scene.agents[0].counter("no masquerade port");
    assert_eq!(failed(&scene).expect("counters"), 0);

    let mut crowd = Crowd::open(&scene.outside, &from, target, 3 * FEW);
    let open = crowd.open_connections();
    // Which ports are tried is left to chance, so the last few may stay free.
    assert!((FEW * 3 / 4..=FEW).contains(&open), "{open} of {FEW}: {}", crowd.failures());
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
    assert_eq!((again.open_connections(), again.failures()), (FEW / 2, ""), "ports are free again");
    drop(again);
    let end = Instant::now() + FORGOTTEN;
    while flows(&scene.agents[0]) > 0 {
        assert!(Instant::now() < end, "{} entries are left", flows(&scene.agents[0]));
        std::thread::sleep(Duration::from_millis(200));
    }
}
