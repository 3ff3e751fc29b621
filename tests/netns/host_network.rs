// SPDX-License-Identifier: Apache-2.0
//! Endpoints that are nodes themselves (hostNetwork), and node ports at the node's loopback addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pintle_lab::agent::FastPath;
use pintle_lab::cgroup::Cgroup;
use pintle_lab::client::{DEADLINE, echo_transfer, http_get, udp_get_within};
use pintle_lab::manifest::{Condition, Endpoint};
use pintle_lab::netns::NetNs;
use pintle_lab::server::Server;
use pintle_lab::topology::{Cni, Family, Node};

use crate::scene::{HTTP, in_two_layouts};
use crate::three_nodes::{ECHO_NODE_PORT, NODE_PORT, Policy, ThreeNodes, WHO};

/// Who answers over TCP and over UDP, and whom they see.
fn seen(client: &NetNs, target: SocketAddr) -> BTreeSet<(String, IpAddr)> {
    let ask = |n: usize| {
        let answer = match n % 2 {
            0 => client.run(|| http_get(target)),
            _ => client.run(|| udp_get_within(target, DEADLINE)),
        };
        answer.unwrap_or_else(|error| panic!("{target}, request {n}: {error}"))
    };
    (0..60).map(ask).map(|answer| (answer.pod, answer.peer.ip())).collect()
}

fn pairs(expected: &[(&str, IpAddr)]) -> BTreeSet<(String, IpAddr)> {
    expected.iter().map(|(name, ip)| ((*name).to_owned(), *ip)).collect()
}

in_two_layouts!(a_node_is_an_endpoint_like_any_other);

fn a_node_is_an_endpoint_like_any_other(cni: Cni, fast_path: FastPath) {
    let mut scene = ThreeNodes::on(ThreeNodes::world(cni), fast_path, |_| {});
    let servers = |node: &Node| {
        let http = Server::http(node, HTTP.target).expect("an HTTP server");
        let who = Family::BOTH.map(|family| {
            let address = SocketAddr::new(node.ip_of(family), WHO.target);
            Server::udp_who_at(node, address).expect("a UDP server")
        });
        (http, who)
    };
    let _servers: Vec<_> = scene.world.nodes[..2].iter().map(servers).collect();
    let endpoint = |node: &Node| Endpoint {
        ips: Family::BOTH.map(|family| node.ip_of(family)),
        node: node.name.clone(),
        condition: Condition::Ready,
    };
    let endpoints: Vec<_> = scene.world.nodes[..2].iter().map(endpoint).collect();
    scene.set([Policy::Cluster; 2], &endpoints);
    for family in Family::BOTH {
        let own = scene.world.nodes[0].ip_of(family);
        let (pod, outside) = (scene.clients[0].ip(family), scene.outside.ip(family));
        let (cluster, node) = (scene.cluster(family, HTTP.port), scene.node(family, NODE_PORT));
        let same = |client: IpAddr| pairs(&[("node-1", client), ("node-2", client)]);
        let apart = |client: IpAddr| pairs(&[("node-1", client), ("node-2", own)]);
        assert_eq!(seen(&scene.clients[0], cluster), same(pod), "a pod, ClusterIP");
        // Through the stack a pod keeps its address, see "Traffic policies" in ARCHITECTURE.md.
        let through_node = if fast_path == FastPath::Auto { apart(pod) } else { same(pod) };
        assert_eq!(seen(&scene.clients[0], node), through_node, "a pod, node port");
        assert_eq!(seen(&scene.world.nodes[0], cluster), same(own), "the host, ClusterIP");
        assert_eq!(seen(&scene.world.nodes[0], node), same(own), "the host, node port");
        assert_eq!(seen(&scene.outside, node), apart(outside), "from outside");
    }
}

mod loopback {

    use super::node_ports_answer_the_host_at_its_loopback_addresses as check;
    use crate::scene::in_two_layouts;
    use pintle_lab::agent::FastPath;
    use pintle_lab::topology::Cni;

    in_two_layouts!(check);
}

/// Once packet by packet, once by a socket that is translated when it dials.
fn node_ports_answer_the_host_at_its_loopback_addresses(cni: Cni, fast_path: FastPath) {
    let cgroup = Cgroup::new().expect("a cgroup");
    let scene = ThreeNodes::on(ThreeNodes::world(cni), fast_path, |agents| {
        agents[0].translate_sockets("host", cgroup.path());
    });
    let host = &scene.world.nodes[0];
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
        let target = SocketAddr::new(ip, NODE_PORT);
        let check = |what: &str| {
            let answers = seen(host, target);
            let pods: BTreeSet<_> = answers.iter().map(|(pod, _)| pod.as_str()).collect();
            assert_eq!(pods, ["web-1", "web-2", "web-3"].into(), "{target}, {what}");
            assert!(answers.iter().all(|(_, client)| !client.is_loopback()), "{answers:?}");
            let echo = SocketAddr::new(ip, ECHO_NODE_PORT);
            for _ in 0..4 {
                let whole = host.run(|| echo_transfer(echo, 1 << 20));
                assert!(whole.unwrap_or_else(|error| panic!("{echo}, {what}: {error}")));
            }
        };
        check("packet by packet");
        cgroup.run(|| check("by the socket"));
        let pod = scene.clients[0].run(|| http_get(target));
        assert!(pod.is_err(), "a pod's loopback is its own");
    }
}
