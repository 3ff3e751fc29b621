// SPDX-License-Identifier: Apache-2.0
//! 10,000 pods and 1,000 policies: what a change costs does not depend on the size of the cluster.
//!
//! The times are those of an unoptimized build, which is about ten times slower than what is
//! shipped, on a machine that does other things, too; the bounds only catch what grows with the
//! cluster where it should not.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::world::{HERE, UNLIMITED};
use crate::{
    model::{
        addr::Protocol,
        cidr::Cidr,
        cluster::{Namespace, Node, Pod, PodPhase},
        event::Event,
        name::ObjectName,
        object::Object,
        policy::{
            Action, ClusterNetworkPolicy, ClusterRule, Enforcement, IpBlock, Isolation, Labels,
            NamedPort, Namespaces, NetworkPolicy, Peer, Peers, PortMatch, Ports, Requirement, Rule,
            Selector, Subject, Tier,
        },
    },
    policy::{Changes, Options, Planner},
};

const NAMESPACES: u32 = 100;
const PODS: u32 = 10_000;
const POLICIES: u32 = 1_000;
const PODS_OF_A_NODE: u32 = 110;

fn label(key: &str, value: impl ToString) -> (Arc<str>, Arc<str>) {
    (key.into(), value.to_string().into())
}

fn with(key: &str, value: impl ToString) -> Selector {
    let (key, value) = label(key, value);
    Selector::new([Requirement::In(key, [value].into())])
}

fn namespace_name(number: u32) -> String {
    format!("team-{number}")
}

fn pod(number: u32, app: u32) -> Event {
    let node = number / PODS_OF_A_NODE;
    let ips: [IpAddr; 2] = [
        Ipv4Addr::from_bits(0x0a00_0000 + node * 256 + number % PODS_OF_A_NODE + 1).into(),
        Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(number)).into(),
    ];
    let name = namespace_name(number % NAMESPACES);
    let pod = Pod {
        name: ObjectName::namespaced(&name, &format!("pod-{number}")),
        ips: ips.into(),
        node: Some(if node == 0 { HERE.into() } else { format!("node-{node}").into() }),
        host_network: false,
        phase: PodPhase::Running,
        labels: Labels::new([label("app", app), label("pod", number)]),
        ports: [NamedPort { name: "web".into(), protocol: Protocol::Tcp, number: 8080 }].into(),
        created: Some(i64::from(number)),
        is_terminating: false,
    };
    Event::Apply(Object::Pod(pod.into()))
}

fn namespace(number: u32, tier: u32) -> Event {
    let name = namespace_name(number);
    let labels = Labels::of_namespace(&name, [label("tier", tier)]);
    Event::Apply(Object::Namespace(Namespace { name: ObjectName::cluster(&name), labels }.into()))
}

fn node(number: u32) -> Event {
    let address = |base: u32| IpAddr::from(Ipv4Addr::from_bits(base));
    let node = Node {
        name: ObjectName::cluster(&format!("node-{number}")),
        zone: None,
        internal_ips: [address(0xac12_0000 + number)].into(),
        external_ips: [].into(),
        pod_cidrs: [Cidr::new(address(0x0a00_0000 + number * 256), 24).unwrap()].into(),
        is_leaving: false,
        labels: Labels::default(),
    };
    Event::Apply(Object::Node(node.into()))
}

/// Policies as clusters have them: a namespace is closed, opened to itself, to its ingress
/// controller, to DNS, to the world without the cluster, and each application to another one.
fn policy(number: u32) -> NetworkPolicy {
    let name = namespace_name(number % NAMESPACES);
    let kind = number / NAMESPACES;
    let tcp = |port| {
        Ports::Only([PortMatch::Range { protocol: Protocol::Tcp, first: port, last: port }].into())
    };
    let own = |pods| Peer::Pods { namespaces: Namespaces::Named(name.as_str().into()), pods };
    let of = |key: &str, value: u32| Namespaces::Matching(with(key, value));
    let rule = |peer, ports| [Rule { peers: Peers::Only([peer].into()), ports }];
    let cidr = |text| Cidr::parse(text).unwrap();
    let world = IpBlock::new(cidr("0.0.0.0/0"), [cidr("10.0.0.0/8"), cidr("172.16.0.0/12")]);
    let web = PortMatch::Named { protocol: Some(Protocol::Tcp), name: "web".into() };
    let (subject, ingress, egress) = match kind {
        0 => (Selector::any(), Some(vec![]), None),
        1 => (Selector::any(), Some(rule(own(Selector::any()), Ports::Any).into()), None),
        2 => {
            let peer = Peer::Pods { namespaces: of("tier", number % 5), pods: with("app", 1) };
            (Selector::any(), Some(rule(peer, tcp(8080)).into()), None)
        }
        3 => (Selector::any(), None, Some(rule(Peer::Block(world), Ports::Any).into())),
        4 => {
            let peer = Peer::Pods { namespaces: of("tier", 0), pods: Selector::any() };
            (with("app", 2), None, Some(rule(peer, Ports::Only([web].into())).into()))
        }
        _ => {
            let peer = own(with("app", kind));
            (with("app", kind + 1), Some(rule(peer, tcp(8000 + kind as u16)).into()), None)
        }
    };
    let isolation = |rules: Option<Vec<Rule>>| match rules {
        None => Isolation::None,
        Some(rules) => Isolation::Except(rules.into()),
    };
    NetworkPolicy {
        name: ObjectName::namespaced(&name, &format!("policy-{number}")),
        subject,
        ingress: isolation(ingress),
        egress: isolation(egress),
        enforcement: Enforcement::Enforced,
    }
}

