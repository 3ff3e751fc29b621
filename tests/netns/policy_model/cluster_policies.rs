// SPDX-License-Identifier: Apache-2.0
//! ClusterNetworkPolicies: tiers, priorities, the order of rules, and what they are about (P1).

use super::in_both_layouts;
use super::nine_pods::{Cell, NinePods, annotated, cluster_policy, of_namespace, policy};
use super::probe::Protocol::{Tcp, Udp};
use pintle_lab::agent::FastPath;
use pintle_lab::topology::{Cni, Family};

use crate::company::beside_others;

in_both_layouts!(
    the_first_decisive_rule_wins,
    tiers_come_one_after_the_other,
    peers_and_ports_are_what_they_say,
    unknown_parts_fail_closed,
    audited_policies_deny_nothing,
);

/// A rule: action, peers without their braces, and further fields.
fn rule(direction: &str, action: &str, peers: &[&str], rest: &str) -> String {
    let field = if direction == "ingress" { "from" } else { "to" };
    let peers: Vec<String> = peers.iter().map(|peer| format!("{{{peer}}}")).collect();
    format!("{{action: {action}, {field}: [{}], {rest}}}", peers.join(", "))
}

fn ingress(rules: &[String]) -> String {
    format!("ingress: [{}]", rules.join(", "))
}

fn egress(rules: &[String]) -> String {
    format!("egress: [{}]", rules.join(", "))
}

/// Rules of a policy about all pods of `x`.
fn of_x(name: &str, place: &str, rules: &str) -> String {
    cluster_policy(name, place, &of_namespace("x"), rules)
}

const ANY: &str = "namespaces: {}";
const Y: &str = "namespaces: {matchLabels: {ns: y}}";
const A: &str = "pods: {namespaceSelector: {}, podSelector: {matchLabels: {pod: a}}}";
const TCP_80: &str = "protocols: [{tcp: {destinationPort: {number: 80}}}]";

/// These policies are about hairpins, too, so what is expected is asked of them as well.
#[track_caller]
fn check(nine: &mut NinePods, what: &str, policies: &[String], expected: impl Fn(&Cell) -> bool) {
    nine.set_policies(policies);
    nine.expect_also_of_hairpins(what, expected);
}

fn the_first_decisive_rule_wins(nine: &mut NinePods) {
    let is_y = |cell: &Cell| cell.src_ns() == "y";
    let deny_y = rule("ingress", "Deny", &[Y], "");
    let accept_a = rule("ingress", "Accept", &[A], "");
    let pass_a = rule("ingress", "Pass", &[A], "");
    let deny_all = rule("ingress", "Deny", &[ANY], "");
    for tier in ["Admin 10", "Baseline 10"] {
        check(nine, tier, &[of_x("p", tier, &ingress(std::slice::from_ref(&deny_y)))], |cell| {
            cell.dst_ns() != "x" || !is_y(cell)
        });
        let rules = ingress(&[accept_a.clone(), deny_y.clone()]);
        check(nine, "Accept before Deny", &[of_x("p", tier, &rules)], |cell| {
            cell.dst_ns() != "x" || !is_y(cell) || cell.from == "y/a"
        });
        let rules = ingress(&[deny_y.clone(), accept_a.clone()]);
        check(nine, "Deny before Accept", &[of_x("p", tier, &rules)], |cell| {
            cell.dst_ns() != "x" || !is_y(cell)
        });
        let rules = ingress(&[pass_a.clone(), deny_all.clone()]);
        check(nine, "Pass before Deny", &[of_x("p", tier, &rules)], |cell| {
            cell.dst_ns() != "x" || cell.src_pod() == "a"
        });
        let out = egress(&[rule("egress", "Accept", &[A], ""), rule("egress", "Deny", &[ANY], "")]);
        check(nine, "egress", &[of_x("p", tier, &out)], |cell| {
            cell.src_ns() != "x" || cell.dst_pod() == "a"
        });
    }
    let weaker = of_x("a-weaker", "Admin 60", &ingress(std::slice::from_ref(&accept_a)));
    let stronger = of_x("stronger", "Admin 50", &ingress(std::slice::from_ref(&deny_all)));
    check(nine, "the smaller number is stronger", &[weaker.clone(), stronger.clone()], |cell| {
        cell.dst_ns() != "x"
    });
    let now = weaker.replace("priority: 60", "priority: 40");
    check(nine, "until it is not", &[now, stronger], |cell| {
        cell.dst_ns() != "x" || cell.src_pod() == "a"
    });
    let pair = [
        of_x("a", "Admin 7", &ingress(std::slice::from_ref(&accept_a))),
        of_x("b", "Admin 7", &ingress(&[deny_all])),
    ];
    check(nine, "of equals the first by name", &pair, |cell| {
        cell.dst_ns() != "x" || cell.src_pod() == "a"
    });
}

