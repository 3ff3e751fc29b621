// SPDX-License-Identifier: Apache-2.0
//! What kube-proxy has left goes, and what others have made stays.

use std::time::{Duration, Instant};

use pintle::node::netfilter::policy_engine;
use pintle::takeover::{
    self,
    netlink::{Message, Netfilter},
};
use pintle_lab::kube_proxy::{self, Iptables, ServiceRules};
use pintle_lab::netns::NetNs;
use pintle_lab::topology::Family;

use crate::company::{alone, beside_others};

/// Rules of the kubelet, of a plugin for host ports and of the node's owner, with counters.
const FOREIGN: &str = "\
*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:MINE - [0:0]
[7:420] -A INPUT -j KUBE-FIREWALL
[5:300] -A FORWARD -p tcp -m comment --comment \"before\" -m tcp --dport 9 -j MINE
[3:180] -A FORWARD -m comment --comment \"counts only\"
[0:0] -A KUBE-FIREWALL -m conntrack --ctstate INVALID -j DROP
[4:240] -A MINE -p udp -m udp --dport 53 -m limit --limit 5/sec -j ACCEPT
[2:120] -A MINE -j RETURN
COMMIT
*nat
:KUBE-MARK-DROP - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-DN-abc - [0:0]
[9:540] -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
[8:480] -A POSTROUTING -p tcp -m tcp --dport 99 -j MASQUERADE
[6:360] -A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 8888 -j CNI-DN-abc
[1:60] -A CNI-DN-abc -p tcp -m tcp --dport 8888 -j REDIRECT --to-ports 80
[0:0] -A KUBE-MARK-DROP -j MARK --or-mark 0x8000
COMMIT
";

/// Counters of the built-in chains: legacy iptables loses them whenever it adds a rule.
const POLICIES: &str = "\
*filter
:INPUT ACCEPT [11:1100]
:FORWARD ACCEPT [12:1200]
COMMIT
*nat
:PREROUTING ACCEPT [1:60]
COMMIT
";

#[test]
fn a_thousand_services_go_from_legacy_iptables_and_nothing_else_does() {
    remove_from_iptables(Iptables::Legacy);
}

#[test]
fn a_thousand_services_go_from_iptables_nft_and_nothing_else_does() {
    remove_from_iptables(Iptables::Nft);
}

fn remove_from_iptables(iptables: Iptables) {
    let _company = alone();
    let ns = NetNs::new().expect("a namespace");
    let save = || Family::BOTH.map(|family| iptables.save(&ns, family).expect("save"));
    for family in Family::BOTH {
        iptables.restore(&ns, family, FOREIGN).expect("foreign rules");
        iptables.restore(&ns, family, POLICIES).expect("policies");
    }
    let before = save();
    for family in Family::BOTH {
        let services = ServiceRules::many(family, 1000);
        let rules = kube_proxy::iptables_mode(&services);
        iptables.restore(&ns, family, &rules).expect("kube-proxy's rules");
        iptables.restore(&ns, family, POLICIES).expect("policies");
    }
    assert_ne!(before, save());
    remove(&ns, |left| {
        // Per family: 1,000 services with five endpoints, 250 of them with a node port; 5 fixed
        // chains in `nat`, 6 in `filter`, 1 in `mangle`.
        assert_eq!((left.chains, left.hooks), (2 * (6250 + 12), 2 * 12));
    });
    for (before, after) in before.iter().zip(save()) {
        similar(before, &after);
    }
}

#[test]
fn the_tables_of_nftables_mode_go_and_nothing_else_does() {
    let _company = beside_others();
    let ns = NetNs::new().expect("a namespace");
    let mine = "table inet mine {\n chain c {\n type filter hook forward priority 0; policy \
                accept;\n counter\n }\n }\n";
    kube_proxy::nft(&ns, mine).expect("a foreign table");
    let before = kube_proxy::ruleset(&ns).expect("list");
    for family in Family::BOTH {
        let services = ServiceRules::many(family, 1000);
        kube_proxy::nft(&ns, &kube_proxy::nftables_mode(family, &services, &[])).expect("rules");
    }
    remove(&ns, |left| assert_eq!((left.tables, left.chains), (2, 0)));
    similar(&before, &kube_proxy::ruleset(&ns).expect("list"));
}

