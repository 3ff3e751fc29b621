// SPDX-License-Identifier: Apache-2.0
//! Single facts: what is closed, what stays, and whose an interface is.

use std::net::IpAddr;

use super::{
    failure::{Failure, Subject},
    fake::FakeTables,
    reconciler::ROWS_AT_A_TIME,
    tables::{EndpointRecord, PolicyMap},
    world::{Node, PAUSE, index_of, never_open, whole},
};
use crate::{
    model::{
        cluster::{Pod, PodPhase},
        event::Event,
        ip::Family,
        name::{Kind, ObjectName, ObjectRef},
        object::Object,
        policy::{
            Enforcement, IpBlock, Isolation, Labels, Namespaces, NetworkPolicy, Peer, Peers, Ports,
            Requirement, Rule, Selector,
        },
    },
    node::IfIndex,
    policy::{ClassId, Row, RulesetId, tests::world::HERE},
};

fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectName::namespaced(namespace, name)
}

fn pod(text: &str, app: &str, ip: &str) -> Event {
    let pod = Pod {
        name: name(text),
        ips: [ip.parse().unwrap()].into(),
        node: Some(HERE.into()),
        host_network: false,
        phase: PodPhase::Running,
        labels: Labels::new([("app".into(), app.into())]),
        ports: [].into(),
        created: Some(0),
        is_terminating: false,
    };
    Event::Apply(Object::Pod(pod.into()))
}

fn app(value: &str) -> Selector {
    Selector::new([Requirement::In("app".into(), [value.into()].into())])
}

fn from_app(value: &str) -> Peer {
    Peer::Pods { namespaces: Namespaces::Named("x".into()), pods: app(value) }
}

fn from_block(cidr: &str, except: &[&str]) -> Peer {
    let parse = |text: &str| crate::model::cidr::Cidr::parse(text).unwrap();
    Peer::Block(IpBlock::new(parse(cidr), except.iter().map(|hole| parse(hole))))
}

/// Pods of namespace `x` with a label let in these.
fn policy(text: &str, of: &str, from: Peer) -> Event {
    let rule = Rule { peers: Peers::Only([from].into()), ports: Ports::Any };
    let policy = NetworkPolicy {
        name: name(text),
        subject: app(of),
        ingress: Isolation::Except([rule].into()),
        egress: Isolation::None,
        enforcement: Enforcement::Enforced,
    };
    Event::Apply(Object::NetworkPolicy(policy.into()))
}

fn gone(kind: Kind, text: &str) -> Event {
    Event::Delete(ObjectRef::new(kind, name(text)))
}

/// `x/a` lets in pods with `app: b`, of which `x/b` is one; `x/c` is not, and has no policy.
fn node() -> Node {
    let events = vec![
        pod("x/a", "a", "10.0.1.1"),
        pod("x/b", "b", "10.0.1.2"),
        pod("x/c", "c", "10.0.1.3"),
        policy("x/p", "a", from_app("b")),
        Event::Synced,
    ];
    Node::new(events, FakeTables::new())
}

fn ingress(node: &Node, pod: &str) -> Option<RulesetId> {
    let record = node.reconciler.tables().endpoints.get(&index_of(&name(pod)));
    record.map(|record| record.rulesets[1])
}

#[track_caller]
fn reaches(node: &Node, from: &str, to: &str) -> bool {
    let peer: IpAddr = from.parse().unwrap();
    let verdicts = node.reconciler.tables().verdicts();
    let direction = crate::model::policy::Direction::Ingress;
    verdicts[&(index_of(&name(to)), direction, peer)] != 0
}

#[test]
fn a_peer_that_must_not_be_one_any_more_is_none_even_if_its_class_cannot_be_written() {
    let mut node = node();
    assert!(reaches(&node, "10.0.1.2", "x/a") && !reaches(&node, "10.0.1.3", "x/a"));
    let named = pod("x/b", "c", "10.0.1.2");
    node.tables().faults.broken.push(PolicyMap::Peers(Family::V4).name());
    node.apply(named, never_open);
    assert_eq!(ingress(&node, "x/a"), Some(RulesetId::CLOSED), "what it was is too much");
    assert_eq!(node.reconciler.closed().len(), 1);
    assert!(!reaches(&node, "10.0.1.2", "x/a"));
    node.tables().faults.broken.clear();
    node.settle();
    assert_ne!(ingress(&node, "x/a"), Some(RulesetId::CLOSED));
    node.collect();
    node.assert_exact();
}

