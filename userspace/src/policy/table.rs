// SPDX-License-Identifier: Apache-2.0
//! What the compiler gives out: the tables that the programs look into, and changes of them.

use std::{collections::BTreeMap, net::IpAddr};

use crate::model::{addr::Protocol, cidr::Cidr, name::ObjectName};

/// The number of a ruleset: what pods may do in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulesetId(pub u32);

impl RulesetId {
    /// Nothing is judged.
    pub const OPEN: Self = Self(0);
    /// Everything is dropped: what should be judged cannot be.
    pub const CLOSED: Self = Self(1);
    /// How many ids are no rulesets of their own.
    pub(super) const RESERVED: u32 = 2;
}

/// The number of a class: addresses that no ruleset in use tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u32);

impl ClassId {
    /// Addresses for which nothing holds.
    pub const NOTHING: Self = Self(0);
}

/// Ports of a protocol that share their first bits; with 0 bits, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortPrefix {
    /// The protocol.
    pub protocol: Protocol,
    /// The lowest port.
    pub port: u16,
    /// How many bits they share.
    pub bits: u8,
}

/// The verdicts of a ruleset for a class, a bit for each port class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// What passes.
    pub allow: [u64; 4],
    /// What would pass if audited policies were enforced.
    pub staged: [u64; 4],
}

impl Row {
    /// It lets something pass that `newer` does not.
    pub fn is_narrowed_by(&self, newer: &Self) -> bool {
        self.allow.iter().zip(&newer.allow).any(|(old, new)| old & !new != 0)
    }
}

/// What the programs know of a pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The addresses that are its own.
    pub ips: Box<[IpAddr]>,
    /// What it may dial.
    pub egress: RulesetId,
    /// Who may dial it.
    pub ingress: RulesetId,
    /// What holds in place of `egress` where a service leads it to itself.
    pub hairpin_egress: RulesetId,
    /// What holds in place of `ingress` there.
    pub hairpin_ingress: RulesetId,
}

impl Endpoint {
    /// Its rulesets.
    pub fn rulesets(&self) -> [RulesetId; 4] {
        [self.egress, self.ingress, self.hairpin_egress, self.hairpin_ingress]
    }

    /// The same with other rulesets.
    pub(super) fn with(&self, ruleset: impl Fn(RulesetId) -> RulesetId) -> Self {
        Self {
            ips: self.ips.clone(),
            egress: ruleset(self.egress),
            ingress: ruleset(self.ingress),
            hairpin_egress: ruleset(self.hairpin_egress),
            hairpin_ingress: ruleset(self.hairpin_ingress),
        }
    }

    /// Something of what it does is judged.
    pub fn is_policed(&self) -> bool {
        self.rulesets() != [RulesetId::OPEN; 4]
    }
}

/// Key of a port class.
pub type PortKey = (RulesetId, PortPrefix);
/// Key of a row.
pub type RowKey = (RulesetId, ClassId);

/// A change of the tables, to be written in the order of the fields and each list in its own order.
///
/// Then no row is missing at any time, and where one object has changed, every packet meets a
/// verdict of before or of after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New port classes.
    pub ports: Vec<(PortKey, u8)>,
    /// New rows.
    pub rows: Vec<(RowKey, Row)>,
    /// Pods that are new or have other rulesets, which classes of before can be judged by; and
    /// those of which a direction is closed before what comes next.
    pub early_endpoints: Vec<(ObjectName, Endpoint)>,
    /// Ranges that are new or have another class, the longest prefix first.
    pub ranges: Vec<(Cidr, ClassId)>,
    /// Addresses that are new or have another class.
    pub peers: Vec<(IpAddr, ClassId)>,
    /// Addresses that fall back to their range.
    pub gone_peers: Vec<IpAddr>,
    /// Ranges that fall back to a shorter prefix, the shortest first.
    pub gone_ranges: Vec<Cidr>,
    /// Pods that are new or have other rulesets, which ask what only new classes answer.
    pub endpoints: Vec<(ObjectName, Endpoint)>,
    /// Pods that are not here any more.
    pub gone_endpoints: Vec<ObjectName>,
    /// Something that was allowed may be denied now: the policy epoch moves, after everything above
    /// is written.
    pub narrows: bool,
    /// Rows that nothing has led to since the change before this one.
    pub gone_rows: Vec<RowKey>,
    /// Port classes of which the same is true.
    pub gone_ports: Vec<PortKey>,
}

impl Changes {
    /// There is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The whole of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Port classes; what has no entry is in port class 0.
    pub ports: BTreeMap<PortKey, u8>,
    /// Verdicts.
    pub rows: BTreeMap<RowKey, Row>,
    /// Classes of addresses that are not among the peers, by longest match; otherwise
    /// [`ClassId::NOTHING`].
    pub ranges: BTreeMap<Cidr, ClassId>,
    /// Classes of pods and nodes.
    pub peers: BTreeMap<IpAddr, ClassId>,
    /// Pods of this node.
    pub endpoints: BTreeMap<ObjectName, Endpoint>,
}

/// How many entries there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Port classes.
    pub ports: usize,
    /// Rows.
    pub rows: usize,
    /// Ranges of each family.
    pub ranges: usize,
    /// Addresses of each family.
    pub peers: usize,
}

/// How many entries tables have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Port classes.
    pub ports: usize,
    /// Rows.
    pub rows: usize,
    /// Ranges of both families.
    pub ranges: usize,
    /// Addresses of both families.
    pub peers: usize,
    /// Pods of this node.
    pub endpoints: usize,
}
