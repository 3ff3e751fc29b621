// SPDX-License-Identifier: Apache-2.0
//! The host's own connections to services, translated on their way out (S15, without socket LB).

use std::net::SocketAddr;

use pintle_lab::{
    agent::FastPath,
    client::{echo_transfer, http_get},
    topology::{Cni, Family},
};
use pintle_tests::load::{repeat, short_http, short_udp};

use crate::{
    cross_node::TwoNodes,
    scene::{DNS, ECHO, HTTP, in_every_layout},
};

in_every_layout!(the_host_reaches_backends_on_both_nodes);

fn the_host_reaches_backends_on_both_nodes(cni: Cni, fast_path: FastPath) {
    let scene = TwoNodes::new(cni, fast_path, &[0, 0, 1]).expect("two nodes");
    for node in &scene.world.nodes {
        for family in Family::BOTH {
            let at = |port| SocketAddr::new(scene.web.ip(family), port);
            let tcp = node.run(|| repeat(300, || short_http(at(HTTP.port))));
            tcp.expect_no_failure(&format!("TCP {family:?} from {}", node.name));
            tcp.expect_even(3);
            let udp = node.run(|| repeat(300, || short_udp(at(DNS.port))));
            udp.expect_no_failure(&format!("UDP {family:?} from {}", node.name));
            let answer = node.run(|| http_get(at(HTTP.port))).expect("one request");
            assert_eq!(answer.peer.ip(), node.ip_of(family), "the node's own address is seen");
            let whole = node.run(|| echo_transfer(at(ECHO.port), 4 << 20)).expect("a transfer");
            assert!(whole, "{family:?}: the bytes came back unchanged");
        }
    }
}
