// SPDX-License-Identifier: Apache-2.0
//! ClusterNetworkPolicy: tiers, order, actions, peers, and what NetworkPolicies have to say.

use super::scene::Scene;
use crate::{model::name::Kind, source::convert::DocumentKind};

const BLUE: &str = "[{namespaces: {matchLabels: {team: blue}}}]";
const ANY: &str = "[{namespaces: {}}]";

/// Policies of namespace `x`: name, place, rules.
#[track_caller]
fn check(policies: &[(&str, &str, &str)], expected: &str) -> Scene {
    let mut scene = Scene::new();
    for (name, place, rules) in policies {
        scene.cluster(name, place, rules);
    }
    scene.expect(expected);
    scene
}

fn ingress(rules: &[(&str, &str)]) -> String {
    let rules: Vec<String> =
        rules.iter().map(|(action, rest)| format!("{{action: {action}, {rest}}}")).collect();
    format!("ingress: [{}]", rules.join(", "))
}

#[test]
fn nothing_is_isolated_and_what_no_rule_matches_falls_through() {
    let rules = ingress(&[("Deny", &format!("from: {BLUE}, protocols: [{{tcp: {{}}}}]"))]);
    check(
        &[("p", "Admin 1", &rules)],
        "y/a > x/a !tcp/80 udp/80 icmp\n x/b > x/a tcp/80\n 192.0.2.1 > x/a tcp/80\n x/a > y/a tcp/80",
    );
}

#[test]
fn the_first_rule_that_matches_decides() {
    let from = format!("from: {BLUE}");
    let rules = |actions: [&str; 3]| ingress(&actions.map(|action| (action, &*from)));
    check(&[("p", "Admin 1", &rules(["Accept", "Deny", "Pass"]))], "y/a > x/a tcp/80");
    check(&[("p", "Admin 1", &rules(["Deny", "Accept", "Pass"]))], "y/a > x/a !tcp/80");
    check(&[("p", "Admin 1", &rules(["Pass", "Deny", "Accept"]))], "y/a > x/a tcp/80");
    check(&[("p", "Baseline 1", &rules(["Deny", "Accept", "Pass"]))], "y/a > x/a !tcp/80");
    check(&[("p", "Baseline 1", &rules(["Accept", "Deny", "Pass"]))], "y/a > x/a tcp/80");
}

#[test]
fn the_smaller_priority_comes_first_and_equal_ones_go_by_name() {
    let deny = ingress(&[("Deny", &format!("from: {BLUE}"))]);
    let accept = ingress(&[("Accept", &format!("from: {BLUE}"))]);
    let one = |a, b| {
        let mut scene = Scene::new();
        scene.cluster("a", a, &deny);
        scene.cluster("b", b, &accept);
        scene
    };
    one("Admin 50", "Admin 60").expect("y/a > x/a !tcp/80");
    one("Admin 50", "Admin 40").expect("y/a > x/a tcp/80");
    one("Admin 50", "Admin 50").expect("y/a > x/a !tcp/80");
    let mut scene = one("Admin 50", "Admin 60");
    scene.cluster("b", "Admin 40", &accept);
    scene.expect("y/a > x/a tcp/80");
}

#[test]
fn pass_skips_the_rest_of_its_tier() {
    let pass = ingress(&[("Pass", &format!("from: {BLUE}")), ("Deny", &format!("from: {ANY}"))]);
    let deny = ingress(&[("Deny", &format!("from: {ANY}"))]);
    check(
        &[("p", "Admin 1", &pass), ("q", "Admin 2", &deny)],
        "y/a > x/a tcp/80\n far/a > x/a !tcp/80",
    );
    check(
        &[("p", "Admin 1", &pass), ("q", "Baseline 2", &deny)],
        "y/a > x/a !tcp/80\n far/a > x/a !tcp/80",
    );
    check(
        &[("p", "Baseline 1", &pass), ("q", "Baseline 2", &deny)],
        "y/a > x/a tcp/80\n far/a > x/a !tcp/80",
    );
}

