// SPDX-License-Identifier: Apache-2.0
//! Clients outside the cluster: through node 1 to pods on it, who see the client, and to pods of other
//! nodes, who see node 1.

use std::{collections::BTreeSet, net::SocketAddr};

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

in_every_layout!(a_cluster_address_that_is_routed_to_a_node_is_reached);

fn a_cluster_address_that_is_routed_to_a_node_is_reached(cni: Cni, fast_path: FastPath) {
    let scene = TwoNodes::new(cni, fast_path, &[0, 0, 1]).expect("two nodes");
    let client = scene.world.add_outsider().expect("a client outside");
    for family in Family::BOTH {
        let at = |port| SocketAddr::new(scene.web.ip(family), port);
        let tcp = client.run(|| repeat(300, || short_http(at(HTTP.port))));
        tcp.expect_no_failure(&format!("TCP {family:?}"));
        tcp.expect_even(3);
        let udp = client.run(|| repeat(300, || short_udp(at(DNS.port))));
        udp.expect_no_failure(&format!("UDP {family:?}"));
        let seen: BTreeSet<_> = (0..40)
            .map(|_| client.run(|| http_get(at(HTTP.port))).expect("one request"))
            .map(|answer| (answer.pod, answer.peer.ip()))
            .collect();
        let (outside, node) = (client.ip(family), scene.world.nodes[0].ip_of(family));
        let expected = [("web-1", outside), ("web-2", outside), ("web-3", node)];
        assert_eq!(seen, expected.map(|(pod, ip)| (pod.to_owned(), ip)).into(), "{family:?}");
        let whole = client.run(|| echo_transfer(at(ECHO.port), 4 << 20)).expect("a transfer");
        assert!(whole, "{family:?}: the bytes came back unchanged");
    }
}
