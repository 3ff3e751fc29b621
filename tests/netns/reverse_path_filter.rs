// SPDX-License-Identifier: Apache-2.0
//! Nodes whose kernel takes a packet only where it would send the answer (`rp_filter` 1 everywhere).

use std::net::SocketAddr;

use pintle_lab::agent::FastPath;
use pintle_lab::client::{echo_transfer, udp_ask};
use pintle_lab::netns::NetNs;
use pintle_lab::topology::{Cni, Family, World};
use pintle_tests::load::{repeat, short_http, short_udp};

use crate::scene::{ECHO, HTTP, in_two_layouts};
use crate::three_nodes::{ECHO_NODE_PORT, MIRROR, MIRROR_NODE_PORT, NODE_PORT, ThreeNodes};

/// So many meet more than one of three backends.
const TRIES: usize = 6;

/// Makes the filter strict on every node.
pub fn make_strict(world: &World) {
    for node in &world.nodes {
        node.set_sysctls(&[("net/ipv4/conf/all/rp_filter", "1")]).expect("a strict filter");
    }
}

/// Traffic to three backends: connections, datagrams and a long transfer.
#[track_caller]
pub fn most_of_it_works(client: &NetNs, what: &str, [http, mirror, echo]: [SocketAddr; 3]) {
    let tcp = client.run(|| repeat(60, || short_http(http)));
    tcp.expect_no_failure(&format!("TCP {what}"));
    let udp = client.run(|| repeat(60, || short_udp(mirror)));
    udp.expect_no_failure(&format!("UDP {what}"));
    assert_eq!((tcp.by_pod.len(), udp.by_pod.len()), (3, 3), "{what}: {tcp}, {udp}");
    for _ in 0..TRIES {
        let whole = client.run(|| echo_transfer(echo, 1 << 20));
        assert!(whole.expect(what), "{what}: the bytes came back unchanged");
    }
}

/// The same and datagrams in fragments.
#[track_caller]
pub fn all_of_it_works(client: &NetNs, what: &str, targets: [SocketAddr; 3]) {
    most_of_it_works(client, what, targets);
    let large: Vec<u8> = (0..4000_u32).map(|i| (i % 251) as u8).collect();
    for _ in 0..TRIES {
        // The first one may be lost while routers tell how long they may be.
        let answer = (0..3).find_map(|_| client.run(|| udp_ask(targets[1], &large)).ok());
        assert!(answer.is_some_and(|answer| answer == large), "{what}: a datagram of 4,000 bytes");
    }
}

in_two_layouts!(a_strict_reverse_path_filter_is_no_hindrance);

fn a_strict_reverse_path_filter_is_no_hindrance(cni: Cni, fast_path: FastPath) {
    let world = ThreeNodes::world(cni);
    make_strict(&world);
    let scene = ThreeNodes::on(world, fast_path, |_| {});
    let host = &scene.world.nodes[0];
    // The kernel has such a filter for IPv4 only.
    let family = Family::V4;
    let cluster = [HTTP, MIRROR, ECHO].map(|port| scene.cluster(family, port.port));
    let node = [NODE_PORT, MIRROR_NODE_PORT, ECHO_NODE_PORT].map(|port| scene.node(family, port));
    all_of_it_works(host, "from the host to the ClusterIP", cluster);
    // Over loopback, whose MTU is 64 KiB and of which the kernel learns no other, these are not cut.
    most_of_it_works(host, "from the host to its node port", node);
    all_of_it_works(&scene.outside, "from outside to a node port", node);
    all_of_it_works(&scene.clients[0], "from a pod to a node port", node);
    all_of_it_works(&scene.clients[1], "from another node's pod to a node port", node);
}
