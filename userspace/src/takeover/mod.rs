// SPDX-License-Identifier: Apache-2.0
//! What kube-proxy has left on this node, and how Pintle takes its place.
//!
//! [`running`] tells whether a kube-proxy still runs. [`leftovers`] and [`remove`] find and remove its
//! objects: in nf_tables ([`nftables`], also the rules of `iptables-nft`), in legacy iptables
//! ([`xtables`], [`blob`]), and what ipvs mode has besides ([`ipsets`], [`ipvs`]). [`names`] decides whose a chain is.
//! [`conntrack`] and [`flows`] find the connections that it has translated, and [`keeper`] keeps the
//! kernel translating them. Programs such as `iptables` and `nft` are not needed.
//!
//! Invariants:
//! - nothing of anybody else's changes: neither rules, nor their order, nor their counters;
//! - rules go as a whole or not at all, table by table.
//!
//! IPVS services stay: `ipvsadm --clear` removes them. The addresses that lead packets to them go with
//! their interface, when no connection needs it any more.

pub mod blob;
pub mod conntrack;
pub mod flows;
pub mod ipsets;
pub mod ipvs;
pub mod keeper;
pub mod names;
pub mod netlink;
pub mod nftables;
pub mod running;
pub mod xtables;

use std::{fmt, io};

use netlink::Netfilter;

/// What kube-proxy has left, or what of it was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Tables of its own in nf_tables.
    pub tables: usize,
    /// Chains in the tables of iptables, of both kinds.
    pub chains: usize,
    /// Rules in chains of others that lead there.
    pub hooks: usize,
    /// Those of them by which packets meet its services.
    pub live: usize,
    /// Sets of ipvs mode.
    pub sets: usize,
    /// The interface of ipvs mode.
    pub interfaces: usize,
}

impl Leftovers {
    /// There is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Packets still meet its services.
    pub fn are_live(&self) -> bool {
        self.tables + self.live > 0
    }

    fn new(nftables: &nftables::Found, legacy: xtables::Found, sets: usize) -> Self {
        Self {
            tables: nftables.tables(),
            chains: nftables.chains() + legacy.chains,
            hooks: nftables.hooks() + legacy.hooks,
            live: nftables.live() + legacy.live,
            sets,
            interfaces: 0,
        }
    }
}

impl fmt::Display for Leftovers {
    /// `2 tables, 6,027 chains`, without what there is none of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.tables, "nftables tables"),
            (self.chains, "iptables chains"),
            (self.hooks, "rules that lead there"),
            (self.sets, "sets of addresses"),
            (self.interfaces, names::IPVS_INTERFACE),
        ];
        let parts: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// Looks for what kube-proxy has left in this network namespace.
pub fn leftovers() -> io::Result<Leftovers> {
    let mut nftables = nftables::Found::default();
    let mut sets = 0;
    if let Some(mut netfilter) = Netfilter::open()? {
        nftables = nftables::find(&mut netfilter)?;
        sets = ipsets::find(&mut netfilter)?.len();
    }
    let interfaces = usize::from(ipvs::is_there());
    Ok(Leftovers { interfaces, ..Leftovers::new(&nftables, xtables::find()?, sets) })
}

/// Removes its rules and sets, and tells what that was. The interface stays for connections that
/// IPVS translates, see [`ipvs::remove`].
pub fn remove() -> io::Result<Leftovers> {
    let mut netfilter = Netfilter::open()?;
    let nftables = match &mut netfilter {
        Some(netfilter) => nftables::remove(netfilter)?,
        None => nftables::Found::default(),
    };
    let legacy = xtables::remove()?;
    // Rules match the sets, so those go last.
    let sets = match &mut netfilter {
        Some(netfilter) => ipsets::remove(netfilter)?,
        None => 0,
    };
    Ok(Leftovers::new(&nftables, legacy, sets))
}

/// Removes what the take-over has added to this network namespace.
pub fn give_back() -> io::Result<()> {
    match Netfilter::open()? {
        Some(mut netfilter) => keeper::release(&mut netfilter),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_told_in_words() {
        let leftovers = Leftovers { tables: 2, chains: 6027, ..Leftovers::default() };
        assert_eq!(leftovers.to_string(), "2 nftables tables, 6027 iptables chains");
        assert_eq!(Leftovers::default().to_string(), "nothing");
    }
}