#[test]
fn an_address_that_cannot_have_its_class_falls_back_to_its_range() {
    let mut node = node();
    node.apply(policy("x/q", "c", from_app("d")), never_open);
    node.collect();
    let used = node.tables().used(PolicyMap::Rows);
    node.tables().capacities.insert(PolicyMap::Rows, used);
    node.apply(pod("x/b", "d", "10.0.1.2"), never_open);
    let moved: IpAddr = "10.0.1.2".parse().unwrap();
    assert!(!node.tables().peers.contains_key(&moved), "there is no room for its class");
    assert!(!reaches(&node, "10.0.1.2", "x/a"), "as what it was it could do too much");
    assert_ne!(ingress(&node, "x/a"), Some(RulesetId::CLOSED), "nobody else is affected");
    node.tables().capacities.clear();
    node.settle();
    assert!(reaches(&node, "10.0.1.2", "x/c"));
    node.collect();
    node.assert_exact();
}

#[test]
fn holes_that_cannot_be_written_close_who_would_let_them_in() {
    let mut node = node();
    node.apply(policy("x/q", "c", from_block("10.0.0.0/8", &[])), never_open);
    node.collect();
    assert!(reaches(&node, "10.0.2.99", "x/c"));
    node.tables().faults.broken.push(PolicyMap::Ranges(Family::V4).name());
    node.apply(policy("x/q", "c", from_block("10.0.0.0/8", &["10.0.2.0/24"])), never_open);
    assert!(!reaches(&node, "10.0.2.99", "x/c"));
    assert!(reaches(&node, "10.0.1.2", "x/a"), "who asks for no block stays");
    node.tables().faults.broken.clear();
    node.settle();
    assert!(!reaches(&node, "10.0.2.99", "x/c") && reaches(&node, "10.0.1.99", "x/c"));
    node.collect();
    node.assert_exact();
}

#[test]
fn a_ruleset_that_does_not_fit_closes_its_pods_and_no_others() {
    let mut node = node();
    let used = node.tables().used(PolicyMap::Rows);
    node.tables().capacities.insert(PolicyMap::Rows, used + 1);
    node.apply(policy("x/q", "c", from_app("b")), never_open);
    assert_eq!(ingress(&node, "x/c"), Some(RulesetId::CLOSED));
    assert!(reaches(&node, "10.0.1.2", "x/a"));
    let failures: Vec<_> = node.reconciler.failures().collect();
    let is_full = |failure: &Failure| matches!(failure, Failure::Full { map: PolicyMap::Rows, .. });
    assert!(
        failures.iter().any(|(subject, failure)| {
            matches!(subject, Subject::Ruleset(_)) && is_full(failure)
        }),
        "{failures:?}"
    );
    node.apply(gone(Kind::NetworkPolicy, "x/q"), never_open);
    assert_eq!(ingress(&node, "x/c"), Some(RulesetId::OPEN));
    node.collect();
    node.assert_exact();
}

#[test]
fn a_pod_without_room_stays_unknown_until_there_is() {
    let mut node = node();
    node.tables().capacities.insert(PolicyMap::Endpoints, 3);
    node.apply(pod("x/d", "d", "10.0.2.1"), never_open);
    assert_eq!(ingress(&node, "x/d"), None);
    node.apply(gone(Kind::Pod, "x/c"), never_open);
    node.settle();
    assert_eq!(ingress(&node, "x/d"), Some(RulesetId::OPEN));
    node.collect();
    node.assert_exact();
}

#[test]
fn the_epoch_goes_on_from_where_an_earlier_agent_left_it() {
    let mut node = node();
    let first = node.reconciler.epoch();
    assert!(first > 7, "everything is judged again when an agent begins");
    node.restart(&[], whole);
    assert_eq!(node.reconciler.epoch(), first + 1);
    node.apply(pod("x/b", "c", "10.0.1.2"), never_open);
    assert_eq!(node.reconciler.epoch(), first + 2, "less is allowed");
    node.apply(pod("x/b", "b", "10.0.1.2"), never_open);
    assert_eq!(node.reconciler.epoch(), first + 2, "more is");
}

#[test]
fn an_epoch_that_cannot_be_written_is_due() {
    let mut node = node();
    let before = node.reconciler.epoch();
    node.tables().faults.broken.push("SETTINGS");
    node.apply(pod("x/b", "c", "10.0.1.2"), never_open);
    assert!(node.tables().is_narrowed() && !node.reconciler.is_settled());
    node.tables().faults.broken.clear();
    node.settle();
    assert_eq!(node.reconciler.epoch(), before + 1);
}