/// Applies to all pods of the node, and asks something new of all pods there are.
fn cluster_policy(number: u32) -> Event {
    let peers = Namespaces::Matching(with("tier", number));
    let rule = ClusterRule {
        name: None,
        action: Action::Deny,
        peers: [Peer::Pods { namespaces: peers, pods: with("app", number) }].into(),
        ports: Ports::Any,
    };
    let policy = ClusterNetworkPolicy {
        name: ObjectName::cluster("guard"),
        tier: Tier::Admin,
        priority: 1,
        subject: Subject { namespaces: Selector::any(), pods: Selector::any() },
        ingress: [rule].into(),
        egress: [].into(),
        enforcement: Enforcement::Enforced,
    };
    Event::Apply(Object::ClusterNetworkPolicy(policy.into()))
}

fn put(policy: NetworkPolicy) -> Event {
    Event::Apply(Object::NetworkPolicy(policy.into()))
}

/// The fastest of some runs, and what the last one changed.
fn timed(mut runs: impl Iterator<Item = Event>, planner: &mut Planner) -> (Duration, Changes) {
    let (mut best, mut changes) = (Duration::MAX, Changes::default());
    for event in runs.by_ref() {
        let start = Instant::now();
        changes = planner.apply([event]);
        best = best.min(start.elapsed());
    }
    (best, changes)
}

#[test]
fn a_change_in_a_large_cluster_costs_little() {
    let mut events: Vec<Event> =
        (0..NAMESPACES).map(|number| namespace(number, number % 5)).collect();
    events.extend((0..=PODS / PODS_OF_A_NODE).map(node));
    events.extend((0..PODS).map(|number| pod(number, number / NAMESPACES % 10)));
    events.extend((0..POLICIES).map(|number| put(policy(number))));
    events.push(Event::Synced);
    let options = Options {
        node: HERE.into(),
        pod_cidrs: [Cidr::parse("fd00::/64").unwrap()].into(),
        enforcement: Enforcement::Enforced,
        room: UNLIMITED,
    };
    let mut planner = Planner::new(options);
    let start = Instant::now();
    planner.apply(events);
    let at_start = start.elapsed();
    let sizes = planner.sizes();
    while !planner.collect().is_empty() {}

    let remote = |number| pod(PODS + number, 3);
    let (added, changes) = timed((0..20).map(remote), &mut planner);
    assert_eq!((changes.peers.len(), changes.rows.len()), (2, 0));
    let (relabelled, _) = timed((0..20).map(|number| pod(number, number % 7)), &mut planner);
    let changed = |number: u32| {
        let mut policy = policy(number);
        let cidr = Cidr::new(Ipv4Addr::from_bits(0xc000_0200 + number).into(), 32).unwrap();
        let peers = Peers::Only([Peer::Block(IpBlock::new(cidr, []))].into());
        policy.ingress = Isolation::Except([Rule { peers, ports: Ports::Any }].into());
        put(policy)
    };
    let (policy, changes) = timed((0..10).map(changed), &mut planner);
    assert!(changes.narrows);
    let (namespace, _) = timed((0..5).map(|number| namespace(number, 7)), &mut planner);
    let (cluster, _) = timed((0..5).map(cluster_policy), &mut planner);
    let start = Instant::now();
    while !planner.collect().is_empty() {}
    let collected = start.elapsed();

    let line = format!(
        "start {at_start:?}, pod {added:?}, label {relabelled:?}, policy {policy:?}, \
         namespace {namespace:?}, cluster policy {cluster:?}, collect {collected:?}; {sizes:?}\n"
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    let ms = Duration::from_millis;
    assert!(at_start < ms(20_000) && added < ms(10) && relabelled < ms(50), "{line}");
    assert!(policy < ms(200) && namespace < ms(500), "{line}");
}
