// SPDX-License-Identifier: Apache-2.0
//! What the compiled form promises beside its verdicts: sharing, order, closing, audit, names.

use super::{
    evaluator::{Wanted, Way},
    programs::port_class,
    scene::Scene,
    world::UNLIMITED,
};
use crate::{
    model::{
        addr::Protocol,
        name::{Kind, ObjectName},
        policy::{Direction, Enforcement},
    },
    policy::{Changes, Reading, Room, RulesetId, Tables},
    source::convert::DocumentKind,
};

fn ruleset(scene: &Scene, pod: &str) -> RulesetId {
    let (namespace, name) = pod.split_once('/').unwrap();
    scene.tables.endpoints[&ObjectName::namespaced(namespace, name)].ingress
}

#[test]
fn pods_to_which_the_same_applies_share_a_ruleset() {
    let mut scene = Scene::new();
    scene.network("x/p", "ingress: [{from: [{podSelector: {}}]}]");
    assert_eq!(ruleset(&scene, "x/a"), ruleset(&scene, "x/b"));
    assert_eq!(ruleset(&scene, "y/a"), RulesetId::OPEN);
    scene.network("x/q", "podSelector: {matchLabels: {app: b}}, ingress: [{ports: [{port: 1}]}]");
    assert_ne!(ruleset(&scene, "x/a"), ruleset(&scene, "x/b"));
}

#[test]
fn ids_come_from_content() {
    let build = |order: [usize; 2]| {
        let mut scene = Scene::new();
        let policies = [
            ("x/p", "ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]"),
            ("y/p", "ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]"),
        ];
        for (name, spec) in order.map(|index| policies[index]) {
            scene.network(name, spec);
        }
        scene.tables
    };
    assert_eq!(build([0, 1]), build([1, 0]));
}

#[test]
fn only_rulesets_of_this_node_s_pods_are_made() {
    let mut scene = Scene::new();
    let changes =
        scene.network("far/p", "ingress: [{from: [{podSelector: {matchLabels: {a: b}}}]}]");
    assert_eq!(changes, Changes::default());
}

#[test]
fn a_pod_of_a_known_class_costs_one_entry_for_each_address() {
    let mut scene = Scene::new();
    scene.network("x/p", "ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]");
    let changes = scene.pod("y/c", "app: new", "10.0.2.7 fd00:2::7", "", "");
    assert_eq!((changes.peers.len(), changes.rows.len(), changes.ports.len()), (2, 0, 0));
}

#[test]
fn what_nothing_needs_is_given_up_later() {
    let mut scene = Scene::new();
    scene
        .network("x/p", "ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 1}]}]");
    let gone = scene.delete(Kind::NetworkPolicy, "x/p");
    assert!(gone.gone_rows.is_empty() && gone.gone_ports.is_empty());
    assert!(!scene.tables.rows.is_empty());
    let first = scene.planner.collect();
    assert!(!first.gone_rows.is_empty() && first.gone_ports.len() == 1);
    scene.tables.write(&first, Tables::assert_whole);
    assert_eq!(scene.tables.ranges.len(), 3, "the block's range is gone, those of pods stay");
    while let changes = scene.planner.collect()
        && !changes.is_empty()
    {
        scene.tables.write(&changes, Tables::assert_whole);
    }
    assert!(scene.tables.rows.is_empty() && scene.tables.ports.is_empty());
}

#[test]
fn many_ports_with_the_same_peers_are_one_class() {
    let mut scene = Scene::new();
    let rules: Vec<String> =
        (1..1000).map(|n| format!("{{ports: [{{port: {}}}]}}", n * 2)).collect();
    scene.network("x/p", &format!("ingress: [{}]", rules.join(", ")));
    assert_eq!(scene.planner.problems(), []);
    assert_ne!(ruleset(&scene, "x/a"), RulesetId::CLOSED);
    scene.expect("y/a > x/a tcp/2 !tcp/3 tcp/1998 !tcp/1999 !tcp/2000 !udp/2");
}

