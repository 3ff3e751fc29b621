// SPDX-License-Identifier: Apache-2.0
//! Whose a chain is, by its name, and what becomes of it. Pure; the same for every back end.
//!
//! Invariant: what others rely on stays. A chain of kube-proxy's that a foreign chain leads to is
//! emptied instead of removed, except the one that others use on purpose.

use std::collections::{BTreeMap, BTreeSet};

/// Name of kube-proxy's tables in nf_tables, one in each family.
pub const TABLE: &str = "kube-proxy";
/// Tables of iptables in which kube-proxy has chains.
pub const IPTABLES: [&str; 3] = ["filter", "nat", "mangle"];
/// The interface that carries the service addresses in ipvs mode.
pub const IPVS_INTERFACE: &str = "kube-ipvs0";

/// Chains that kube-proxy hooks into the built-in ones.
const HOOKED: [&str; 9] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-POSTROUTING",
    "KUBE-NODE-PORT",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];
/// Its other chains of fixed names.
const INNER: [&str; 4] =
    ["KUBE-PROXY-CANARY", "KUBE-MARK-MASQ", "KUBE-LOAD-BALANCER", "KUBE-SOURCE-RANGES-FIREWALL"];
/// How the names of its chains for services and endpoints begin; `XLB` until Kubernetes 1.23.
const FAMILIES: [&str; 6] =
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-XLB-", "KUBE-FW-", "KUBE-SEP-"];

/// Plugins for host ports send packets here to have them masqueraded, by the rule in
/// [`MASQUERADE`].
const MARK_MASQUERADE: &str = "KUBE-MARK-MASQ";
const MASQUERADE: &str = "KUBE-POSTROUTING";

/// The chain is kube-proxy's. The kubelet's (`KUBE-FIREWALL`, `KUBE-MARK-DROP`, `KUBE-IPTABLES-HINT`,
/// `KUBE-KUBELET-CANARY`) are not.
pub fn is_kube_proxys(chain: &str) -> bool {
    HOOKED.contains(&chain)
        || INNER.contains(&chain)
        || FAMILIES.iter().any(|prefix| chain.starts_with(prefix))
}

/// A rule that leads from one chain to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The rule's chain.
    pub from: String,
    /// That chain is a built-in one.
    pub built_in: bool,
    /// The chain it leads to.
    pub to: String,
}

/// What becomes of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Stays,
    /// It stays without rules, because somebody else's rule leads to it.
    Emptied,
    /// It goes.
    Removed,
}

/// What goes from one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    kept: BTreeMap<String, Fate>,
}

impl Cut {
    /// Decides from all rules that lead from chains that are not kube-proxy's to chains that are.
    pub fn new<'a>(jumps: impl IntoIterator<Item = &'a Jump>) -> Self {
        let foreign = |jump: &&Jump| !is_hook(jump) && is_kube_proxys(&jump.to);
        let used: BTreeSet<&str> =
            jumps.into_iter().filter(foreign).map(|jump| jump.to.as_str()).collect();
        let mut kept: BTreeMap<String, Fate> =
            used.iter().map(|chain| ((*chain).to_owned(), Fate::Emptied)).collect();
        if used.contains(MARK_MASQUERADE) {
            kept.insert(MARK_MASQUERADE.to_owned(), Fate::Stays);
            kept.insert(MASQUERADE.to_owned(), Fate::Stays);
        }
        Self { kept }
    }

    /// What becomes of a chain.
    pub fn fate(&self, chain: &str) -> Fate {
        match self.kept.get(chain) {
            Some(fate) => *fate,
            None if is_kube_proxys(chain) => Fate::Removed,
            None => Fate::Stays,
        }
    }

    /// The rule goes, although its chain stays.
    pub fn removes(&self, jump: &Jump) -> bool {
        is_hook(jump) && self.fate(&jump.to) != Fate::Stays
    }
}

/// A rule by which packets meet kube-proxy's services. Old kubelets hook the chain that masquerades,
/// too.
pub fn is_live(jump: &Jump) -> bool {
    is_hook(jump) && jump.to != MASQUERADE
}

/// A rule by which kube-proxy hooks its chains into the built-in ones.
fn is_hook(jump: &Jump) -> bool {
    jump.built_in && HOOKED.contains(&jump.to.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump(from: &str, to: &str) -> Jump {
        let built_in = matches!(from, "PREROUTING" | "POSTROUTING" | "FORWARD");
        Jump { from: from.to_owned(), built_in, to: to.to_owned() }
    }

    #[test]
    fn the_kubelets_and_the_plugins_chains_are_not_kube_proxys() {
        for name in [
            "KUBE-FIREWALL",
            "KUBE-MARK-DROP",
            "KUBE-IPTABLES-HINT",
            "KUBE-KUBELET-CANARY",
            "CNI-HOSTPORT-DNAT",
            "KUBE-ROUTER-INPUT",
            "KUBE-SVC",
            "kube-svc-x",
            "FORWARD",
        ] {
            assert!(!is_kube_proxys(name), "{name}");
            assert_eq!(Cut::default().fate(name), Fate::Stays);
        }
        for name in ["KUBE-SERVICES", "KUBE-SEP-SXIVWICOYRO3J4NJ", "KUBE-XLB-A", "KUBE-IPVS-FILTER"]
        {
            assert!(is_kube_proxys(name), "{name}");
            assert_eq!(Cut::default().fate(name), Fate::Removed);
        }
    }

    #[test]
    fn rules_that_hook_kube_proxys_chains_go() {
        let jumps = [
            jump("PREROUTING", "KUBE-SERVICES"),
            jump("FORWARD", "KUBE-FIREWALL"),
            jump("FORWARD", "MY-CHAIN"),
        ];
        let cut = Cut::new(&jumps);
        assert_eq!(jumps.each_ref().map(|jump| cut.removes(jump)), [true, false, false]);
        assert_eq!(jumps.each_ref().map(is_live), [true, false, false]);
        assert!(!is_live(&jump("POSTROUTING", "KUBE-POSTROUTING")));
    }

    #[test]
    fn a_chain_that_a_foreign_rule_leads_to_is_only_emptied() {
        let jumps = [jump("MY-CHAIN", "KUBE-SERVICES"), jump("PREROUTING", "KUBE-SERVICES")];
        let cut = Cut::new(&jumps);
        assert_eq!(cut.fate("KUBE-SERVICES"), Fate::Emptied);
        assert!(!cut.removes(&jumps[0]) && cut.removes(&jumps[1]));
    }

    #[test]
    fn masquerading_stays_for_plugins_that_ask_for_it() {
        let jumps = [
            jump("CNI-HOSTPORT-SETMARK", "KUBE-MARK-MASQ"),
            jump("POSTROUTING", "KUBE-POSTROUTING"),
        ];
        let cut = Cut::new(&jumps);
        assert_eq!(cut.fate("KUBE-MARK-MASQ"), Fate::Stays);
        assert_eq!(cut.fate("KUBE-POSTROUTING"), Fate::Stays);
        assert!(!cut.removes(&jumps[0]) && !cut.removes(&jumps[1]));
    }
}