#[test]
fn admin_decides_before_network_policies_and_they_before_baseline() {
    let mut scene = Scene::new();
    scene.cluster("a", "Admin 1", &ingress(&[("Deny", &format!("from: {ANY}"))]));
    scene.network("x/p", "ingress: [{}]");
    scene.expect("y/a > x/a !tcp/80");
    scene.cluster("a", "Admin 1", &ingress(&[("Accept", &format!("from: {BLUE}"))]));
    scene.network("x/p", "podSelector: {}");
    scene.expect("y/a > x/a tcp/80\n x/b > x/a !tcp/80");
    scene.cluster("a", "Admin 1", &ingress(&[("Pass", &format!("from: {BLUE}"))]));
    scene.cluster("b", "Baseline 1", &ingress(&[("Accept", &format!("from: {ANY}"))]));
    scene.expect("y/a > x/a !tcp/80\n x/b > x/a !tcp/80");
    scene.network("x/p", "ingress: [{from: [{podSelector: {}}]}]");
    scene.cluster("b", "Baseline 1", &ingress(&[("Deny", &format!("from: {ANY}"))]));
    scene.expect("y/a > x/a !tcp/80\n x/b > x/a tcp/80");
    scene.delete(Kind::NetworkPolicy, "x/p");
    scene.expect("y/a > x/a !tcp/80\n x/b > x/a !tcp/80\n 192.0.2.1 > x/a tcp/80");
    scene.delete(Kind::ClusterNetworkPolicy, "b");
    scene.expect("y/a > x/a tcp/80");
}

#[test]
fn network_policies_keep_baseline_away_in_their_own_direction_only() {
    let mut scene = Scene::new();
    let rule = |peers: &str| format!("[{{action: Deny, {peers}: {ANY}}}]");
    let rules = format!("ingress: {}, egress: {}", rule("from"), rule("to"));
    scene.cluster("b", "Baseline 1", &rules);
    scene.network("x/p", "policyTypes: [Ingress], ingress: [{}]");
    scene.expect("y/a > x/a tcp/80\n x/a > y/a !tcp/80");
}

#[test]
fn directions_are_apart() {
    let rules = format!("egress: [{{action: Accept, to: {ANY}}}]");
    let mut scene = check(&[("p", "Admin 1", &rules)], "y/a > x/a tcp/80");
    scene.network("x/p", "policyTypes: [Ingress, Egress]");
    scene.expect("x/a > y/a tcp/80\n y/a > x/a !tcp/80");
}

#[test]
fn ports_make_holes_in_rules() {
    let rules = ingress(&[
        (
            "Accept",
            &format!("from: {BLUE}, protocols: [{{tcp: {{destinationPort: {{number: 80}}}}}}]"),
        ),
        (
            "Deny",
            &format!(
                "from: {BLUE}, \
                 protocols: [{{tcp: {{destinationPort: {{range: {{start: 70, end: 90}}}}}}}}, {{udp: {{}}}}]"
            ),
        ),
    ]);
    check(
        &[("p", "Admin 1", &rules)],
        "y/a > x/a tcp/69 !tcp/70 !tcp/79 tcp/80 !tcp/81 !tcp/90 tcp/91 !udp/0 !udp/53 icmp sctp/80",
    );
}

#[test]
fn a_rule_without_protocols_is_about_everything() {
    let rules = ingress(&[("Deny", &format!("from: {BLUE}"))]);
    check(&[("p", "Admin 1", &rules)], "y/a > x/a !tcp/80 !udp/80 !sctp/80 !icmp");
}

#[test]
fn a_named_port_is_of_any_protocol() {
    let named = "protocols: [{destinationNamedPort: web}]";
    let mut scene = Scene::new();
    let egress = format!("egress: [{{action: Deny, to: {ANY}, {named}}}]");
    scene.cluster("p", "Admin 1", &egress);
    scene.expect("x/a > x/b !tcp/8080 tcp/80\n x/a > y/a !udp/81 tcp/81\n x/a > y/b tcp/80");
    scene.expect("x/a > far/a !tcp/80 tcp/81\n x/a > 192.0.2.1 tcp/80");
    scene.cluster("p", "Admin 1", &ingress(&[("Deny", &format!("from: {ANY}, {named}"))]));
    scene.expect("y/b > x/a !tcp/80 tcp/8080\n y/b > x/b !tcp/8080 tcp/80");
}