fn many_kinds_of_ports(count: usize) -> String {
    let rules: Vec<String> = (1..=count)
        .map(|n| {
            let peer = format!("{{ipBlock: {{cidr: 192.{}.{}.0/24}}}}", n / 256, n % 256);
            format!("{{from: [{peer}], ports: [{{port: {n}}}]}}")
        })
        .collect();
    format!("podSelector: {{matchLabels: {{app: a}}}}, ingress: [{}]", rules.join(", "))
}

#[test]
fn a_ruleset_has_room_for_256_kinds_of_ports() {
    let mut scene = Scene::new();
    // Port class 0 is what no item names.
    scene.network("x/p", &many_kinds_of_ports(255));
    assert_eq!(scene.planner.problems(), []);
    scene.expect("192.0.255.1 > x/a tcp/255 !tcp/254\n 192.0.1.1 > x/a tcp/1 !tcp/2 !tcp/256");
}

#[test]
fn a_ruleset_with_too_many_kinds_of_ports_is_closed_and_says_so() {
    let mut scene = Scene::new();
    scene.network("x/p", "ingress: [{}]");
    scene.expect("y/a > x/a tcp/80\n y/a > x/b tcp/80");
    let changes = scene.network("x/q", &many_kinds_of_ports(256));
    assert!(changes.narrows);
    assert_eq!(ruleset(&scene, "x/a"), RulesetId::CLOSED);
    assert_ne!(ruleset(&scene, "x/b"), RulesetId::CLOSED, "others are as they were");
    let problems = scene.planner.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "ingress of Pod x/a is closed: its policies tell 257 kinds of ports apart, there is room \
         for 256"
    );
    assert_eq!(scene.planner.policies().len(), 2);
    scene.network("x/q", &many_kinds_of_ports(255));
    assert_eq!(scene.planner.problems(), []);
    assert_ne!(ruleset(&scene, "x/a"), RulesetId::CLOSED);
    scene.network("x/q", &many_kinds_of_ports(256));
    scene.delete(Kind::Pod, "x/a");
    assert_eq!(scene.planner.problems(), []);
}

#[test]
fn what_does_not_fit_in_is_closed_and_what_is_there_stays() {
    // Two classes, for no predicate tells anybody apart: addresses for pods, and all others.
    let mut scene = Scene::with_room(Room { rows: 4, ..UNLIMITED });
    scene.network("x/p", "podSelector: {matchLabels: {app: a}}");
    assert_ne!(ruleset(&scene, "x/a"), RulesetId::CLOSED);
    let (before, rows) = (ruleset(&scene, "x/a"), scene.tables.rows.clone());
    let changes = scene.network("y/p", "podSelector: {}, ingress: [{ports: [{port: 1}]}]");
    let next = scene.network("far/p", "podSelector: {}");
    assert!(changes.narrows && next.is_empty());
    scene.network("x/q", "podSelector: {matchLabels: {app: b}}");
    let closed: Vec<_> = ["x/a", "x/b", "y/a"]
        .into_iter()
        .filter(|pod| ruleset(&scene, pod) == RulesetId::CLOSED)
        .collect();
    assert_eq!(closed, ["x/b"]);
    assert!(scene.planner.problems()[0].to_string().contains("rows would be needed"));
    assert_eq!(ruleset(&scene, "x/a"), before);
    assert!(rows.iter().all(|(key, row)| scene.tables.rows.get(key) == Some(row)));

    // Room is made, and it is tried again without being asked.
    scene.delete(Kind::NetworkPolicy, "x/p");
    while let changes = scene.planner.collect()
        && !changes.is_empty()
    {
        scene.tables.write(&changes, Tables::assert_whole);
    }
    assert_eq!(scene.planner.problems(), []);
    assert_ne!(ruleset(&scene, "x/b"), RulesetId::CLOSED);
    scene.expect("y/a > x/b !tcp/80");
}

