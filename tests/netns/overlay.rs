// SPDX-License-Identifier: Apache-2.0
//! Nodes whose pods' packets go through vxlan, as flannel's do: what a node masqueraded has the
//! address of its end of the tunnel, and everything fits into 1,450 bytes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use pintle_lab::agent::FastPath;
use pintle_lab::client::{http_get, udp_ask};
use pintle_lab::netns::NetNs;
use pintle_lab::topology::{Cni, Family};

use crate::reverse_path_filter::{all_of_it_works, make_strict};
use crate::scene::{ECHO, HTTP, in_two_layouts};
use crate::three_nodes::{ECHO_NODE_PORT, MIRROR, MIRROR_NODE_PORT, NODE_PORT, ThreeNodes};

/// Which pods answer, and whom they see.
fn seen(client: &NetNs, target: SocketAddr) -> BTreeSet<(String, String)> {
    let ask = || client.run(|| http_get(target)).expect("an answer");
    (0..40).map(|_| ask()).map(|answer| (answer.pod, answer.peer.ip().to_string())).collect()
}

in_two_layouts!(services_work_through_vxlan);

fn services_work_through_vxlan(cni: Cni, fast_path: FastPath) {
    let mut world = ThreeNodes::world(cni);
    world.tunnel().expect("an overlay");
    make_strict(&world);
    let scene = ThreeNodes::on(world, fast_path, |_| {});
    let host = &scene.world.nodes[0];
    for family in Family::BOTH {
        let cluster = [HTTP, MIRROR, ECHO].map(|port| scene.cluster(family, port.port));
        let ports = [NODE_PORT, MIRROR_NODE_PORT, ECHO_NODE_PORT];
        let node = ports.map(|port| scene.node(family, port));
        let tunnel = host.overlay_ip(family).to_string();
        let pods = |first: String| {
            [("web-1", first), ("web-2", tunnel.clone()), ("web-3", tunnel.clone())]
                .map(|(pod, ip)| (pod.to_owned(), ip))
        };
        let outside = scene.outside.ip(family).to_string();
        assert_eq!(seen(&scene.outside, node[0]), pods(outside).into(), "from outside");
        let own = host.ip_of(family).to_string();
        assert_eq!(seen(host, cluster[0]), pods(own).into(), "from the host");
        let own = scene.clients[0].ip(family).to_string();
        let same = ["web-1", "web-2", "web-3"].map(|pod| (pod.to_owned(), own.clone()));
        assert_eq!(seen(&scene.clients[0], cluster[0]), same.into(), "from a pod");

        all_of_it_works(&scene.outside, &format!("{family:?} from outside"), node);
        all_of_it_works(host, &format!("{family:?} from the host"), cluster);
        all_of_it_works(&scene.clients[0], &format!("{family:?} from a pod"), cluster);
        a_datagram_between_both_lengths_gets_through(&scene.outside, node[1]);
    }
}

/// One that fits into the client's packets and not into the tunnel's: a router tells the client, whose
/// next one is in fragments.
fn a_datagram_between_both_lengths_gets_through(client: &NetNs, target: SocketAddr) {
    let payload = [b'x'; 1440];
    for _ in 0..6 {
        let asked = (0..3).find_map(|_| client.run(|| udp_ask(target, &payload)).ok());
        assert_eq!(asked.as_deref(), Some(&payload[..]), "{target}");
    }
}
