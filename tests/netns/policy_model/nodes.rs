// SPDX-License-Identifier: Apache-2.0
//! Nodes and what shares their network: the own node reaches its pods whatever policies say (P4),
//! other nodes are addresses, pods of the host's network are their node, and a host port is its pod's
//! (P7).

use std::net::{IpAddr, SocketAddr};

use pintle_lab::agent::FastPath;
use pintle_lab::kube_proxy::nft;
use pintle_lab::netns::NetNs;
use pintle_lab::objects::PodObject;
use pintle_lab::topology::{Cni, Family, Node};

use super::in_both_layouts;
use super::nine_pods::{NAMES, NinePods, SERVICE_PORT, cluster_policy, of_namespace, policy};
use super::probe::{Protocol, Target, ask, reaches_both};
use super::server::{PORTS, Servers};
use crate::company::beside_others;

in_both_layouts!(
    the_own_node_reaches_its_pods_and_others_need_a_rule,
    pods_of_the_hosts_network_are_their_node,
    what_a_pod_sends_to_nodes_is_judged_by_their_addresses,
    who_dials_a_host_port_is_judged_by_the_pod_behind_it,
);

#[test]
fn a_service_leads_the_own_node_to_its_pods_with_ptp() {
    let _company = beside_others();
    a_service_leads_the_own_node_to_its_pods(Cni::Ptp, FastPath::Auto);
}

#[test]
fn a_service_leads_the_own_node_to_its_pods_with_a_bridge() {
    let _company = beside_others();
    a_service_leads_the_own_node_to_its_pods(Cni::Bridge, FastPath::Off);
}

const ISOLATED: &str = "podSelector: {}, policyTypes: [Ingress, Egress]";

fn node_ips(node: &Node) -> impl Fn(Family) -> IpAddr {
    |family| node.ip_of(family)
}

/// Which pods a network reaches at their own addresses.
#[track_caller]
fn reached(nine: &NinePods, from: &NetNs) -> Vec<&'static str> {
    let all = NAMES.into_iter();
    all.filter(|name| reaches_both(from, |family| nine.pod(name).ip(family), &PORTS)).collect()
}

/// Those pods of namespace `x` that are on a node, and all others.
fn all_but(hidden: &[&str]) -> Vec<&'static str> {
    NAMES.into_iter().filter(|name| !hidden.contains(name)).collect()
}

fn the_own_node_reaches_its_pods_and_others_need_a_rule(nine: &mut NinePods) {
    assert_eq!(reached(nine, &nine.world.nodes[0]), NAMES);
    nine.set_policies(&[policy("x/p", ISOLATED)]);
    assert_eq!(reached(nine, &nine.world.nodes[0]), all_but(&["x/b"]));
    assert_eq!(reached(nine, &nine.world.nodes[1]), all_but(&["x/a", "x/c"]));
    // No selector of pods means a node.
    let every_pod = "policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}}, \
                     {podSelector: {}}]}]";
    nine.set_policies(&[policy("x/p", every_pod)]);
    assert_eq!(reached(nine, &nine.world.nodes[0]), all_but(&["x/b"]));
    // Over a route without a tunnel the node is seen at its address of the underlay.
    let node_1 = Family::BOTH.map(|family| nine.world.nodes[0].ip_of(family));
    nine.set_policies(&[policy("x/p", &from_addresses(&node_1))]);
    assert_eq!(reached(nine, &nine.world.nodes[0]), NAMES);
    assert_eq!(reached(nine, &nine.world.nodes[1]), all_but(&["x/a", "x/c"]));
    nine.set_policies(&[policy("x/p", "ingress: [{}]")]);
    assert_eq!(reached(nine, &nine.world.nodes[1]), NAMES);
    // Not even the strongest policy keeps a pod's own node out: its probes would fail.
    let deny = "ingress: [{action: Deny, from: [{aPeerOfTheFuture: {}}]}]";
    nine.set_policies(&[
        cluster_policy("deny", "Admin 0", &of_namespace("x"), deny),
        policy("x/p", ISOLATED),
    ]);
    assert_eq!(reached(nine, &nine.world.nodes[0]), all_but(&["x/b"]));
}

