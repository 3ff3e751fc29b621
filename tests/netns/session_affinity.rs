// SPDX-License-Identifier: Apache-2.0
//! Session affinity over real connections: for each port of a service by itself, over all of the
//! port's addresses, until the client was away for too long or its backend is gone (S10).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    thread,
    time::Duration,
};

use pintle_lab::{
    agent::FastPath,
    client::http_get,
    manifest::{Condition, Port, Service},
    topology::{Cni, Family},
};
use pintle_tests::load::{Kind, Load, short_udp};

use crate::{
    company::beside_others,
    exposed::{Exposed, From},
    scene::{DNS, HTTP, endpoints},
};

const SHORT: Duration = Duration::from_secs(2);
/// Longer than an agent takes to come back.
const LONG: Duration = Duration::from_secs(60);
/// So many ports that they do not all lead to one pod by chance, or twice to the same pods.
const PORTS: u16 = 16;
const FIRST: u16 = 8001;

/// The service with affinity, and with many ports that lead to one port of the pods.
fn sticky(scene: &Exposed, timeout: Duration) -> Service {
    const NAMES: [&str; PORTS as usize] =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
    let port = |(name, port)| Port { name, protocol: "TCP", port, target: HTTP.target };
    let mut service = scene.web.clone();
    service.ports.extend(NAMES.into_iter().zip(FIRST..).map(port));
    service.extra_spec = format!(
        "  sessionAffinity: ClientIP\n  sessionAffinityConfig:\n    clientIP:\n      \
         timeoutSeconds: {}\n",
        timeout.as_secs()
    );
    service
}

struct Sticky {
    scene: Exposed,
    family: Family,
}

impl Sticky {
    fn new(family: Family, socket_lb: &str, timeout: Duration) -> Sticky {
        let mut scene = Exposed::new(Cni::Ptp, FastPath::Auto, socket_lb);
        let service = sticky(&scene, timeout);
        scene.set_service(service);
        scene.set_ready(&[0, 1, 2]);
        Sticky { scene, family }
    }

    /// The pod that answers a client at a port.
    fn pod(&self, from: From, port: u16) -> String {
        let (ns, _) = self.scene.way(from, self.family, &HTTP);
        let target = SocketAddr::new(self.scene.web.ip(self.family), port);
        let ask = || ns.run(|| http_get(target));
        self.scene.cgroup.run(ask).expect("an answer").pod
    }

    /// The pods that answer the pod `client` at each of the many ports.
    fn pods(&self) -> BTreeMap<u16, String> {
        (FIRST..FIRST + PORTS).map(|port| (port, self.pod(From::Pod, port))).collect()
    }
}

#[test]
fn a_client_keeps_its_pod_over_addresses_and_not_over_ports() {
    let _company = beside_others();
    // Sockets are translated, but not where affinity needs the packets.
    let mut sticky = Sticky::new(Family::V4, "all", LONG);
    for family in Family::BOTH {
        sticky.family = family;
        let (scene, cluster) = (&sticky.scene, sticky.pod(From::Pod, HTTP.port));
        let node = scene.world.nodes[0].ip_of(family);
        let at_node = SocketAddr::new(node, Exposed::node_port(&HTTP));
        for _ in 0..15 {
            assert_eq!(sticky.pod(From::Pod, HTTP.port), cluster, "{family:?} cluster address");
            let at_node = scene.client.run(|| http_get(at_node)).expect("an answer").pod;
            assert_eq!(at_node, cluster, "{family:?} node port");
        }
        for from in [From::Node, From::Outside] {
            let (ns, target) = scene.way(from, family, &HTTP);
            let ask = || scene.cgroup.run(|| ns.run(|| http_get(target))).expect("an answer").pod;
            let first = ask();
            assert!((0..10).all(|_| ask() == first), "{from:?} {family:?}");
            let (ns, target) = scene.way(from, family, &DNS);
            let ask = || scene.cgroup.run(|| ns.run(|| short_udp(target))).expect("an answer");
            let first = ask();
            assert!((0..10).all(|_| ask() == first), "UDP, {from:?} {family:?}");
        }
        let pods = sticky.pods();
        assert_eq!(sticky.pods(), pods, "{family:?}: each port keeps its own");
        assert!(BTreeSet::from_iter(pods.values()).len() > 1, "{family:?}: {pods:?}");
    }
}

#[test]
fn a_client_that_was_away_for_too_long_is_a_new_one() {
    let _company = beside_others();
    let sticky = Sticky::new(Family::V4, "off", SHORT);
    let first = sticky.pods();
    // Together longer than the timeout, but each connection starts it anew.
    for _ in 0..3 {
        thread::sleep(SHORT / 2);
        assert_eq!(sticky.pods(), first);
    }
    thread::sleep(SHORT + Duration::from_millis(200));
    assert_ne!(sticky.pods(), first, "a port in 16 leads elsewhere but once in 40 million");
}

#[test]
fn affinity_survives_the_agent_and_not_the_backend() {
    let _company = beside_others();
    let mut sticky = Sticky::new(Family::V6, "off", LONG);
    let first = sticky.pods();
    sticky.scene.agent.kill().expect("kill -9");
    assert_eq!(sticky.pods(), first, "while no agent runs");
    sticky.scene.agent.start().expect("start");
    assert_eq!(sticky.pods(), first, "after the agent has come back");

    // One that drains takes no new connections, also from those who had it.
    let mut draining = endpoints(&sticky.scene.backends);
    draining[0].condition = Condition::ServingTerminating;
    for without in [draining, endpoints(&sticky.scene.backends[1..])] {
        sticky.scene.set_endpoints(&without);
        let moved = sticky.pods();
        for (port, pod) in &first {
            assert_ne!(moved[port], "web-1");
            assert!(pod == "web-1" || *pod == moved[port], "who had another pod keeps it");
        }
        sticky.scene.set_ready(&[0, 1, 2]);
        assert_eq!(sticky.pods(), moved, "nobody goes back");
    }
}

#[test]
fn affinity_is_switched_on_and_off_beside_open_connections() {
    let _company = beside_others();
    let mut sticky = Sticky::new(Family::V4, "off", LONG);
    let on = sticky.scene.web.clone();
    let off = Service { extra_spec: String::new(), ..on.clone() };
    let (ns, target) = sticky.scene.way(From::Pod, Family::V4, &HTTP);
    let long = Load::start(ns, target, 5, Kind::LongLived { pause: Duration::from_millis(20) });
    let spread = |sticky: &Sticky| {
        BTreeSet::from_iter((0..30).map(|_| sticky.pod(From::Pod, HTTP.port))).len()
    };
    assert_eq!(spread(&sticky), 1);
    sticky.scene.set_service(off);
    assert_eq!(spread(&sticky), 3, "switched off");
    sticky.scene.set_service(on);
    assert_eq!(spread(&sticky), 1, "switched on again");
    long.stop().expect_no_failure("open connections");
}