#[test]
fn what_a_foreign_chain_leads_to_is_only_emptied() {
    let _company = beside_others();
    for iptables in [Iptables::Legacy, Iptables::Nft] {
        let ns = NetNs::new().expect("a namespace");
        let rules = kube_proxy::iptables_mode(&ServiceRules::many(Family::V4, 2));
        iptables.restore(&ns, Family::V4, &rules).expect("kube-proxy's rules");
        let foreign = "*nat\n:MINE - [0:0]\n-A MINE -j KUBE-SERVICES\n-A MINE -j KUBE-MARK-MASQ\n\
                       COMMIT\n";
        iptables.restore(&ns, Family::V4, foreign).expect("foreign rules");
        remove(&ns, |left| assert!(left.are_live()));
        let left = iptables.save(&ns, Family::V4).expect("save");
        let nat = left.split("*nat").nth(1).expect("the table");
        let rules: Vec<&str> = nat.lines().filter(|line| line.contains(" -A ")).collect();
        assert_eq!(
            rules,
            [
                "[0:0] -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j \
                 KUBE-POSTROUTING",
                "[0:0] -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
                "[0:0] -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
                "[0:0] -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
                "[0:0] -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic \
                 requiring SNAT\" -j MASQUERADE --random-fully",
                "[0:0] -A MINE -j KUBE-SERVICES",
                "[0:0] -A MINE -j KUBE-MARK-MASQ",
            ]
        );
    }
}

#[test]
fn the_interface_of_ipvs_mode_goes() {
    let _company = beside_others();
    let ns = NetNs::new().expect("a namespace");
    // Any kind will do: not every kernel has dummy interfaces.
    ns.ip(&["link add kube-ipvs0 type bridge".into()]).expect("an interface");
    let found = || ns.run(|| takeover::leftovers().expect("look").interfaces);
    assert_eq!(found(), 1);
    assert!(ns.run(|| takeover::ipvs::remove().expect("remove")));
    assert_eq!(found(), 0);
    assert!(!ns.run(|| takeover::ipvs::remove().expect("nothing to remove")));
}

#[test]
fn the_sets_of_ipvs_mode_go_once_no_rule_matches_them() {
    let _company = beside_others();
    for iptables in [Iptables::Legacy, Iptables::Nft] {
        let ns = NetNs::new().expect("a namespace");
        ns.run(|| ["KUBE-CLUSTER-IP", "MINE"].map(create_set));
        let rules = "*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A \
                     KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst -j ACCEPT\nCOMMIT\n";
        iptables.restore(&ns, Family::V4, rules).expect("kube-proxy's rules");
        remove(&ns, |left| assert_eq!((left.sets, left.chains, left.hooks), (1, 1, 1)));
    }
}

/// Makes a set of addresses, as `ipset create NAME hash:ip` does.
fn create_set(name: &str) {
    let mut netfilter = Netfilter::open().expect("open").expect("netfilter");
    let message = Message::new(6, 2, libc::NLM_F_CREATE, 0)
        .bytes(1, &[6])
        .text(2, name)
        .text(3, "hash:ip")
        .bytes(4, &[0])
        .bytes(5, &[libc::AF_INET as u8])
        .nested(7, |data| data);
    netfilter.command(message).expect("create a set");
}

#[test]
fn looking_for_leftovers_makes_no_tables() {
    let _company = beside_others();
    let ns = NetNs::new().expect("a namespace");
    let names = || ns.run(|| std::fs::read_to_string("/proc/thread-self/net/ip_tables_names"));
    remove(&ns, |left| assert!(left.is_empty()));
    assert_eq!(ns.run(|| policy_engine().expect("look")), None);
    assert_eq!(names().unwrap_or_default(), "");
    assert_eq!(kube_proxy::ruleset(&ns).expect("list"), "");
}

/// Removes what there is, in a second or two, and checks what that was.
fn remove(ns: &NetNs, check: impl Fn(takeover::Leftovers)) {
    let (found, removed, took) = ns.run(|| {
        let found = takeover::leftovers().expect("look");
        let start = Instant::now();
        (found, takeover::remove().expect("remove"), start.elapsed())
    });
    println!("removed {removed} in {took:?}");
    check(found);
    assert_eq!(found, removed);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let left = ns.run(|| takeover::leftovers().expect("look again"));
    assert!(left.is_empty(), "{left} is left");
}

/// Compares texts of many lines; shows only where they differ.
#[track_caller]
fn similar(before: &str, after: &str) {
    let differs = before.lines().zip(after.lines()).find(|(before, after)| before != after);
    assert_eq!(differs, None);
    assert_eq!(before.lines().count(), after.lines().count());
}