/// Ingress from these and nobody else.
fn from_addresses(ips: &[IpAddr]) -> String {
    let block = |ip: &IpAddr| {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        format!("{{ipBlock: {{cidr: \"{ip}/{bits}\"}}}}")
    };
    let blocks: Vec<String> = ips.iter().map(block).collect();
    format!("ingress: [{{from: [{}]}}]", blocks.join(", "))
}

fn a_service_leads_the_own_node_to_its_pods(cni: Cni, fast_path: FastPath) {
    let mut nine = NinePods::new(1, cni, fast_path);
    nine.set_policies(&[policy("x/p", ISOLATED)]);
    let services: Vec<_> = nine.services.iter().zip(NAMES).collect();
    for (service, name) in services {
        for family in Family::BOTH {
            let target = |port| SocketAddr::new(service.ip(family), SERVICE_PORT + port);
            let asked = Protocol::BOTH.map(|protocol| Target::new(protocol, target(80)));
            for outcome in ask(&nine.world.nodes[0], &asked) {
                assert!(outcome.is_answer(), "{name} {family:?}: {outcome:?}");
            }
        }
    }
    // Another pod of the node is no node.
    nine.expect("isolated from pods", |cell| cell.dst_ns() != "x" && cell.src_ns() != "x");
}

fn pods_of_the_hosts_network_are_their_node(nine: &mut NinePods) {
    // Two of namespace `x`, with the labels of others.
    for (node, name) in nine.world.nodes.iter().zip(["host-1", "host-2"]) {
        let ips = Family::BOTH.map(|family| node.ip_of(family));
        let mut object = PodObject::new("x", name, &node.name, &ips);
        object.host_network = true;
        object.labels = super::nine_pods::pairs(&[("pod", "a")]);
        nine.world.objects().put_pod(&object).expect("write the pod");
    }
    let _servers: Vec<Servers> =
        nine.world.nodes.iter().map(|node| Servers::of_node(node).expect("servers")).collect();
    let to_node = |nine: &NinePods, from: &str, node: usize| {
        reaches_both(nine.pod(from), node_ips(&nine.world.nodes[node]), &PORTS)
    };
    nine.set_policies(&[policy("x/p", ISOLATED)]);
    // As a subject it is not isolated: it is dialled, and dials.
    assert!(to_node(nine, "y/a", 0) && to_node(nine, "y/a", 1));
    assert_eq!(reached(nine, &nine.world.nodes[1]), all_but(&["x/a", "x/c"]));
    // As a peer no selector means it: neither who dials `y` nor whom `y` dials.
    let labels = "namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: a}}";
    nine.set_policies(&[policy(
        "y/p",
        &format!(
            "policyTypes: [Ingress, Egress], ingress: [{{from: [{{{labels}}}]}}], egress: [{{to: \
             [{{{labels}}}]}}]"
        ),
    )]);
    assert_eq!(reached(nine, &nine.world.nodes[1]), all_but(&["y/a", "y/c"]));
    assert!(!to_node(nine, "y/a", 0) && !to_node(nine, "y/a", 1) && !to_node(nine, "y/b", 0));
    assert!(to_node(nine, "z/a", 1));
    nine.expect("the pods of these labels are still meant", |cell| {
        (cell.dst_ns() != "y" || cell.from == "x/a") && (cell.src_ns() != "y" || cell.to == "x/a")
    });
}