#[test]
fn a_named_port_that_nobody_had_is_denied_when_somebody_comes_with_it() {
    let named = "protocols: [{destinationNamedPort: new}]";
    let rules = format!("egress: [{{action: Deny, to: {ANY}, {named}}}]");
    let mut scene = check(&[("p", "Admin 1", &rules)], "x/a > y/a tcp/9");
    let ports = "ports: [{name: new, containerPort: 9}]";
    assert!(scene.pod("y/a", "app: a", "10.0.1.3", ports, "").narrows);
    scene.expect("x/a > y/a !tcp/9 tcp/10\n x/a > y/b tcp/9");
}

#[test]
fn networks_match_pods_and_nodes_too() {
    let rules = "egress: [{action: Accept, to: [{networks: [10.0.1.3/32, 'fd00:1::3/128']}]}, \
                          {action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}]}]";
    check(
        &[("p", "Admin 1", rules)],
        "x/a > y/a tcp/80\n x/a@6 > y/a@6 tcp/80\n x/a > y/b !tcp/80\n x/a@6 > y/b@6 !tcp/80
         x/a > 172.18.0.3 !tcp/80\n x/a > 192.0.2.1 !tcp/80\n x/a > 10.0.1.99 !tcp/80",
    );
}

#[test]
fn nodes_are_peers_by_label() {
    let zone = "{nodes: {matchLabels: {zone: b}}}";
    let rules = format!("egress: [{{action: Deny, to: [{zone}]}}]");
    let mut scene = check(
        &[("p", "Admin 1", &rules)],
        "x/a > 172.18.0.3 !tcp/80\n x/a > 172.18.0.2 tcp/80\n x/a > far/a tcp/80",
    );
    scene.put(
        DocumentKind::Node,
        "metadata: {name: here, labels: {zone: b}}\n\
         status: {addresses: [{type: InternalIP, address: 172.18.0.2}]}",
    );
    scene.expect("x/a > 172.18.0.2 !tcp/80");
}

#[test]
fn peers_of_namespaces_and_pods_are_anded() {
    let pods =
        "{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: a}}}";
    let rules = ingress(&[("Deny", &format!("from: [{{pods: {pods}}}]"))]);
    check(&[("p", "Admin 1", &rules)], "y/a > x/a !tcp/80\n y/b > x/a tcp/80\n far/a > x/a tcp/80");
}

#[test]
fn a_subject_is_namespaces_or_pods() {
    let mut scene = Scene::new();
    let policy = |subject: &str| {
        format!(
            "metadata: {{name: p}}\nspec: {{tier: Admin, priority: 1, subject: {{{subject}}}, {}}}",
            ingress(&[("Deny", &format!("from: {ANY}"))])
        )
    };
    let kind = DocumentKind::ClusterNetworkPolicy;
    scene.put(kind, &policy("namespaces: {matchLabels: {team: red}}"));
    scene.expect("y/b > x/a !tcp/80\n y/b > x/b !tcp/80\n y/b > y/a tcp/80");
    let pods = "pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}";
    scene.put(kind, &policy(pods));
    scene.expect("y/b > x/a !tcp/80\n y/b > x/b tcp/80\n y/b > y/a !tcp/80");
}

#[test]
fn what_is_unknown_in_a_rule_that_accepts_matches_nothing() {
    let mut scene = Scene::new();
    scene.network("x/p", "policyTypes: [Ingress, Egress]");
    let to = "to: [{domainNames: [example.org]}, {namespaces: {}}]";
    scene.cluster("p", "Admin 1", &format!("egress: [{{action: Accept, {to}}}]"));
    scene.expect("x/a > y/a !tcp/80\n x/a > 192.0.2.1 !tcp/80");
    let unknown = format!("from: {ANY}, protocols: [{{tcp: {{}}}}, {{future: {{}}}}]");
    scene.cluster("p", "Admin 1", &ingress(&[("Accept", &unknown)]));
    scene.expect("y/a > x/a !tcp/80 !icmp");
}

