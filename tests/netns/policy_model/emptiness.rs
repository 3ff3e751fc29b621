// SPDX-License-Identifier: Apache-2.0
//! What a policy means that leaves things out: types, selectors, rules, peers, ports.

use pintle_lab::agent::FastPath;
use pintle_lab::topology::Cni;

use super::in_both_layouts;
use super::nine_pods::{Cell, NinePods, policy};
use super::probe::Protocol::{Tcp, Udp};
use crate::company::beside_others;

in_both_layouts!(what_is_absent_is_as_the_api_says, rules_are_unions_of_peers_and_ports);

#[test]
fn what_is_absent_is_as_the_api_says_on_one_node() {
    let _company = beside_others();
    what_is_absent_is_as_the_api_says(&mut NinePods::new(1, Cni::Bridge, FastPath::Auto));
}

/// A policy of the whole of namespace `x`.
fn of_x(spec: &str) -> [String; 1] {
    [policy("x/p", spec)]
}

fn what_is_absent_is_as_the_api_says(nine: &mut NinePods) {
    nine.check("no policy", &[], |_| true);
    let ingress_is_closed = |cell: &Cell| cell.dst_ns() != "x";
    let egress_is_closed = |cell: &Cell| cell.src_ns() != "x";
    for spec in [
        "podSelector: {}",
        "policyTypes: [Ingress]",
        "podSelector: {}, policyTypes: []",
        "podSelector: {}, egress: []",
        "podSelector: {}, ingress: []",
        "podSelector: {}, egress: [{}]",
        "podSelector: {}, policyTypes: [Ingress], egress: [{to: [{podSelector: {}}]}]",
    ] {
        nine.check(spec, &of_x(spec), ingress_is_closed);
    }
    for spec in [
        "podSelector: {}, policyTypes: [Egress]",
        "podSelector: {}, policyTypes: [Egress], egress: []",
        "podSelector: {}, policyTypes: [Egress], ingress: [{from: [{podSelector: {}}]}]",
    ] {
        nine.check(spec, &of_x(spec), egress_is_closed);
    }
    let both = "podSelector: {}, policyTypes: [Ingress, Egress]";
    nine.check(both, &of_x(both), |cell| ingress_is_closed(cell) && egress_is_closed(cell));
    for rule in ["{}", "{from: []}", "{ports: []}", "{from: [], ports: []}", "{from: null}"] {
        nine.check(rule, &of_x(&format!("ingress: [{rule}]")), |_| true);
    }
    for rule in ["{}", "{to: []}", "{to: [], ports: null}"] {
        let spec = format!("policyTypes: [Egress], egress: [{rule}]");
        nine.check(rule, &of_x(&spec), |_| true);
    }
    nine.check("the last policy is gone", &[], |_| true);
}

fn rules_are_unions_of_peers_and_ports(nine: &mut NinePods) {
    let from = |pod: &str, ports: &str| {
        format!("{{from: [{{podSelector: {{matchLabels: {{pod: {pod}}}}}}}], ports: [{ports}]}}")
    };
    let spec = format!("ingress: [{}]", from("a", "{port: 80}"));
    nine.check("peers and ports", &of_x(&spec), |cell| {
        cell.dst_ns() != "x" || cell.from == "x/a" && cell.is(Tcp, 80)
    });
    let spec = format!("ingress: [{}, {}]", from("a", "{port: 80}"), from("b", "{port: 81}"));
    nine.check("rules are not multiplied with each other", &of_x(&spec), |cell| {
        cell.dst_ns() != "x"
            || cell.from == "x/a" && cell.is(Tcp, 80)
            || cell.from == "x/b" && cell.is(Tcp, 81)
    });
    let spec = format!("ingress: [{}]", from("a", "{port: 80}, {protocol: UDP}"));
    nine.check("a list of ports", &of_x(&spec), |cell| {
        cell.dst_ns() != "x" || cell.from == "x/a" && (cell.is(Tcp, 80) || !cell.tcp())
    });
    let stacked = [
        policy("x/default-deny", "policyTypes: [Ingress, Egress]"),
        policy("x/one", "podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80}]}]"),
        policy(
            "x/two",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: \
             {matchLabels: {ns: y}}}], ports: [{port: 81, protocol: UDP}]}]",
        ),
        policy("y/of-another-namespace", "podSelector: {}, ingress: [{}]"),
    ];
    nine.check("policies add up, and an egress needs its own", &stacked, |cell| {
        let is_allowed = cell.is(Tcp, 80) || cell.src_ns() == "y" && cell.is(Udp, 81);
        cell.src_ns() != "x" && (cell.dst_ns() != "x" || cell.to == "x/a" && is_allowed)
    });
    let selected = "podSelector: {matchLabels: {pod: b}}, policyTypes: [Ingress, Egress]";
    nine.check("who is not selected is not isolated", &of_x(selected), |cell| {
        cell.to != "x/b" && cell.from != "x/b"
    });
    let both_ends = [
        policy("x/out", "policyTypes: [Egress], egress: [{ports: [{port: 80}]}]"),
        policy("y/in", "ingress: [{ports: [{port: 80}, {port: 80, protocol: UDP}]}]"),
    ];
    nine.check("both ends have to allow", &both_ends, |cell| {
        let out = cell.src_ns() != "x" || cell.is(Tcp, 80);
        let is_in = cell.dst_ns() != "y" || cell.port == 80;
        out && is_in
    });
}
