// SPDX-License-Identifier: Apache-2.0
//! What the planner answers when it is asked about one connection, one address, one policy.

use std::net::IpAddr;

use super::scene::Scene;
use crate::{
    model::{
        addr::Protocol,
        name::ObjectName,
        policy::{Direction, Enforcement, Tier},
    },
    policy::{Judgement, Party, Verdict},
};

fn verdict(scene: &Scene, pod: &str, direction: Direction, peer: &str, port: u16) -> Verdict {
    let (namespace, name) = pod.split_once('/').unwrap();
    let peer: IpAddr = peer.parse().unwrap();
    let port = (port != 0).then_some((Protocol::Tcp, port));
    scene.planner.verdict(&ObjectName::namespaced(namespace, name), direction, peer, port).unwrap()
}

/// What enforced policies say, and what they would say with the audited ones.
fn words(verdict: &Verdict) -> (String, String) {
    match &verdict.judgement {
        Judgement::Explained { enforced, staged } => (enforced.to_string(), staged.to_string()),
        Judgement::Closed(reason) => ("closed".into(), reason.unwrap().to_string()),
    }
}

#[test]
fn a_connection_is_judged_by_the_longest_prefix_of_its_port() {
    let mut scene = Scene::new();
    scene.network("x/p", "ingress: [{ports: [{port: 80, endPort: 89}]}, {ports: [{port: 85}]}]");
    let rule = |port| words(&verdict(&scene, "x/a", Direction::Ingress, "10.0.1.3", port)).0;
    for port in [80, 85, 89] {
        assert_eq!(rule(port), "ingress allowed by NetworkPolicy x/p, rule 0: Accept", "{port}");
    }
    for port in [79, 90, 0] {
        let expected = "ingress denied: no rule allows it, and the pod is isolated by x/p";
        assert_eq!(rule(port), expected, "{port}");
    }
    let free = verdict(&scene, "x/a", Direction::Egress, "10.0.1.3", 80);
    assert_eq!(words(&free).0, "egress allowed: no policy says otherwise");
}

#[test]
fn a_connection_of_a_pod_with_itself_is_told_apart() {
    let mut scene = Scene::new();
    scene.network("x/p", "podSelector: {}");
    let baseline = "ingress: [{action: Deny, from: [{namespaces: {}}]}]";
    scene.cluster("floor", "Baseline 1", baseline);
    let own = verdict(&scene, "x/a", Direction::Ingress, "10.0.1.1", 80);
    assert_eq!(words(&own).0, "ingress allowed: no policy says otherwise");
    let other = verdict(&scene, "x/a", Direction::Ingress, "10.0.1.2", 80);
    assert_ne!(own.ruleset, other.ruleset);
    assert!(words(&other).0.starts_with("ingress denied"));
}

#[test]
fn an_audited_policy_says_what_it_would_do() {
    let mut scene = Scene::with(Enforcement::Audited);
    scene.network("x/p", "podSelector: {}");
    let (enforced, staged) = words(&verdict(&scene, "x/a", Direction::Ingress, "10.0.1.3", 80));
    assert_eq!(enforced, "ingress allowed: no policy says otherwise");
    assert_eq!(staged, "ingress denied: no rule allows it, and the pod is isolated by x/p");
    let policy = &scene.planner.policies()[0];
    assert_eq!(policy.enforcement, Enforcement::Audited, "the node says so of all its policies");
}

#[test]
fn a_closed_pod_says_why() {
    let plenty = usize::MAX;
    let room = crate::policy::Room { ports: plenty, rows: 1, ranges: plenty, peers: plenty };
    let mut scene = Scene::with_room(room);
    scene.network("x/p", "podSelector: {}");
    let closed = words(&verdict(&scene, "x/a", Direction::Ingress, "10.0.1.3", 80));
    assert_eq!(closed.0, "closed");
    assert!(closed.1.contains("rows would be needed, there is room for 1"), "{}", closed.1);
}

#[test]
fn an_address_is_a_node_s_or_a_pod_s_or_nobody_s() {
    let scene = Scene::new();
    let owner = |ip: &str| scene.planner.owner_of(ip.parse().unwrap());
    assert_eq!(owner("172.18.0.3"), Some(Party::Node(ObjectName::cluster("there"))));
    assert_eq!(owner("fd00:2::1"), Some(Party::Pod(ObjectName::namespaced("far", "a"))));
    assert_eq!(owner("192.0.2.1"), None);
    let ips = scene.planner.addresses_of(&ObjectName::namespaced("far", "a")).unwrap();
    assert_eq!(ips, ["10.0.2.1", "fd00:2::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    let remote = ObjectName::namespaced("far", "a");
    let peer = "10.0.1.1".parse().unwrap();
    assert_eq!(scene.planner.verdict(&remote, Direction::Egress, peer, None), None);
}

#[test]
fn a_policy_tells_its_place() {
    let mut scene = Scene::new();
    scene.network("x/p", "podSelector: {}");
    scene.cluster("guard", "Admin 7", "ingress: [{action: Deny, from: [{namespaces: {}}]}]");
    let places: Vec<_> = scene
        .planner
        .policies()
        .iter()
        .map(|one| (one.policy.to_string(), one.tier, one.priority))
        .collect();
    let expected = [
        ("NetworkPolicy x/p".to_owned(), Tier::NetworkPolicy, None),
        ("ClusterNetworkPolicy guard".to_owned(), Tier::Admin, Some(7)),
    ];
    assert_eq!(places, expected);
    let counts = scene.planner.counts();
    assert_eq!((counts.network_policies, counts.cluster_policies, counts.rulesets), (1, 1, 3));
}
