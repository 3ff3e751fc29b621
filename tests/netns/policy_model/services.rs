// SPDX-License-Identifier: Apache-2.0
//! Policies judge where a service leads, whatever its kind and whoever translates: packets or sockets.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::counter::CONNECT;
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::cgroup::Cgroup;
use pintle_lab::manifest::{Endpoint, Port, Service, slice_yaml};
use pintle_lab::netns::NetNs;
use pintle_lab::topology::{Cni, Family, Outsider};

use super::in_both_layouts;
use super::nine_pods::{NinePods, policy};
use super::probe::{Outcome, Protocol, Target, ask};
use crate::company::beside_others;
use crate::three_nodes::{balancer, external};

in_both_layouts!(
    what_a_pod_dials_is_judged_by_its_backend,
    what_comes_from_outside_is_judged_by_what_the_pod_sees,
);

#[test]
fn sockets_that_are_translated_are_judged_alike() {
    let _company = beside_others();
    let cgroup = Cgroup::new().expect("a cgroup");
    // Sockets of one cgroup are one agent's.
    let mut nine = NinePods::without_agents(1, Cni::Ptp, FastPath::Auto).expect("nine pods");
    nine.agents[0].translate_sockets("all", cgroup.path());
    nine.agents.iter_mut().try_for_each(Agent::start).expect("start");
    let y = "[{namespaceSelector: {matchLabels: {ns: y}}}]";
    cgroup.run(|| {
        nine.check("none", &[], |_| true);
        let to_y = format!("policyTypes: [Egress], egress: [{{to: {y}, ports: [{{port: 80}}]}}]");
        nine.check("egress", &[policy("x/p", &to_y)], |cell| {
            cell.src_ns() != "x" || cell.dst_ns() == "y" && cell.is(Protocol::Tcp, 80)
        });
        let from_y = format!("ingress: [{{from: {y}, ports: [{{port: 81, protocol: UDP}}]}}]");
        nine.check("ingress", &[policy("x/p", &from_y)], |cell| {
            cell.dst_ns() != "x" || cell.src_ns() == "y" && cell.is(Protocol::Udp, 81)
        });
        let services = "policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.96.0.0/16}}, \
                        {ipBlock: {cidr: \"fd00:10:96::/64\"}}]}]";
        nine.check("services", &[policy("x/p", services)], |cell| cell.src_ns() != "x");
    });
    let connects = nine.agents[0].counter_at(CONNECT, "new flows").expect("a counter");
    assert!(connects > 0, "sockets are translated");
}

const NODE_PORT: u16 = 30080;

/// Leads the service of every kind to one pod, and tells where it is to be dialled on node 1: at its
/// cluster, balancer, external and node address.
fn lead_to(nine: &mut NinePods, pod: &str) {
    let port = Port { name: "http", protocol: "TCP", port: 8080, target: 80 };
    let mut service = Service::dual_stack("front", 50, &[port]);
    service.kind = "LoadBalancer";
    service.node_ports = vec![("http", NODE_PORT)];
    let quoted =
        |of: fn(Family) -> IpAddr| Family::BOTH.map(|family| format!("\"{}\"", of(family)));
    let [balancers, externals] = [quoted(balancer), quoted(external)];
    service.extra_spec = format!(
        "  externalIPs: [{}]\nstatus:\n  loadBalancer:\n    ingress: [{{ip: {}}}, {{ip: {}}}]\n",
        externals.join(", "),
        balancers[0],
        balancers[1]
    );
    let endpoint = Endpoint::ready(nine.pod(pod));
    let slices =
        Family::BOTH.map(|family| slice_yaml(&service, std::slice::from_ref(&endpoint), family));
    let text = [service.yaml(), slices.join("---\n")].join("---\n");
    nine.world.objects().put("front.yaml", &text).expect("write the service");
    nine.settle();
}

/// Which ways into the service are answered, in the order of [`WAYS`]; the families agree.
fn open(nine: &NinePods, from: &NetNs) -> Vec<&'static str> {
    let [v4, v6] = Family::BOTH.map(|family| {
        let cluster = Service::dual_stack("front", 50, &[]).ip(family);
        let node = nine.world.nodes[0].ip_of(family);
        let targets = [
            SocketAddr::new(cluster, 8080),
            SocketAddr::new(balancer(family), 8080),
            SocketAddr::new(external(family), 8080),
            SocketAddr::new(node, NODE_PORT),
        ];
        let outcomes = ask(from, &targets.map(|target| Target::new(Protocol::Tcp, target)));
        let ways = WAYS.into_iter().zip(&outcomes);
        ways.filter(|(_, outcome)| Outcome::is_answer(outcome))
            .map(|(way, _)| way)
            .collect::<Vec<_>>()
    });
    assert_eq!(v4, v6, "the families differ");
    v4
}