fn what_a_pod_sends_to_nodes_is_judged_by_their_addresses(nine: &mut NinePods) {
    let _servers: Vec<Servers> =
        nine.world.nodes.iter().map(|node| Servers::of_node(node).expect("servers")).collect();
    nine.world.nodes[0].label(&[("zone", "east")]).expect("labels");
    nine.world.nodes[1].label(&[("zone", "west")]).expect("labels");
    let towards = |nine: &NinePods| {
        [0, 1].map(|node| reaches_both(nine.pod("x/a"), node_ips(&nine.world.nodes[node]), &PORTS))
    };
    assert_eq!(towards(nine), [true; 2]);
    let egress = |peers: &str| {
        [policy("x/p", &format!("policyTypes: [Egress], egress: [{{to: [{peers}]}}]"))]
    };
    nine.set_policies(&egress("{namespaceSelector: {}}"));
    assert_eq!(towards(nine), [false; 2], "the own node, too");
    nine.set_policies(&egress(
        "{ipBlock: {cidr: 192.168.77.2/32}}, {ipBlock: {cidr: \"fd00:77::2/128\"}}",
    ));
    assert_eq!(towards(nine), [false, true]);
    nine.set_policies(&egress(
        "{ipBlock: {cidr: 192.168.77.0/24, except: [192.168.77.2/32]}}, {ipBlock: {cidr: \
         \"fd00:77::/64\", except: [\"fd00:77::2/128\"]}}",
    ));
    assert_eq!(towards(nine), [true, false]);
    let peers = |action: &str, peer: &str| {
        let rules = format!("egress: [{{action: {action}, to: [{{{peer}}}]}}]");
        [cluster_policy("nodes", "Admin 5", &of_namespace("x"), &rules)]
    };
    nine.set_policies(&peers("Deny", "nodes: {matchLabels: {zone: east}}"));
    assert_eq!(towards(nine), [false, true]);
    nine.set_policies(&peers("Deny", "nodes: {}"));
    assert_eq!(towards(nine), [false; 2]);
    nine.expect("pods are no nodes", |_| true);
    nine.set_policies(&peers("Deny", "networks: [192.168.77.2/32, \"fd00:77::2/128\"]"));
    assert_eq!(towards(nine), [true, false]);
    let both = [peers("Accept", "nodes: {matchLabels: {zone: west}}"), egress("{podSelector: {}}")];
    nine.set_policies(both.as_flattened());
    assert_eq!(towards(nine), [false, true]);
    nine.world.nodes[0].label(&[("zone", "west")]).expect("labels");
    nine.settle();
    assert_eq!(towards(nine), [true; 2], "a node with other labels");
}

/// A port of a node that netfilter leads to a pod, as the portmap plugin does for `hostPort`.
const HOST_PORT: u16 = 8080;

fn who_dials_a_host_port_is_judged_by_the_pod_behind_it(nine: &mut NinePods) {
    let outsider = nine.world.add_outsider().expect("a client outside");
    let (node, pod) = (&nine.world.nodes[0], nine.pod("x/a"));
    let [v4, v6] = Family::BOTH.map(|family| (node.ip_of(family), pod.ip(family)));
    let rules = format!(
        "table inet portmap {{ chain hostports {{ type nat hook prerouting priority dstnat;\n\
         ip daddr {} meta l4proto {{ tcp, udp }} th dport {HOST_PORT} dnat ip to {}:{port}\n\
         ip6 daddr {} meta l4proto {{ tcp, udp }} th dport {HOST_PORT} dnat ip6 to [{}]:{port}\n\
         }}\n}}",
        v4.0,
        v4.1,
        v6.0,
        v6.1,
        port = PORTS[0],
    );
    nft(node, &rules).expect("a host port");
    let is_reached =
        |nine: &NinePods| reaches_both(&outsider, node_ips(&nine.world.nodes[0]), &[HOST_PORT]);
    assert!(is_reached(nine), "nobody is isolated");
    nine.set_policies(&[policy("x/p", ISOLATED)]);
    assert!(!is_reached(nine));
    // The node that leads there is not who dials.
    let node = Family::BOTH.map(|family| nine.world.nodes[0].ip_of(family));
    nine.set_policies(&[policy("x/p", &from_addresses(&node))]);
    assert!(!is_reached(nine));
    // Answers need no rule, although nothing else may leave the pod.
    let client = Family::BOTH.map(|family| outsider.ip(family));
    let answers = format!("{}, policyTypes: [Ingress, Egress]", from_addresses(&client));
    nine.set_policies(&[policy("x/p", &answers)]);
    assert!(is_reached(nine));
    nine.set_policies(&[policy("y/p", ISOLATED)]);
    assert!(is_reached(nine), "another pod's policy");
}
