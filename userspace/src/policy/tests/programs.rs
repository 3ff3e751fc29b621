// SPDX-License-Identifier: Apache-2.0
//! The look-ups that the kernel's programs do, in tables that are changed entry by entry.

use std::{collections::BTreeMap, net::IpAddr};

use super::evaluator::{Wanted, Way};
use crate::{
    model::{cidr::Cidr, ip::Family, name::ObjectName, policy::Direction},
    policy::{Changes, ClassId, PortPrefix, Reading, RulesetId, Tables},
};

/// What the programs see of a pod's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    pub ruleset: RulesetId,
    pub class: ClassId,
    pub port_class: u8,
    pub is_allowed: bool,
}

impl Tables {
    /// Writes changes in their order, and looks after every single write whether all rows are there
    /// that a packet may need.
    pub(super) fn write(&mut self, changes: &Changes, watch: impl Fn(&Self)) {
        self.ports.extend(changes.ports.iter().copied());
        self.rows.extend(changes.rows.iter().copied());
        watch(self);
        for (name, endpoint) in &changes.early_endpoints {
            self.endpoints.insert(name.clone(), endpoint.clone());
            watch(self);
        }
        for (cidr, class) in &changes.ranges {
            self.ranges.insert(*cidr, *class);
            watch(self);
        }
        for (ip, class) in &changes.peers {
            self.peers.insert(*ip, *class);
            watch(self);
        }
        for ip in &changes.gone_peers {
            assert!(self.peers.remove(ip).is_some(), "{ip} was not there");
            watch(self);
        }
        for cidr in &changes.gone_ranges {
            assert!(self.ranges.remove(cidr).is_some(), "{cidr} was not there");
            watch(self);
        }
        for (name, endpoint) in &changes.endpoints {
            self.endpoints.insert(name.clone(), endpoint.clone());
            watch(self);
        }
        for name in &changes.gone_endpoints {
            assert!(self.endpoints.remove(name).is_some(), "{name} was not there");
            watch(self);
        }
        for key in &changes.gone_rows {
            assert!(self.rows.remove(key).is_some(), "{key:?} was not there");
        }
        for key in &changes.gone_ports {
            assert!(self.ports.remove(key).is_some(), "{key:?} was not there");
        }
        watch(self);
    }

    pub(super) fn class(&self, ip: IpAddr) -> ClassId {
        if let Some(class) = self.peers.get(&ip) {
            return *class;
        }
        let longest = match Family::of(ip) {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        let mut prefixes = (0..=longest).rev().filter_map(|length| Cidr::new(ip, length));
        let found = prefixes.find_map(|prefix| self.ranges.get(&prefix));
        found.copied().unwrap_or(ClassId::NOTHING)
    }

    pub(super) fn ruleset(&self, pod: &ObjectName, direction: Direction, way: Way) -> RulesetId {
        let endpoint = &self.endpoints[pod];
        match (direction, way) {
            (Direction::Egress, Way::Direct) => endpoint.egress,
            (Direction::Ingress, Way::Direct) => endpoint.ingress,
            (Direction::Egress, Way::Hairpin) => endpoint.hairpin_egress,
            (Direction::Ingress, Way::Hairpin) => endpoint.hairpin_ingress,
        }
    }

    /// The port classes of a ruleset, as a table of their own.
    pub(super) fn port_classes(&self, ruleset: RulesetId) -> BTreeMap<PortPrefix, u8> {
        let own = self.ports.iter().filter(|((id, _), _)| *id == ruleset);
        own.map(|((_, prefix), class)| (*prefix, *class)).collect()
    }

    pub(super) fn look(
        &self,
        ruleset: RulesetId,
        class: ClassId,
        port_class: u8,
        reading: Reading,
    ) -> Looked {
        let is_allowed = match ruleset {
            RulesetId::OPEN => true,
            RulesetId::CLOSED => false,
            _ => {
                let Some(row) = self.rows.get(&(ruleset, class)) else {
                    panic!("no row of {ruleset:?} for {class:?}");
                };
                let bits = match reading {
                    Reading::Enforced => row.allow,
                    Reading::Staged => row.staged,
                };
                bits[usize::from(port_class / 64)] >> (port_class % 64) & 1 == 1
            }
        };
        Looked { ruleset, class, port_class, is_allowed }
    }

    /// Every row is there that the rulesets of endpoints and the classes of addresses may need.
    pub(super) fn assert_whole(&self) {
        let rulesets = self.endpoints.values().flat_map(|endpoint| endpoint.rulesets());
        let classes = || self.peers.values().chain(self.ranges.values()).chain(&[ClassId::NOTHING]);
        for ruleset in rulesets.filter(|id| *id != RulesetId::OPEN && *id != RulesetId::CLOSED) {
            for class in classes() {
                assert!(self.rows.contains_key(&(ruleset, *class)), "{ruleset:?} {class:?}");
            }
        }
    }
}

/// The class of a port by longest match.
pub fn port_class(ports: &BTreeMap<PortPrefix, u8>, wanted: Wanted) -> u8 {
    let Wanted::Port(protocol, port) = wanted else { return 0 };
    if ports.is_empty() {
        return 0;
    }
    let found = (0..=16_u8).rev().find_map(|bits| {
        let mask = u16::MAX.checked_shl(u32::from(16 - bits)).unwrap_or(0);
        ports.get(&PortPrefix { protocol, port: port & mask, bits })
    });
    found.copied().unwrap_or(0)
}
