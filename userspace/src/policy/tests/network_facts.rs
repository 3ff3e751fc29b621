// SPDX-License-Identifier: Apache-2.0
//! NetworkPolicy: what isolates, what is empty, ports, blocks. One test for each fact of the API.

use super::scene::Scene;
use crate::{model::name::Kind, source::convert::DocumentKind};

#[track_caller]
fn check(policies: &[(&str, &str)], expected: &str) -> Scene {
    let mut scene = Scene::new();
    for (name, spec) in policies {
        scene.network(name, spec);
    }
    scene.expect(expected);
    scene
}

#[test]
fn a_pod_that_no_policy_selects_is_open() {
    check(&[("x/p", "podSelector: {matchLabels: {app: none}}")], "y/a > x/a tcp/80 udp/1 icmp");
}

#[test]
fn a_policy_selects_pods_of_its_own_namespace_only() {
    check(
        &[("x/p", "podSelector: {}")],
        "y/a > x/a !tcp/80\n x/a > y/a tcp/80\n x/a > x/b !tcp/80",
    );
}

#[test]
fn isolation_is_for_each_direction() {
    check(&[("x/p", "policyTypes: [Ingress]")], "y/a > x/a !tcp/80\n x/a > y/a tcp/80");
    check(&[("x/p", "policyTypes: [Egress]")], "y/a > x/a tcp/80\n x/a > y/a !tcp/80");
    check(&[("x/p", "policyTypes: [Ingress, Egress]")], "y/a > x/a !tcp/80\n x/a > y/a !tcp/80");
}

#[test]
fn an_empty_egress_list_does_not_isolate_egress() {
    check(&[("x/p", "egress: []")], "x/a > y/a tcp/80\n y/a > x/a !tcp/80");
    check(&[("x/p", "egress: [{}]")], "x/a > y/a tcp/80\n y/a > x/a !tcp/80");
}

#[test]
fn rules_of_a_direction_that_is_not_listed_are_inert() {
    let policy = "policyTypes: [Egress], ingress: [{from: [{podSelector: {}}]}]";
    check(&[("x/p", policy)], "y/a > x/a tcp/80\n x/a > y/a !tcp/80");
}

#[test]
fn a_listed_direction_without_rules_allows_nothing() {
    for rules in ["", "ingress: [],"] {
        check(&[("x/p", &format!("{rules} policyTypes: [Ingress]"))], "y/a > x/a !tcp/80 !icmp");
    }
}

#[test]
fn an_empty_rule_allows_everything() {
    for rule in ["{}", "{from: []}", "{ports: []}", "{from: [], ports: []}"] {
        let policy = format!("ingress: [{rule}]");
        check(
            &[("x/p", &policy)],
            "y/a > x/a tcp/80 udp/53 sctp/9 icmp\n 172.18.0.3 > x/a tcp/1\n 192.0.2.1 > x/a icmp",
        );
    }
}

#[test]
fn policies_and_rules_are_a_union() {
    let red = "podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]";
    let blue = "ingress: [{ports: [{port: 80}]}, {ports: [{port: 81}]}]";
    check(
        &[("x/p", red), ("x/q", blue)],
        "x/b > x/a tcp/80 tcp/82 icmp\n y/a > x/a tcp/80 tcp/81 !tcp/82 !icmp",
    );
}

#[test]
fn both_sides_have_to_allow() {
    let mut scene = check(
        &[("x/p", "policyTypes: [Ingress], ingress: [{}]"), ("y/p", "policyTypes: [Egress]")],
        "y/a > x/a !tcp/80",
    );
    scene.network("y/p", "policyTypes: [Egress], egress: [{ports: [{port: 80}]}]");
    scene.expect("y/a > x/a tcp/80 !tcp/81");
}

