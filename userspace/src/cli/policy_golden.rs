// SPDX-License-Identifier: Apache-2.0
//! The commands about policies, over hand-made maps and answers, in every format.

use std::net::IpAddr;

use pintle_abi::{counter::Hook, policy::ruleset};

use super::golden::{FakeMaps, check};
use crate::{
    datapath::{
        policy_entry::{AllowedEntry, DeniedEntry, EndpointEntry},
        policy_view::{PolicyMaps, PolicyMode},
        view::ReadError,
    },
    model::policy::Direction,
    node::IfIndex,
    policy::{AllowedKey, DenialKey, Outcome},
    server::policy::{
        Answer, Cause, Denial, Interface, NamedDenial, Party, PartyKind, Policies, Policy,
        PolicyPod, PolicySummary, Question,
    },
};

const WEB_INGRESS: u32 = 0x7f3a_91c2;
const CART_EGRESS: u32 = 0x0042_aa10;
const SHOP: u32 = 41;
const CLUSTER: u32 = 97;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl PolicyMaps for FakeMaps {
    fn policy_mode(&self) -> Result<(PolicyMode, u32), ReadError> {
        Ok((PolicyMode::Closed, 4))
    }

    fn denied(&self) -> Result<Vec<DeniedEntry>, ReadError> {
        let entry = |ruleset, class, port_class, peer, outcome, packets, port: u16| DeniedEntry {
            key: DenialKey {
                ifindex: 12,
                ruleset,
                class,
                port_class,
                direction: Direction::Ingress,
                outcome,
            },
            packets,
            last_seen_ns: 98_000_000_000 - packets,
            peer: ip(peer),
            proto: if port == 0 { 1 } else { 6 },
            port,
            hook: Some(Hook::ToPod),
        };
        let closed = entry(ruleset::CLOSED, 0, 0, "10.244.1.8", Outcome::Closed, 9, 53);
        let spoofed = entry(ruleset::OPEN, 0, 0, "172.17.0.2", Outcome::Spoofed, 12, 443);
        Ok(vec![
            entry(WEB_INGRESS, CLUSTER, 0, "10.244.1.9", Outcome::Denied, 1204, 22),
            entry(WEB_INGRESS, SHOP, 3, "fd00:1::9", Outcome::WouldDeny, 3, 8080),
            entry(WEB_INGRESS, 0, 0, "192.0.2.1", Outcome::Denied, 2, 0),
            DeniedEntry { key: DenialKey { ifindex: 9, ..closed.key }, ..closed },
            entry(0x0bad_cafe, 5, 1, "192.0.2.7", Outcome::Denied, 1, 443),
            entry(ruleset::OPEN, 0, 0, "10.244.1.9", Outcome::NotProgrammed, 7, 80),
            DeniedEntry {
                key: DenialKey { direction: Direction::Egress, ..spoofed.key },
                ..spoofed
            },
        ])
    }

    fn allowed(&self) -> Result<Vec<AllowedEntry>, ReadError> {
        let entry = |ruleset, class, port_class, connections| AllowedEntry {
            key: AllowedKey { ruleset, class, port_class },
            connections,
        };
        Ok(vec![
            entry(CART_EGRESS, SHOP, 0, 5_301),
            entry(CART_EGRESS, CLUSTER, 0, 11),
            entry(WEB_INGRESS, SHOP, 3, 4),
            entry(0x0bad_cafe, 5, 1, 70),
        ])
    }

    fn endpoints(&self) -> Result<Vec<EndpointEntry>, ReadError> {
        let entry = |index, ips: &[&str], egress, ingress| EndpointEntry {
            index: IfIndex(index),
            ips: ips.iter().map(|text| ip(text)).collect(),
            egress,
            ingress,
            hairpin_egress: ruleset::OPEN,
            hairpin_ingress: ruleset::OPEN,
        };
        Ok(vec![
            entry(7, &["10.244.0.3", "fd00:1::3"], ruleset::OPEN, ruleset::OPEN),
            entry(9, &["10.244.1.8"], CART_EGRESS, ruleset::CLOSED),
            entry(12, &["10.244.1.5"], ruleset::OPEN, WEB_INGRESS),
            entry(15, &["10.244.1.44"], ruleset::OPEN, ruleset::OPEN),
        ])
    }

    fn row(&self, ruleset: u32, class: u32, _: u8) -> Result<Option<(bool, bool)>, ReadError> {
        Ok(match (ruleset, class) {
            (CART_EGRESS, _) => Some((true, true)),
            (WEB_INGRESS, SHOP) => Some((true, false)),
            (WEB_INGRESS, CLUSTER) => Some((false, false)),
            _ => None,
        })
    }
}