#[test]
fn a_new_meaning_of_a_name_is_there_before_the_pod_that_brings_it() {
    let mut scene = Scene::new();
    scene.network("x/p", "policyTypes: [Egress]");
    let named = "protocols: [{destinationNamedPort: new}]";
    let c = "{namespaceSelector: {}, podSelector: {matchLabels: {app: c}}}";
    scene.cluster(
        "p",
        "Admin 1",
        &format!(
            "egress: [{{action: Deny, to: [{{namespaces: {{}}}}], {named}}}, \
             {{action: Accept, to: [{{pods: {c}}}]}}]"
        ),
    );
    let mut tables = scene.tables.clone();
    let ports = "ports: [{name: new, containerPort: 9}]";
    let changes = scene.pod("y/c", "app: c", "10.0.1.77", ports, "");
    scene.expect("x/a > y/c !tcp/9 tcp/10");
    let name = ObjectName::namespaced("x", "a");
    let wanted = Wanted::Port(Protocol::Tcp, 9);
    tables.write(&changes, |tables| {
        let ruleset = tables.ruleset(&name, Direction::Egress, Way::Direct);
        let port_class = port_class(&tables.port_classes(ruleset), wanted);
        let class = tables.class("10.0.1.77".parse().unwrap());
        assert!(!tables.look(ruleset, class, port_class, Reading::Enforced).is_allowed);
    });
}

#[test]
fn the_epoch_moves_only_where_something_may_be_denied_now() {
    let mut scene = Scene::new();
    assert!(scene.network("x/p", "podSelector: {}").narrows, "pods were open");
    let wider = "ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]";
    // A ruleset in another's place may be wider; that is not looked into.
    assert!(scene.network("x/p", wider).narrows);
    assert!(!scene.pod("far/c", "app: b", "10.0.2.9", "", "").narrows, "of no consequence");
    assert!(scene.pod("x/b", "app: c", "10.0.1.2 fd00:1::2", "", "").narrows, "was allowed");
    assert!(!scene.delete(Kind::NetworkPolicy, "x/p").narrows, "everything is open");
}

#[test]
fn an_audited_policy_drops_nothing_and_tells_what_it_would() {
    let mut scene = Scene::new();
    let audited = |spec: &str| {
        format!(
            "metadata: {{name: p, namespace: x, annotations: {{pintle.dev/audit: 'true'}}}}\n\
             spec: {{{spec}}}"
        )
    };
    let kind = DocumentKind::NetworkPolicy;
    scene.put(kind, &audited("ingress: [{from: [{podSelector: {}}]}]"));
    scene.expect("y/a > x/a tcp/80\n x/b > x/a tcp/80");
    let (a, other) = ("10.0.1.1".parse().unwrap(), "10.0.1.3".parse().unwrap());
    let staged = |scene: &Scene, peer| {
        scene.side(a, Direction::Ingress, peer, "tcp/80", Reading::Staged).unwrap()
    };
    assert!(!staged(&scene, other) && staged(&scene, "10.0.1.2".parse().unwrap()));
    // Beside one that decides, the audited one may allow what the other does not.
    scene.network("x/q", "ingress: [{ports: [{port: 80}]}]");
    scene.expect("y/a > x/a tcp/80 !tcp/81\n x/b > x/a !tcp/81");
    assert!(staged(&scene, other));
    scene.put(kind, "metadata: {name: p, namespace: x}\nspec: {policyTypes: [Ingress]}");
    scene.delete(Kind::NetworkPolicy, "x/q");
    scene.expect("y/a > x/a !tcp/80");
}