const WAYS: [&str; 4] = ["cluster", "balancer", "external", "node port"];
const NONE: [&str; 0] = [];

fn what_a_pod_dials_is_judged_by_its_backend(nine: &mut NinePods) {
    let egress = |rule: &str| [policy("x/p", &format!("policyTypes: [Egress], egress: [{rule}]"))];
    for backend in ["y/a", "y/b"] {
        nine.set_policies(&[]);
        lead_to(nine, backend);
        assert_eq!(open(nine, nine.pod("x/a")), WAYS, "{backend}");
        nine.set_policies(&egress("{to: [{namespaceSelector: {matchLabels: {ns: y}}}]}"));
        assert_eq!(open(nine, nine.pod("x/a")), WAYS, "{backend}: the pod behind it");
        nine.set_policies(&egress("{ports: [{port: 80}]}"));
        assert_eq!(open(nine, nine.pod("x/a")), WAYS, "{backend}: the port of that");
        nine.set_policies(&egress("{ports: [{port: 8080}, {port: 30080}]}"));
        assert_eq!(open(nine, nine.pod("x/a")), NONE, "{backend}: the port of the service");
        let blocks = ["10.96.0.0/16", "203.0.113.0/24", "192.168.77.0/24"]
            .into_iter()
            .chain(["fd00:10:96::/64", "fd00:203::/64", "fd00:77::/64"])
            .map(|block| format!("{{ipBlock: {{cidr: \"{block}\"}}}}"));
        let blocks: Vec<String> = blocks.collect();
        nine.set_policies(&egress(&format!("{{to: [{}]}}", blocks.join(", "))));
        assert_eq!(open(nine, nine.pod("x/a")), NONE, "{backend}: the addresses of the service");
        nine.set_policies(&egress("{to: [{podSelector: {}}]}"));
        assert_eq!(open(nine, nine.pod("x/a")), NONE, "{backend}: other pods");
    }
}

fn what_comes_from_outside_is_judged_by_what_the_pod_sees(nine: &mut NinePods) {
    let outside: Outsider = nine.world.add_outsider().expect("a client outside");
    let ingress = |peers: &str| [policy("y/p", &format!("ingress: [{{from: [{peers}]}}]"))];
    let from_x = "{namespaceSelector: {matchLabels: {ns: x}}}";
    let from_outside = "{ipBlock: {cidr: 198.51.100.0/24}}, {ipBlock: {cidr: \"fd00:51::/64\"}}";
    let from_node_1 = "{ipBlock: {cidr: 192.168.77.1/32}}, {ipBlock: {cidr: \"fd00:77::1/128\"}}";
    let from_pods = "{namespaceSelector: {}}";

    // Where the backend is on the node that is dialled, it sees the client.
    lead_to(nine, "y/a");
    assert_eq!(open(nine, &outside), WAYS);
    for (peers, expected) in
        [(from_outside, &WAYS[..]), (from_pods, &NONE), (from_node_1, &NONE), (from_x, &NONE)]
    {
        nine.set_policies(&ingress(peers));
        assert_eq!(open(nine, &outside), expected, "{peers} to the pod here");
    }
    nine.set_policies(&ingress(from_x));
    assert_eq!(open(nine, nine.pod("x/a")), WAYS, "a pod of the node");
    assert_eq!(open(nine, nine.pod("z/a")), NONE, "another pod of the node");

    // Elsewhere it sees the node that was dialled, which is a block of addresses and nothing else.
    nine.set_policies(&[]);
    lead_to(nine, "y/b");
    assert_eq!(open(nine, &outside), WAYS);
    for (peers, expected) in
        [(from_node_1, &WAYS[..]), (from_pods, &NONE), (from_outside, &NONE), (from_x, &NONE)]
    {
        nine.set_policies(&ingress(peers));
        assert_eq!(open(nine, &outside), expected, "{peers} to the pod there");
    }
    // A pod of the dialled node is masqueraded, too, unless all packets go through the stack.
    let (as_itself, as_the_node) = match nine.fast_path {
        FastPath::Auto => (&WAYS[..1], &WAYS[1..]),
        FastPath::Off => (&WAYS[..], &NONE[..]),
    };
    nine.set_policies(&ingress(from_x));
    assert_eq!(open(nine, nine.pod("x/a")), as_itself);
    nine.set_policies(&ingress(from_node_1));
    assert_eq!(open(nine, nine.pod("x/a")), as_the_node);
}