/// What `status` tells.
pub(super) fn summary() -> PolicySummary {
    PolicySummary { audited: false, known: 31, policed: 2, rulesets: 5, rows: 1204 }
}

/// What `get policies` and `get pods` tell.
pub(super) fn policies() -> Policies {
    let policy =
        |kind: &str, name: &str, tier: &str, priority, pods: &[&str], rulesets: &[u32]| Policy {
            kind: kind.into(),
            name: name.into(),
            tier: tier.into(),
            priority,
            enforcement: if name == "shop/web" { "audited" } else { "enforced" }.into(),
            pods: pods.iter().map(|name| (*name).to_owned()).collect(),
            rulesets: rulesets.to_vec(),
            rows: 402 * rulesets.len() as u64,
        };
    let pod = |name: &str, ips: &[&str], interface: Option<(u32, &str)>, policies| PolicyPod {
        name: name.into(),
        ips: ips.iter().map(|text| ip(text)).collect(),
        interface: interface.map(|(index, name)| Interface { index, name: name.into() }),
        policies,
        problem: None,
    };
    let full = "ingress: 70000 rows would be needed, there is room for 65536";
    let np = "NetworkPolicy";
    Policies {
        policies: vec![
            policy(np, "shop/default-deny", np, None, &["shop/web-7c9b"], &[WEB_INGRESS]),
            policy(np, "shop/empty", np, None, &[], &[]),
            policy(np, "shop/web", np, None, &["shop/web-7c9b"], &[WEB_INGRESS]),
            policy(
                "ClusterNetworkPolicy",
                "guard",
                "Admin",
                Some(10),
                &["shop/cart-6d8f", "shop/web-7c9b"],
                &[CART_EGRESS, WEB_INGRESS],
            ),
        ],
        pods: vec![
            pod("kube-system/coredns-1", &["10.244.0.3", "fd00:1::3"], Some((7, "veth7")), 0),
            PolicyPod {
                problem: Some(full.into()),
                ..pod("shop/cart-6d8f", &["10.244.1.8"], Some((9, "veth9")), 1)
            },
            pod("shop/new-1", &["10.244.1.50"], None, 1),
            pod("shop/web-7c9b", &["10.244.1.5"], Some((12, "vethc")), 3),
        ],
    }
}

fn guard() -> Cause {
    Cause::Rule {
        tier: "Admin".into(),
        policy: "guard".into(),
        direction: Direction::Ingress,
        index: 2,
        name: Some("no-ssh".into()),
    }
}

fn rule(policy: &str, direction: Direction) -> Cause {
    let (tier, policy) = ("NetworkPolicy".into(), policy.into());
    Cause::Rule { tier, policy, direction, index: 0, name: None }
}

fn isolation() -> Cause {
    Cause::Isolation { policies: vec!["shop/default-deny".into(), "shop/web".into()] }
}

/// The names of what the programs count.
pub(super) fn named(denial: &Denial) -> NamedDenial {
    let cause = match (denial.key.outcome, denial.key.ruleset, denial.key.class) {
        (Outcome::Closed, ..) => Cause::Closed { reason: None },
        (Outcome::NotProgrammed, ..) => Cause::NotProgrammed,
        (Outcome::Spoofed, ..) => Cause::Spoofed,
        (Outcome::WouldDeny, ..) => isolation(),
        (_, WEB_INGRESS, CLUSTER) => guard(),
        (_, WEB_INGRESS, _) => isolation(),
        _ => Cause::Changed,
    };
    let pod = match denial.key.ifindex {
        9 => "shop/cart-6d8f",
        _ => "shop/web-7c9b",
    };
    let peer = party(&denial.peer.to_string()).name;
    NamedDenial { pod: Some(pod.into()), peer, cause }
}

/// What allowed the connections that the programs count.
pub(super) fn allowed_by(key: &AllowedKey) -> Cause {
    match (key.ruleset, key.class) {
        (CART_EGRESS, SHOP) => guard(),
        (CART_EGRESS, _) => Cause::NoPolicy,
        (WEB_INGRESS, _) => rule("shop/web", Direction::Ingress),
        _ => Cause::Changed,
    }
}