#[test]
fn a_ruleset_that_an_earlier_version_had_understood_otherwise_is_closed_while_it_changes() {
    let mut node = node();
    let wanted = node.tables().rows.clone();
    for row in node.tables().rows.values_mut() {
        row.allow = [u64::MAX; 4];
    }
    node.restart(&[], never_open);
    assert_eq!(ingress(&node, "x/a"), Some(RulesetId::CLOSED), "nothing changes under a reader");
    node.tables().sleep(PAUSE);
    let now = node.now();
    node.reconciler.retry(now);
    assert_eq!(node.reconciler.tables().rows, wanted);
    assert!(reaches(&node, "10.0.1.2", "x/a") && !reaches(&node, "10.0.1.3", "x/a"));
}

#[test]
fn rows_that_are_left_over_go_in_turns() {
    let mut node = node();
    let wanted = node.tables().rows.clone();
    let classes = (0..2 * ROWS_AT_A_TIME as u32).map(ClassId);
    let foreign = RulesetId(0x5eed);
    node.tables().rows.extend(classes.map(|class| ((foreign, class), Row::default())));
    node.restart(&[], whole);
    let now = node.now();
    assert_eq!(node.tables().rows.len(), wanted.len() + ROWS_AT_A_TIME);
    assert_eq!(node.reconciler.due(now), Some(now));
    node.reconciler.retry(now);
    assert_eq!(node.tables().rows, wanted);
    assert_eq!(node.reconciler.due(now), None);
}

#[test]
fn a_silent_pod_keeps_its_interface_also_through_a_restart() {
    let mut node = node();
    let before = node.tables().endpoints.clone();
    node.network.forget_ways();
    let now = node.now();
    node.reconciler.follow(&node.network, now);
    assert_eq!(node.tables().endpoints, before);
    node.restart_without_ways();
    assert_eq!(node.tables().endpoints, before);
    assert_eq!(node.reconciler.unresolved().count(), 3, "somebody should ask");
}

#[test]
fn an_interface_that_is_gone_is_forgotten_at_once() {
    let mut node = node();
    node.network.clear();
    let now = node.now();
    node.reconciler.follow(&node.network, now);
    assert!(node.tables().endpoints.is_empty());
    assert_eq!(node.reconciler.unbound().count(), 3);
}

#[test]
fn an_interface_with_a_known_number_and_another_name_is_not_the_pod_s() {
    let mut node = node();
    let index = index_of(&name("x/a"));
    node.network.forget_ways();
    node.network.rename(index, "other");
    let now = node.now();
    node.reconciler.follow(&node.network, now);
    assert!(!node.tables().endpoints.contains_key(&index));
}

#[test]
fn an_interface_that_a_pod_has_is_not_given_to_another_that_seems_to_be_there() {
    let mut node = node();
    let (a, b) = (index_of(&name("x/a")), index_of(&name("x/b")));
    let before = node.tables().endpoints.clone();
    node.network.lead("10.0.1.2", a);
    let now = node.now();
    node.reconciler.follow(&node.network, now);
    assert_eq!(node.tables().endpoints, before);
    assert_eq!(node.reconciler.endpoint_at(a).unwrap().0, &name("x/a"));
    assert_eq!(node.reconciler.endpoint_at(b).unwrap().0, &name("x/b"));
}

#[test]
fn nothing_is_written_before_the_whole_state_is_known() {
    let mut tables = FakeTables::new();
    let record = EndpointRecord { v4: None, v6: None, rulesets: [RulesetId::CLOSED; 4] };
    tables.endpoints.insert(IfIndex(11), record);
    let realized = tables.realized();
    let mut reconciler = super::PolicyReconciler::new(tables, realized);
    let mut network = super::world::Network::default();
    network.rename(IfIndex(11), "there");
    let now = reconciler.tables().now;
    reconciler.follow(&network, now);
    reconciler.retry(now);
    assert_eq!(reconciler.tables().faults.writes, 0);
    reconciler.forget_endpoints(now);
    assert!(reconciler.tables().endpoints.is_empty());
}

#[test]
fn churn_leaves_nothing_behind() {
    let mut node = node();
    for round in 0..20 {
        node.apply(pod("x/d", &format!("app-{round}"), "10.0.2.1"), never_open);
        node.apply(policy("x/q", &format!("app-{round}"), from_app("b")), never_open);
        node.apply(gone(Kind::Pod, "x/d"), never_open);
        node.apply(gone(Kind::NetworkPolicy, "x/q"), never_open);
    }
    node.collect();
    node.assert_exact();
    assert_eq!(node.tables().used(PolicyMap::Endpoints), 3);
}