#[test]
fn a_rule_s_peers_and_ports_are_anded_and_rules_do_not_mix() {
    let rules = "{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 80}]}, \
                 {from: [{namespaceSelector: {matchLabels: {team: blue}}}], ports: [{port: 81}]}";
    check(
        &[("x/p", &format!("ingress: [{rules}]"))],
        "x/b > x/a tcp/80 !tcp/81\n y/a > x/a !tcp/80 tcp/81",
    );
}

#[test]
fn a_pod_selector_is_of_the_policy_s_namespace() {
    let policy = |peer| format!("ingress: [{{from: [{peer}]}}]");
    check(
        &[("x/p", &policy("{podSelector: {matchLabels: {app: a}}}"))],
        "x/a > x/b tcp/80\n y/a > x/b !tcp/80",
    );
    check(&[("x/p", &policy("{podSelector: {}}"))], "x/a > x/b tcp/80\n y/a > x/b !tcp/80");
}

#[test]
fn a_namespace_selector_means_all_pods_of_such_namespaces() {
    let policy = |peer| format!("ingress: [{{from: [{peer}]}}]");
    check(
        &[("x/p", &policy("{namespaceSelector: {matchLabels: {team: blue}}}"))],
        "y/a > x/a tcp/80\n y/b > x/a tcp/80\n x/b > x/a !tcp/80\n 192.0.2.1 > x/a !tcp/80",
    );
    let by_name = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: far}}}";
    check(&[("x/p", &policy(by_name))], "far/a > x/a tcp/80\n y/a > x/a !tcp/80");
}

#[test]
fn an_empty_namespace_selector_means_every_pod_but_no_node_and_nobody_outside() {
    check(
        &[("x/p", "ingress: [{from: [{namespaceSelector: {}}]}]")],
        "y/a > x/a tcp/80\n far/a > x/a tcp/80\n x/b > x/a icmp
         172.18.0.3 > x/a !tcp/80\n 192.0.2.1 > x/a !tcp/80\n 10.0.1.99 > x/a !tcp/80",
    );
}

#[test]
fn two_selectors_in_one_peer_are_anded_and_in_two_peers_ored() {
    let (blue, app) =
        ("namespaceSelector: {matchLabels: {team: blue}}", "podSelector: {matchLabels: {app: b}}");
    check(
        &[("x/p", &format!("ingress: [{{from: [{{{blue}, {app}}}]}}]"))],
        "y/b > x/a tcp/80\n y/a > x/a !tcp/80\n x/b > x/a !tcp/80",
    );
    check(
        &[("x/p", &format!("ingress: [{{from: [{{{blue}}}, {{{app}}}]}}]"))],
        "y/b > x/a tcp/80\n y/a > x/a tcp/80\n x/b > x/a tcp/80\n far/a > x/a !tcp/80",
    );
}

#[test]
fn an_empty_peer_matches_nobody() {
    let scene = check(&[("x/p", "ingress: [{from: [{}]}]")], "y/a > x/a !tcp/80\n x/b > x/a !icmp");
    assert_eq!(scene.told().len(), 1);
}

#[test]
fn expressions_are_anded_and_not_in_holds_where_the_key_is_absent() {
    let policy = |expressions: &str| {
        let peer = format!("podSelector: {{matchExpressions: [{expressions}]}}");
        format!("ingress: [{{from: [{{namespaceSelector: {{}}, {peer}}}]}}]")
    };
    check(
        &[("x/p", &policy("{key: tier, operator: NotIn, values: [db]}"))],
        "y/a > x/a tcp/80\n x/b > x/a tcp/80\n y/b > x/a !tcp/80",
    );
    let both = "{key: app, operator: In, values: [a, b]}, {key: tier, operator: Exists}";
    check(&[("x/p", &policy(both))], "y/b > x/a tcp/80\n y/a > x/a !tcp/80\n x/b > x/a !tcp/80");
    check(
        &[("x/p", &policy("{key: tier, operator: DoesNotExist}"))],
        "y/a > x/a tcp/80\n y/b > x/a !tcp/80",
    );
}