fn tiers_come_one_after_the_other(nine: &mut NinePods) {
    let only_c = policy(
        "x/np",
        "ingress: [{from: [{namespaceSelector: {}, podSelector: \
                                 {matchLabels: {pod: c}}}]}]",
    );
    let accept_y = of_x("admin", "Admin 1", &ingress(&[rule("ingress", "Accept", &[Y], "")]));
    check(nine, "an Accept is final", &[accept_y, only_c.clone()], |cell| {
        let is_own = cell.from == cell.to;
        cell.dst_ns() != "x" || is_own || cell.src_ns() == "y" || cell.src_pod() == "c"
    });
    let deny_y = of_x("admin", "Admin 1", &ingress(&[rule("ingress", "Deny", &[Y], "")]));
    check(nine, "a Deny is final", &[deny_y, only_c.clone()], |cell| {
        let is_own = cell.from == cell.to;
        cell.dst_ns() != "x" || is_own || cell.src_ns() != "y" && cell.src_pod() == "c"
    });
    let admin = of_x(
        "admin",
        "Admin 1",
        &ingress(&[rule("ingress", "Pass", &[Y], ""), rule("ingress", "Deny", &[ANY], "")]),
    );
    let baseline = of_x("base", "Baseline 1", &ingress(&[rule("ingress", "Deny", &[A], "")]));
    let all = [admin.clone(), only_c.clone(), baseline.clone()];
    check(nine, "a Pass leads to NetworkPolicies", &all, |cell| {
        cell.dst_ns() != "x" || cell.from == "y/c"
    });
    check(nine, "without them to the Baseline", &[admin, baseline.clone()], |cell| {
        cell.dst_ns() != "x" || cell.src_ns() == "y" && cell.src_pod() != "a"
    });
    // Isolation is of a direction, and so is what it keeps from the Baseline.
    let both = of_x(
        "base",
        "Baseline 1",
        &format!(
            "{}, {}",
            ingress(&[rule("ingress", "Deny", &[A], "")]),
            egress(&[rule("egress", "Deny", &[A], "")])
        ),
    );
    check(nine, "per direction", &[only_c, both], |cell| {
        let is_own = cell.from == cell.to;
        let is_in = cell.dst_ns() != "x" || is_own || cell.src_pod() == "c";
        let out = cell.src_ns() != "x" || cell.dst_pod() != "a";
        is_in && out
    });
    // Who reaches itself through a service is subject to these, other than to NetworkPolicies (P8).
    let deny = of_x("base", "Baseline 1", &ingress(&[rule("ingress", "Deny", &[ANY], TCP_80)]));
    nine.set_policies(&[deny]);
    nine.expect_also_of_hairpins("hairpin", |cell| cell.dst_ns() != "x" || !cell.is(Tcp, 80));
    nine.set_policies(&[policy("x/np", "policyTypes: [Ingress, Egress]")]);
    nine.expect_also_of_hairpins("hairpin and NetworkPolicies", |cell| {
        cell.from == cell.to || cell.dst_ns() != "x" && cell.src_ns() != "x"
    });
}

fn peers_and_ports_are_what_they_say(nine: &mut NinePods) {
    let accept = |ports: &str| {
        let first = rule("ingress", "Accept", &[ANY], ports);
        of_x("p", "Admin 3", &ingress(&[first, rule("ingress", "Deny", &[ANY], "")]))
    };
    let mut at = |ports: &str, is_port: fn(&Cell) -> bool| {
        check(nine, ports, &[accept(&format!("protocols: [{ports}]"))], |cell| {
            cell.dst_ns() != "x" || is_port(cell)
        });
    };
    at("{tcp: {destinationPort: {number: 80}}}", |cell| cell.is(Tcp, 80));
    at("{udp: {destinationPort: {range: {start: 81, end: 90}}}}", |cell| cell.is(Udp, 81));
    at("{tcp: {destinationPort: {range: {start: 1, end: 80}}}}, {udp: {}}", |cell| {
        cell.is(Tcp, 80) || !cell.tcp()
    });
    at("{sctp: {destinationPort: {number: 80}}}", |_| false);
    at("{tcp: {}}, {udp: {}}", |_| true);
    // A name alone means the ports of this name over every protocol.
    at("{destinationNamedPort: serve-81-udp}", |cell| cell.is(Udp, 81));
    at("{destinationNamedPort: web}", |cell| match cell.dst_pod() {
        "a" => cell.is(Tcp, 80) || cell.is(Udp, 81),
        "b" => cell.is(Tcp, 81),
        _ => cell.is(Udp, 80),
    });
    let subject = "pods: {namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: \
                   {pod: b}}}";
    let deny = ingress(&[rule("ingress", "Deny", &[ANY], "")]);
    check(nine, "subject pods", &[cluster_policy("p", "Admin 3", subject, &deny)], |cell| {
        cell.to != "x/b"
    });
    check(nine, "every namespace", &[cluster_policy("p", "Admin 3", ANY, &deny)], |_| false);
    let networks = "networks: [10.244.1.0/24]";
    let out = egress(&[
        rule("egress", "Accept", &[networks], TCP_80),
        rule("egress", "Deny", &["networks: [0.0.0.0/0]"], ""),
    ]);
    check(nine, "networks are pods, too", &[of_x("p", "Admin 3", &out)], |cell| {
        let is_node_1 = cell.dst_pod() != "b";
        cell.src_ns() != "x" || cell.family == Family::V6 || is_node_1 && cell.is(Tcp, 80)
    });
    let out = egress(&[
        rule("egress", "Accept", &[ANY], "protocols: [{destinationNamedPort: web}]"),
        rule("egress", "Deny", &[ANY], ""),
    ]);
    check(nine, "names are the destination's", &[of_x("p", "Admin 3", &out)], |cell| {
        let is_web = match cell.dst_pod() {
            "a" => cell.is(Tcp, 80) || cell.is(Udp, 81),
            "b" => cell.is(Tcp, 81),
            _ => cell.is(Udp, 80),
        };
        cell.src_ns() != "x" || is_web
    });
}