#[test]
fn a_node_that_audits_everything_drops_nothing() {
    let mut scene = Scene::with(Enforcement::Audited);
    scene.network("x/p", "policyTypes: [Ingress, Egress]");
    scene.cluster("p", "Admin 1", "ingress: [{action: Deny, from: [{namespaces: {}}]}]");
    let (a, b) = ("10.0.1.1".parse().unwrap(), "10.0.1.2".parse().unwrap());
    let look = |reading| {
        let ruleset = ruleset(&scene, "x/a");
        scene.tables.look(ruleset, scene.tables.class(b), 0, reading).is_allowed
    };
    assert!(scene.tables.endpoints.values().any(|endpoint| endpoint.ips.contains(&a)));
    assert!(look(Reading::Enforced) && !look(Reading::Staged));
}

#[test]
fn verdicts_have_names() {
    let mut scene = Scene::new();
    scene.network("x/default-deny", "podSelector: {}");
    scene.network("x/web", "ingress: [{from: [{podSelector: {}}]}, {ports: [{port: 80}]}]");
    scene.cluster(
        "guard",
        "Admin 1",
        "ingress: [{action: Pass, from: [{namespaces: {matchLabels: {team: none}}}]}, \
                   {name: no-ssh, action: Deny, from: [{namespaces: {}}], \
                    protocols: [{tcp: {destinationPort: {number: 22}}}]}]",
    );
    let check = |subject: &str, direction, peer: &str, wanted: &str, expected: &str| {
        let found = scene.explained(subject, direction, peer, wanted).unwrap();
        assert_eq!(found.to_string(), expected);
    };
    let ingress = Direction::Ingress;
    check("x/a", ingress, "y/a", "tcp/22", "ingress denied by Admin guard, rule 1 (no-ssh): Deny");
    check(
        "x/a",
        ingress,
        "y/a",
        "tcp/80",
        "ingress allowed by NetworkPolicy x/web, rule 1: Accept",
    );
    check(
        "x/a",
        ingress,
        "x/b",
        "tcp/81",
        "ingress allowed by NetworkPolicy x/web, rule 0: Accept",
    );
    check(
        "x/a",
        ingress,
        "y/a",
        "udp/80",
        "ingress denied: no rule allows it, and the pod is isolated by x/default-deny, x/web",
    );
    scene.delete(Kind::NetworkPolicy, "x/web");
    scene.delete(Kind::NetworkPolicy, "x/default-deny");
    let found = scene.explained("x/a", ingress, "y/a", "udp/80").unwrap();
    assert_eq!(found.to_string(), "ingress allowed: no policy says otherwise");
    assert_eq!(scene.explained("x/a", Direction::Egress, "y/a", "udp/80"), None, "it is open");
}

#[test]
fn a_policy_tells_what_became_of_it() {
    let mut scene = Scene::new();
    scene.network("x/p", "podSelector: {matchLabels: {app: a}}");
    scene.network("far/p", "podSelector: {}");
    let policies = scene.planner.policies();
    let told: Vec<_> = policies
        .iter()
        .map(|one| (one.policy.to_string(), one.pods.len(), one.rulesets.len(), one.rows > 0))
        .collect();
    let expected = [
        ("NetworkPolicy far/p".to_owned(), 0, 0, false),
        ("NetworkPolicy x/p".to_owned(), 1, 1, true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn nothing_is_given_out_before_the_first_state_is_complete() {
    let mut scene = Scene::new();
    let events = scene.world.events();
    let options = crate::policy::Options {
        node: super::world::HERE.into(),
        pod_cidrs: [].into(),
        enforcement: Enforcement::Enforced,
        room: UNLIMITED,
    };
    let mut planner = crate::policy::Planner::new(options);
    let (synced, before) = events.split_last().unwrap();
    assert_eq!(planner.apply(before.to_vec()), Changes::default());
    assert_eq!(planner.collect(), Changes::default());
    planner.apply([synced.clone()]);
    assert_eq!(planner.tables().endpoints.len(), 4);
    assert_eq!(planner.tables(), scene.planner.tables());
    assert!(scene.planner.collect().is_empty());
}