#[test]
fn a_port_without_protocol_is_tcp_and_without_number_every_port() {
    let policy = |port: &str| format!("ingress: [{{ports: [{port}]}}]");
    check(&[("x/p", &policy("{port: 80}"))], "y/a > x/a tcp/80 !udp/80 !sctp/80 !tcp/81 !icmp");
    check(&[("x/p", &policy("{}"))], "y/a > x/a tcp/0 tcp/80 tcp/65535 !udp/80 !icmp");
    check(&[("x/p", &policy("{protocol: UDP}"))], "y/a > x/a udp/0 udp/65535 !tcp/80 !icmp");
}

#[test]
fn an_end_port_is_included() {
    let policy =
        |first, last| format!("ingress: [{{ports: [{{port: {first}, endPort: {last}}}]}}]");
    check(&[("x/p", &policy(80, 90))], "y/a > x/a !tcp/79 tcp/80 tcp/85 tcp/90 !tcp/91 !udp/85");
    check(&[("x/p", &policy(80, 80))], "y/a > x/a !tcp/79 tcp/80 !tcp/81");
    check(&[("x/p", &policy(1, 65535))], "y/a > x/a !tcp/0 tcp/1 tcp/65534 tcp/65535 !udp/1 !icmp");
    check(&[("x/p", &policy(65535, 65535))], "y/a > x/a !tcp/65534 tcp/65535");
}

#[test]
fn ranges_that_overlap_are_a_union() {
    let a = "{from: [{podSelector: {}}], ports: [{port: 80, endPort: 100}]}";
    let b = "{from: [{namespaceSelector: {}}], ports: [{port: 90, endPort: 110}]}";
    check(
        &[("x/p", &format!("ingress: [{a}, {b}]"))],
        "x/b > x/a !tcp/79 tcp/80 tcp/89 tcp/90 tcp/100 tcp/110 !tcp/111
         y/a > x/a !tcp/80 !tcp/89 tcp/90 tcp/100 tcp/101 tcp/110 !tcp/111",
    );
}

#[test]
fn a_named_port_of_ingress_is_that_of_the_pod() {
    let policy = |port: &str| format!("ingress: [{{ports: [{{{port}}}]}}]");
    check(
        &[("x/p", &policy("port: web")), ("y/p", &policy("port: web"))],
        "far/a > x/a tcp/80 !tcp/8080 !udp/80
         far/a > x/b !tcp/80 tcp/8080
         far/a > y/a !tcp/81 !udp/81 !tcp/80
         far/a > y/b !tcp/80",
    );
    check(&[("y/p", &policy("port: web, protocol: UDP"))], "far/a > y/a udp/81 !tcp/81 !udp/80");
}

#[test]
fn a_named_port_of_egress_is_that_of_each_destination() {
    let policy = "policyTypes: [Egress], egress: [{ports: [{port: web}]}]";
    let mut scene = check(
        &[("y/p", policy)],
        "y/b > x/a tcp/80 !tcp/8080
         y/b > x/b !tcp/80 tcp/8080
         y/b > far/a tcp/80 !tcp/8080
         y/b > y/a !tcp/81 !udp/81
         y/b > 192.0.2.1 !tcp/80\n y/b > 172.18.0.3 !tcp/80\n y/b > 10.0.1.99 !tcp/80",
    );
    // A pod that comes later brings a number that nobody had.
    let ports = "ports: [{name: web, containerPort: 9}]";
    scene.pod("x/c", "app: c", "10.0.1.9", ports, "");
    scene.expect("y/b > x/c tcp/9 !tcp/80\n y/b > x/a tcp/80 !tcp/9");
    scene.pod("x/c", "app: c", "10.0.1.9", "ports: [{name: other, containerPort: 9}]", "");
    scene.expect("y/b > x/c !tcp/9 !tcp/80\n y/b > x/a tcp/80 !tcp/9");
}

