// SPDX-License-Identifier: Apache-2.0
//! The worlds themselves: pods reach pods by routing alone, and building one is quick.

use std::time::{Duration, Instant};

use pintle_lab::server::Server;
use pintle_lab::topology::{Cni, Family, World};
use pintle_tests::load::{repeat, short_http, short_udp};

use crate::company::beside_others;

#[test]
fn pods_reach_pods_without_any_agent() {
    let _company = beside_others();
    for cni in [Cni::Ptp, Cni::Bridge] {
        let start = Instant::now();
        let mut world = World::new(2, cni).expect("two nodes");
        let client = world.nodes[0].add_pod("client").expect("a client");
        let near = world.nodes[0].add_pod("near").expect("a pod on the same node");
        let far = world.nodes[1].add_pod("far").expect("a pod on the other node");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "two nodes and three pods took {took:?}");
        for pod in [&near, &far] {
            let _http = Server::http(pod, 80).expect("an HTTP server");
            let _udp = Server::udp_echo(pod, 53).expect("a UDP server");
            for family in Family::BOTH {
                let tcp = client.run(|| repeat(10, || short_http(pod.addr(family, 80))));
                tcp.expect_no_failure(&format!("{cni:?} TCP {family:?} to {}", pod.name));
                let udp = client.run(|| repeat(10, || short_udp(pod.addr(family, 53))));
                udp.expect_no_failure(&format!("{cni:?} UDP {family:?} to {}", pod.name));
            }
        }
    }
}
