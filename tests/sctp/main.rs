// SPDX-License-Identifier: Apache-2.0
//! SCTP over real sockets between namespaces, with the agent as a process.
//!
//! It runs in the guests only: not every machine's kernel has SCTP, Debian's have.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

mod policies;

use anyhow::Result;
use pintle_lab::{
    agent::{Agent, FastPath},
    device::Device,
    manifest::{Endpoint, Port, Service},
    netns::NetNs,
    topology::{Cni, Family, Node, Outsider, Pod, World},
};
use pintle_tests::sctp::{Greeting, SctpServer, connect, exchange};

const PORT: Port = Port { name: "sctp", protocol: "SCTP", port: 3868, target: 38680 };
/// Nobody listens behind this one.
const EMPTY: Port = Port { name: "empty", protocol: "SCTP", port: 3869, target: 38690 };

/// Lengths of messages: odd ones, and more than a packet holds.
const LENGTHS: [usize; 6] = [1, 2, 3, 1403, 9000, 40_000];

/// Two nodes with an agent each; a client and a backend of one service on both.
struct Scene {
    agents: Vec<Agent>,
    service: Service,
    clients: Vec<Pod>,
    backends: Vec<Pod>,
    _servers: Vec<SctpServer>,
    world: World,
}

impl Scene {
    fn new(fast_path: FastPath) -> Result<Self> {
        let mut world = World::new(2, Cni::Ptp)?;
        let mut pods = |name: &str| -> Result<Vec<Pod>> {
            let name = |node: &Node| format!("{name}-{}", node.number);
            world.nodes.iter_mut().map(|node| node.add_pod(&name(node))).collect()
        };
        let (clients, backends) = (pods("client")?, pods("server")?);
        let ends = backends.iter().flat_map(|pod| Family::BOTH.map(|family| (pod, family)));
        let servers = ends.map(|(pod, family)| SctpServer::new(pod, family, PORT.target));
        let _servers = servers.collect::<Result<_>>()?;
        let service = Service::dual_stack("sctp", 20, &[PORT]);
        let empty = Service::dual_stack("empty", 21, &[EMPTY]);
        let endpoints: Vec<_> = backends.iter().map(Endpoint::ready).collect();
        let mut agents = Vec::new();
        for node in &world.nodes {
            let mut agent = Agent::new(node, fast_path)?;
            agent.manifests.service(&service)?;
            agent.manifests.service(&empty)?;
            agent.manifests.endpoints(&service, &endpoints)?;
            agent.start()?;
            agents.push(agent);
        }
        Ok(Self { agents, service, clients, backends, _servers, world })
    }

    /// Lets every agent take in what has changed.
    fn settle(&mut self) {
        self.agents.iter_mut().for_each(|agent| agent.settle().expect("settle"));
    }

    fn target(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.service.ip(family), PORT.port)
    }

    /// Associations from a namespace: every one of a few works, and they reach every backend.
    #[track_caller]
    fn greetings(&self, from: &NetNs, family: Family) -> BTreeSet<(String, String)> {
        let target = self.target(family);
        let seen = from.run(|| (0..24).map(|_| exchange(target, &LENGTHS)).collect::<Vec<_>>());
        let seen = seen.into_iter().map(|result| {
            let Greeting { pod, peer } = result.unwrap_or_else(|error| {
                panic!("{family:?}: {error}");
            });
            (pod, peer.to_string())
        });
        seen.collect()
    }
}

fn set<const N: usize>(seen: [(&str, std::net::IpAddr); N]) -> BTreeSet<(String, String)> {
    seen.map(|(pod, peer)| (pod.to_owned(), peer.to_string())).into()
}

#[test]
fn associations_by_redirects() {
    associations_reach_both_nodes_and_policies_hold(FastPath::Auto);
}

#[test]
fn associations_through_the_stack() {
    associations_reach_both_nodes_and_policies_hold(FastPath::Off);
}

/// With checksums and cuts left to devices, which is what veths do, and with complete packets. In one
/// test, because an interpreter takes long to load programs.
fn associations_reach_both_nodes_and_policies_hold(fast_path: FastPath) {
    let mut scene = Scene::new(fast_path).expect("two nodes");
    let outside = scene.world.add_outsider().expect("a client outside");
    for offloads in ["on", "off"] {
        if offloads == "off" {
            let pods = scene.clients.iter().chain(&scene.backends).map(Pod::ns);
            for ns in pods.chain([&*outside]) {
                Device::new(ns, "eth0").switch_offloads_off().expect("switch offloads off");
            }
        }
        for family in Family::BOTH {
            pods_reach_both(&scene, family);
            outsiders_reach_both(&scene, &outside, family);
        }
    }
    unanswered_services_refuse(&scene);
    policies::hold(&mut scene);
    let redirected = scene.agents[1].counter("redirected").expect("counters");
    assert_eq!(redirected > 0, fast_path == FastPath::Auto, "{redirected} redirected");
    let flows = scene.agents[0].json(&["get", "flows", "--proto", "sctp"]).expect("flows");
    let flows = flows.as_array().map_or(0, Vec::len);
    assert!(flows > 0, "associations that are over are shown for some seconds");
}

/// S1, S2, S9: each backend sees its client; a pod that reaches itself sees the hairpin address.
#[track_caller]
fn pods_reach_both(scene: &Scene, family: Family) {
    for client in &scene.clients {
        let own = client.ip(family);
        let seen = scene.greetings(client, family);
        assert_eq!(seen, set([("server-1", own), ("server-2", own)]));
    }
    let seen = scene.greetings(&scene.backends[0], family);
    let own = scene.backends[0].ip(family).to_string();
    let (other, itself): (Vec<_>, Vec<_>) =
        seen.into_iter().partition(|(pod, _)| pod == "server-2");
    assert_eq!(other, [("server-2".to_owned(), own.clone())]);
    assert!(itself.len() == 1 && itself[0].1 != own, "{itself:?}");
}

/// S15, S16: masqueraded only towards the other node; the host is never.
#[track_caller]
fn outsiders_reach_both(scene: &Scene, outside: &Outsider, family: Family) {
    let node = &scene.world.nodes[0];
    let own = node.ip_of(family);
    let seen = scene.greetings(outside, family);
    assert_eq!(seen, set([("server-1", outside.ip(family)), ("server-2", own)]));
    let seen = scene.greetings(node, family);
    assert_eq!(seen, set([("server-1", own), ("server-2", own)]));
}

/// S6, S7: an ABORT, which a client takes for a refusal at once.
#[track_caller]
fn unanswered_services_refuse(scene: &Scene) {
    let empty = Service::dual_stack("empty", 21, &[EMPTY]);
    for family in Family::BOTH {
        let unknown = SocketAddr::new(scene.service.ip(family), 1);
        let nobody = SocketAddr::new(empty.ip(family), EMPTY.port);
        for target in [unknown, nobody] {
            let start = Instant::now();
            let error = scene.clients[0].run(|| connect(target)).expect_err("nobody is there");
            let took = start.elapsed();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{target}: {error}");
            assert!(took < Duration::from_secs(2), "{target}: {took:?}");
        }
    }
}