#[test]
fn a_named_port_of_egress_counts_for_the_rule_s_peers_only() {
    let peer = "namespaceSelector: {matchLabels: {team: red}}";
    let policy =
        format!("policyTypes: [Egress], egress: [{{to: [{{{peer}}}], ports: [{{port: web}}]}}]");
    check(&[("y/p", &policy)], "y/b > x/a tcp/80\n y/b > x/b tcp/8080\n y/b > far/a !tcp/80");
    let block = "{to: [{ipBlock: {cidr: 10.0.1.0/31}}], ports: [{port: web}]}";
    let policy = format!("policyTypes: [Egress], egress: [{block}]");
    check(&[("y/p", &policy)], "y/b > x/a tcp/80\n y/b > x/b !tcp/8080\n y/b > x/a@6 !tcp/80");
}

#[test]
fn sctp_isolates_and_is_never_read_as_tcp() {
    let policy = "ingress: [{ports: [{port: 80, protocol: SCTP}]}]";
    check(&[("x/p", policy)], "y/a > x/a !tcp/80 !udp/80 sctp/80 !sctp/81");
}

#[test]
fn a_policy_may_have_thousands_of_items() {
    let ports: Vec<String> = (1..6000).map(|port| format!("{{port: {}}}", port * 2)).collect();
    let blocks: Vec<String> = (0..2000)
        .map(|n| format!("{{ipBlock: {{cidr: 192.{}.{}.0/24}}}}", n / 256, n % 256))
        .collect();
    let policy =
        format!("ingress: [{{from: [{}], ports: [{}]}}]", blocks.join(", "), ports.join(", "));
    let scene = check(
        &[("x/p", &policy)],
        "192.7.207.1 > x/a tcp/2 !tcp/3 tcp/11998 !tcp/11999 !tcp/12000
         192.7.208.1 > x/a !tcp/2\n 192.0.0.9 > x/a tcp/4000",
    );
    assert_eq!(scene.planner.problems(), []);
}

#[test]
fn a_block_matches_addresses_of_pods_and_nodes_too() {
    let policy = |block: &str| format!("ingress: [{{from: [{{ipBlock: {{{block}}}}}]}}]");
    check(
        &[("x/p", &policy("cidr: 10.0.1.3/32"))],
        "y/a > x/a tcp/80\n y/b > x/a !tcp/80\n x/b > x/a !tcp/80",
    );
    check(
        &[("x/p", &policy("cidr: 0.0.0.0/4"))],
        "y/a > x/a tcp/80\n far/a > x/a tcp/80\n 10.0.1.99 > x/a tcp/80\n 192.0.2.1 > x/a !tcp/80",
    );
    check(&[("x/p", &policy("cidr: 172.18.0.0/16"))], "172.18.0.3 > x/a tcp/80");
    check(&[("x/p", &policy("cidr: 192.0.2.7/24"))], "192.0.2.1 > x/a tcp/80\n y/a > x/a !tcp/80");
}

#[test]
fn a_hole_is_no_denial() {
    let with_hole = "{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}";
    let inside = "{ipBlock: {cidr: 192.0.2.200/32}}";
    check(
        &[("x/p", &format!("ingress: [{{from: [{with_hole}]}}]"))],
        "192.0.2.1 > x/a tcp/80\n 192.0.2.128 > x/a !tcp/80\n 192.0.2.200 > x/a !tcp/80",
    );
    check(
        &[("x/p", &format!("ingress: [{{from: [{with_hole}, {inside}]}}]"))],
        "192.0.2.1 > x/a tcp/80\n 192.0.2.201 > x/a !tcp/80\n 192.0.2.200 > x/a tcp/80",
    );
    check(
        &[
            ("x/p", &format!("ingress: [{{from: [{with_hole}]}}]")),
            ("x/q", &format!("ingress: [{{from: [{inside}]}}]")),
        ],
        "192.0.2.1 > x/a tcp/80\n 192.0.2.201 > x/a !tcp/80\n 192.0.2.200 > x/a tcp/80",
    );
}