#[test]
fn what_is_unknown_in_a_rule_that_denies_or_passes_denies_all_that_the_rest_could_match() {
    for action in ["Deny", "Pass"] {
        let unknown = "from: [{future: {}}], protocols: [{tcp: {}}]";
        check(
            &[("p", "Admin 1", &ingress(&[(action, unknown)]))],
            "y/a > x/a !tcp/80 udp/80 icmp\n 192.0.2.1 > x/a !tcp/80",
        );
        let unknown = format!("from: {BLUE}, protocols: [{{future: {{}}}}]");
        check(
            &[("p", "Admin 1", &ingress(&[(action, &unknown)]))],
            "y/a > x/a !tcp/80 !udp/80 !icmp\n x/b > x/a tcp/80",
        );
    }
}

#[test]
fn a_pod_is_subject_on_its_way_through_a_service_to_itself() {
    let rules = format!("egress: [{{action: Deny, to: {ANY}, protocols: [{{udp: {{}}}}]}}]");
    let mut scene = check(&[("p", "Admin 1", &rules)], "x/a > x/a tcp/80 !udp/80");
    // What NetworkPolicies say of the way does not count, but Baseline stays behind them.
    scene.cluster("p", "Baseline 1", &rules);
    scene.expect("x/a > x/a tcp/80 !udp/80");
    scene.network("x/p", "policyTypes: [Egress]");
    scene.expect("x/a > x/a tcp/80 udp/80\n x/a > x/b !tcp/80");
}

#[test]
fn an_unknown_address_for_pods_is_denied_where_any_pod_is() {
    let deny = |from: &str| ingress(&[("Deny", from)]);
    let from = format!("from: {ANY}");
    check(
        &[("p", "Admin 1", &deny(&from))],
        "10.0.1.99 > x/a !tcp/80\n 10.0.2.99 > x/a !tcp/80\n 10.0.3.99 > x/a tcp/80",
    );
    let pods = "from: [{pods: {namespaceSelector: {}, podSelector: {}}}]";
    check(&[("p", "Admin 1", &deny(pods))], "10.0.1.99 > x/a !tcp/80");
    check(&[("p", "Admin 1", &deny(&format!("from: {BLUE}")))], "10.0.1.99 > x/a tcp/80");
    let mut scene = check(&[("p", "Admin 1", &ingress(&[("Accept", &from)]))], "y/a > x/a tcp/80");
    scene.network("x/p", "podSelector: {}");
    scene.expect("y/a > x/a tcp/80\n 10.0.1.99 > x/a !tcp/80");
}

#[test]
fn conformance_s_skeleton_of_rules_holds() {
    // Ravenclaw is `y`, slytherin is `far`, hufflepuff is `x` itself.
    let at = |port| format!("protocols: [{{tcp: {{destinationPort: {{number: {port}}}}}}}]");
    let by = |name: &str| {
        format!("from: [{{namespaces: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}}}]")
    };
    let rules = |order: &[usize]| {
        let all = [
            ("Accept", by("y")),
            ("Deny", by("y")),
            ("Pass", by("y")),
            ("Deny", format!("{}, {}", by("far"), at(80))),
            ("Pass", format!("{}, {}", by("far"), at(80))),
            ("Accept", format!("{}, {}", by("x"), at(80))),
            ("Deny", by("x")),
        ];
        let ordered: Vec<_> = order.iter().map(|rule| (all[*rule].0, &*all[*rule].1)).collect();
        ingress(&ordered)
    };
    let both = |order: &[usize], expected: &str| {
        check(&[("p", "Admin 1", &rules(order))], expected);
    };
    both(
        &[0, 1, 2, 3, 4, 5, 6],
        "y/a > x/a tcp/80 tcp/8080\n far/a > x/a !tcp/80 tcp/8080\n x/b > x/a tcp/80 !tcp/8080",
    );
    both(&[1, 0, 2, 3, 4, 5, 6], "y/a > x/a !tcp/80 !tcp/8080");
    both(&[2, 1, 0, 3, 4, 5, 6], "y/a > x/a tcp/80 tcp/8080");
    both(&[0, 1, 2, 4, 3, 5, 6], "far/a > x/a tcp/80 tcp/8080");
}