fn unknown_parts_fail_closed(nine: &mut NinePods) {
    let future = "signedBy: {issuer: somebody}";
    let deny = rule("ingress", "Deny", &[ANY], "");
    let accept = ingress(&[rule("ingress", "Accept", &[future], ""), deny.clone()]);
    check(nine, "Accept of nobody", &[of_x("p", "Admin 3", &accept)], |cell| cell.dst_ns() != "x");
    let rules = ingress(&[rule("ingress", "Deny", &[future], TCP_80)]);
    check(nine, "Deny of everybody", &[of_x("p", "Admin 3", &rules)], |cell| {
        cell.dst_ns() != "x" || !cell.is(Tcp, 80)
    });
    let rules = ingress(&[rule("ingress", "Pass", &[future], TCP_80)]);
    check(nine, "Pass is Deny", &[of_x("p", "Admin 3", &rules)], |cell| {
        cell.dst_ns() != "x" || !cell.is(Tcp, 80)
    });
    let quic = "protocols: [{quic: {destinationPort: {number: 80}}}]";
    let rules = ingress(&[rule("ingress", "Deny", &[Y], quic)]);
    check(nine, "every port of these peers", &[of_x("p", "Admin 3", &rules)], |cell| {
        cell.dst_ns() != "x" || cell.src_ns() != "y"
    });
    let rules = ingress(&[rule("ingress", "Accept", &[Y], quic), deny]);
    check(nine, "Accept of no port", &[of_x("p", "Admin 3", &rules)], |cell| cell.dst_ns() != "x");
}

fn audited_policies_deny_nothing(nine: &mut NinePods) {
    const AUDIT: &str = "pintle.dev/audit: \"true\"";
    let audited = [
        annotated("x/staged", AUDIT, "policyTypes: [Ingress, Egress]"),
        policy("x/real", "podSelector: {matchLabels: {pod: b}}, ingress: [{ports: [{port: 80}]}]"),
    ];
    let before: u64 = counted(nine);
    nine.check("only what is not audited decides", &audited, |cell| {
        cell.to != "x/b" || cell.is(Tcp, 80)
    });
    assert!(counted(nine) > before, "what it would deny is counted");
    let mut off = audited;
    off[0] = off[0].replace("true", "false");
    nine.check("until the annotation says otherwise", &off, |cell| {
        (cell.dst_ns() != "x" || cell.to == "x/b" && cell.is(Tcp, 80)) && cell.src_ns() != "x"
    });
}

#[test]
fn a_node_that_audits_denies_nothing() {
    let _company = beside_others();
    let mut nine = NinePods::without_agents(1, Cni::Ptp, FastPath::Auto).expect("nine pods");
    nine.agents[0].extra_args.push("--policy-audit".into());
    nine.agents[0].start().expect("start");
    let deny = of_x("p", "Admin 1", &ingress(&[rule("ingress", "Deny", &[Y], "")]));
    check(&mut nine, "all", &[policy("x/p", "policyTypes: [Ingress, Egress]"), deny], |_| true);
    assert!(counted(&nine) > 0, "what they would deny is counted");
}

fn counted(nine: &NinePods) -> u64 {
    nine.agents.iter().map(|agent| agent.counter("would drop").expect("a counter")).sum()
}