#[test]
fn all_blocks_around_an_address_count_with_their_ports() {
    let outer = "{from: [{ipBlock: {cidr: 192.0.0.0/16}}], ports: [{port: 80}]}";
    let inner = "{from: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 81}]}";
    let innermost = "{from: [{ipBlock: {cidr: 192.0.2.1/32}}], ports: [{port: 82}]}";
    check(
        &[("x/p", &format!("ingress: [{innermost}, {outer}, {inner}]"))],
        "192.0.9.9 > x/a tcp/80 !tcp/81 !tcp/82
         192.0.2.2 > x/a tcp/80 tcp/81 !tcp/82
         192.0.2.1 > x/a tcp/80 tcp/81 tcp/82",
    );
}

#[test]
fn a_block_of_one_family_says_nothing_of_the_other() {
    let policy = |cidr: &str| format!("ingress: [{{from: [{{ipBlock: {{cidr: '{cidr}'}}}}]}}]");
    check(&[("x/p", &policy("0.0.0.0/0"))], "y/a > x/a tcp/80\n y/a@6 > x/a@6 !tcp/80");
    check(&[("x/p", &policy("::/0"))], "y/a > x/a !tcp/80\n y/a@6 > x/a@6 tcp/80");
}

#[test]
fn blocks_in_old_spellings_mean_what_they_meant() {
    let policy = |block: &str| format!("ingress: [{{from: [{{ipBlock: {{{block}}}}}]}}]");
    check(
        &[("x/p", &policy("cidr: 192.000.002.77/024, except: [192.0.2.129/25]"))],
        "192.0.2.1 > x/a tcp/80\n 192.0.2.200 > x/a !tcp/80\n 192.0.3.1 > x/a !tcp/80",
    );
}

#[test]
fn a_block_that_cannot_be_read_allows_nothing_and_the_rest_of_the_policy_holds() {
    let bad = "{ipBlock: {cidr: 192.0.2.0/24, except: [oops]}}, {podSelector: {}}";
    let scene = check(
        &[("x/p", &format!("ingress: [{{from: [{bad}]}}]"))],
        "192.0.2.1 > x/a !tcp/80\n x/b > x/a tcp/80",
    );
    assert_eq!(scene.told().len(), 1);
}

#[test]
fn egress_blocks_see_the_backend() {
    let policy = "policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.1.4/32}}]}]";
    check(&[("x/p", policy)], "x/a > y/b tcp/80\n x/a > y/a !tcp/80\n x/a > 10.96.0.1 !tcp/80");
}

#[test]
fn a_deleted_policy_says_nothing_any_more() {
    let mut scene = check(&[("x/p", "podSelector: {}")], "y/a > x/a !tcp/80");
    assert!(!scene.delete(Kind::NetworkPolicy, "x/p").narrows);
    scene.expect("y/a > x/a tcp/80 icmp");
}

#[test]
fn labels_of_namespaces_and_pods_are_followed() {
    let policy = "podSelector: {matchLabels: {app: a}}, \
                  ingress: [{from: [{namespaceSelector: {matchLabels: {team: green}}}]}]";
    let mut scene = check(&[("x/p", policy)], "y/a > x/a !tcp/80\n y/a > x/b tcp/80");
    scene.put(DocumentKind::Namespace, "metadata: {name: y, labels: {team: green}}");
    scene.expect("y/a > x/a tcp/80\n far/a > x/a !tcp/80");
    scene.pod("x/b", "app: a", "10.0.1.2", "", "");
    scene.expect("far/a > x/b !tcp/80\n y/a > x/b tcp/80");
    scene.pod("x/b", "app: c", "10.0.1.2", "", "");
    scene.expect("far/a > x/b tcp/80");
    scene.put(DocumentKind::Namespace, "metadata: {name: y}");
    scene.expect("y/a > x/a !tcp/80");
}