/// Who answers to a name or an address.
pub(super) fn party(word: &str) -> Party {
    let known = [
        ("shop/cart-6d8f", "10.244.1.8", PartyKind::LocalPod),
        ("shop/web-7c9b", "10.244.1.5", PartyKind::LocalPod),
        ("shop/load-55c1", "10.244.1.9", PartyKind::RemotePod),
        ("kube-system/coredns-1", "10.244.0.3", PartyKind::LocalPod),
        ("worker-2", "172.18.0.2", PartyKind::OwnNode),
    ];
    let found = known.into_iter().find(|(name, text, _)| *name == word || *text == word);
    match found {
        Some((name, text, kind)) => Party { name: Some(name.into()), ips: vec![ip(text)], kind },
        None => Party { ips: word.parse().into_iter().collect(), ..Party::default() },
    }
}

/// What policies say of a connection.
pub(super) fn answer(question: &Question) -> Answer {
    let answer = |ruleset, class, is_allowed, cause, would_deny| Answer {
        pod: party(&question.pod.to_string()).name,
        ruleset,
        class,
        port_class: 0,
        is_allowed,
        cause,
        would_deny,
    };
    let free = || answer(ruleset::OPEN, 0, true, Cause::NoPolicy, None);
    match (party(&question.pod.to_string()).name.as_deref(), question.direction) {
        (Some("shop/cart-6d8f"), Direction::Egress) => {
            answer(CART_EGRESS, SHOP, true, rule("shop/cart", question.direction), None)
        }
        (Some("shop/cart-6d8f"), Direction::Ingress) => {
            let reason = Some("70000 rows would be needed, there is room for 65536".into());
            answer(ruleset::CLOSED, 0, false, Cause::Closed { reason }, None)
        }
        (Some("shop/web-7c9b"), Direction::Ingress) => match question.peer.to_string().as_str() {
            "10.244.1.8" => {
                let allowed = rule("shop/web", question.direction);
                answer(WEB_INGRESS, SHOP, true, allowed, Some(isolation()))
            }
            "10.244.1.9" => answer(WEB_INGRESS, CLUSTER, false, guard(), None),
            // The maps have no row for the class.
            _ => answer(WEB_INGRESS, 12, false, isolation(), None),
        },
        _ => free(),
    }
}

#[test]
fn drops() {
    check(
        "drops",
        &[
            "get drops",
            "get denials -o wide",
            "get drops -o json",
            "get drops --policy shop/web --numeric",
            "get drops shop/load-55c1 -o name",
            "get drops # no agent",
        ],
    );
}

#[test]
fn policies_and_what_became_of_them() {
    check(
        "policies",
        &[
            "get policies",
            "get netpol -o wide",
            "get policies -n shop -o json",
            "get policies guard -o name",
            "get policies shop/wbe",
            "get policies # no agent",
        ],
    );
}

#[test]
fn pods_as_policies_see_them() {
    check("pods", &["get pods", "get po -o wide", "get pods -o json", "get pods # no agent"]);
}

#[test]
fn traces() {
    check(
        "trace",
        &[
            "trace --from shop/cart-6d8f --to shop/web",
            "trace --from shop/cart-6d8f --to 10.96.0.20:80 -o json",
            "trace --from shop/load-55c1 --to shop/web-7c9b:22 -o wide --expect denied",
            "trace --from 192.0.2.1 --to 10.244.1.5:80 -o wide",
            "trace --from shop/web-7c9b --to shop/cart-6d8f:53 --protocol udp --expect allowed",
            "trace --from worker-2 --to shop/web-7c9b:8080",
            "trace --from shop/cart-6d8f --to 203.0.113.9:443",
            "trace --from shop/load-55c1 --to kube-system/kube-dns:dns --protocol udp",
            "trace --from shop/web-7c9b --to 10.96.0.20:81",
            "trace --from shop/web-7c9b --to shop/empty",
            "trace --from shop/web-7c9b --to 10.244.1.8 --protocol icmp",
            "trace --from shop/web-7c9b --to 10.244.1.8",
            "trace --from shop/nobody --to 10.244.1.8:80",
            "trace --from shop/web-7c9b --to shop/cart-6d8g:80",
            "trace --from shop/web-7c9b --to 10.244.1.8:80 # no agent",
        ],
    );
}
