// SPDX-License-Identifier: Apache-2.0
//! Entries of the policy maps in the words of people. Pure.

use std::net::IpAddr;

use pintle_abi::{
    addr::{V4, V6, proto},
    counter::Hook,
    drop_reason::DropReason,
    policy::{self as abi, Denied, DeniedKey, Endpoint, Row, outcome},
    socket::family,
};

use super::entry::AbiAddr as _;
use crate::{
    model::policy::Direction,
    node::IfIndex,
    policy::{AllowedKey, DenialKey, Outcome, Reading},
};

/// Packets that policies denied, or would deny, counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedEntry {
    /// What they have in common.
    pub key: DenialKey,
    /// How many.
    pub packets: u64,
    /// When the last one was judged, `CLOCK_MONOTONIC` in ns.
    pub last_seen_ns: u64,
    /// The peer of the last one; the source that it used if that was not the pod's.
    pub peer: IpAddr,
    /// Its IP protocol number.
    pub proto: u8,
    /// Its port at the server; 0 if the protocol has none.
    pub port: u16,
    /// The hook that judged it.
    pub hook: Option<Hook>,
}

impl DeniedEntry {
    /// The protocol by its name, or its number.
    pub fn protocol(&self) -> String {
        match self.proto {
            proto::ICMP => "ICMP".into(),
            proto::TCP => "TCP".into(),
            proto::UDP => "UDP".into(),
            proto::ICMPV6 => "ICMPv6".into(),
            proto::SCTP => "SCTP".into(),
            number => number.to_string(),
        }
    }
}

/// Connections that policies allowed, counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedEntry {
    /// What allowed them.
    pub key: AllowedKey,
    /// How many.
    pub connections: u64,
}

/// A pod of this node as the programs know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointEntry {
    /// Its interface.
    pub index: IfIndex,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Number of the ruleset of what it sends.
    pub egress: u32,
    /// The same of what it receives.
    pub ingress: u32,
    /// The same of what it sends to itself through a service.
    pub hairpin_egress: u32,
    /// The same of what it receives from itself.
    pub hairpin_ingress: u32,
}

impl EndpointEntry {
    /// The ruleset that holds for a peer.
    pub fn ruleset(&self, direction: Direction, peer: IpAddr) -> u32 {
        match (direction, self.ips.contains(&peer)) {
            (Direction::Egress, false) => self.egress,
            (Direction::Ingress, false) => self.ingress,
            (Direction::Egress, true) => self.hairpin_egress,
            (Direction::Ingress, true) => self.hairpin_ingress,
        }
    }
}

/// What a row says of a port class.
pub(super) fn is_allowed(row: &Row, port_class: u8, reading: Reading) -> bool {
    let bits = match reading {
        Reading::Enforced => row.allow,
        Reading::Staged => row.staged,
    };
    bits[usize::from(port_class / 64)] >> (port_class % 64) & 1 == 1
}

/// Denials; `None` of an outcome that is no verdict.
pub(super) fn denied(key: &DeniedKey, value: &Denied) -> Option<DeniedEntry> {
    let peer = match u32::from(value.family) {
        family::V4 => V4(value.peer[0]).ip(),
        family::V6 => V6(value.peer).ip(),
        // Counted this moment, and not filled in yet.
        _ => return None,
    };
    let hooks = Hook::ALL.iter().copied();
    let hook = hooks.into_iter().find(|hook| *hook as u32 == value.hook);
    let direction = if key.ingress == 0 { Direction::Egress } else { Direction::Ingress };
    let key = DenialKey {
        ifindex: key.ifindex,
        ruleset: key.ruleset,
        class: key.class,
        port_class: u8::try_from(key.port_class).ok()?,
        direction,
        outcome: outcome_of(key.outcome)?,
    };
    Some(DeniedEntry {
        key,
        packets: value.packets,
        last_seen_ns: value.last_seen_ns,
        peer,
        proto: value.proto,
        port: u16::from_be(value.port),
        hook,
    })
}

/// Allowed connections; `None` of what is no port class.
pub(super) fn allowed(key: &abi::AllowedKey, value: &abi::Allowed) -> Option<AllowedEntry> {
    let port_class = u8::try_from(key.port_class).ok()?;
    let key = AllowedKey { ruleset: key.ruleset, class: key.class, port_class };
    Some(AllowedEntry { key, connections: value.connections })
}

fn outcome_of(number: u8) -> Option<Outcome> {
    if number == outcome::WOULD_DROP {
        return Some(Outcome::WouldDeny);
    }
    match DropReason::ALL.get(usize::from(number))? {
        DropReason::DeniedEgress | DropReason::DeniedIngress => Some(Outcome::Denied),
        DropReason::PolicyCapacity => Some(Outcome::Closed),
        DropReason::RowMissing => Some(Outcome::RowMissing),
        DropReason::NotProgrammed => Some(Outcome::NotProgrammed),
        DropReason::Spoofed => Some(Outcome::Spoofed),
        _ => None,
    }
}

/// A pod of this node.
pub(super) fn endpoint(index: u32, value: &Endpoint) -> EndpointEntry {
    let ips = [value.v4.ip(), value.v6.ip()];
    EndpointEntry {
        index: IfIndex(index),
        ips: ips.into_iter().filter(|ip| !ip.is_unspecified()).collect(),
        egress: value.egress,
        ingress: value.ingress,
        hairpin_egress: value.hairpin_egress,
        hairpin_ingress: value.hairpin_ingress,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_denial_is_told_in_host_byte_order_with_its_direction_and_outcome() {
        let key = DeniedKey {
            ifindex: 7,
            ruleset: 9,
            class: 5,
            port_class: 255,
            ingress: 1,
            outcome: DropReason::DeniedIngress as u8,
        };
        let value = Denied {
            packets: 3,
            peer: [V4::from(Ipv4Addr::new(10, 0, 0, 1)).0, 0, 0, 0],
            port: 8080_u16.to_be(),
            proto: 6,
            family: 4,
            hook: 1,
            ..Denied::default()
        };
        let found = denied(&key, &value).unwrap();
        assert_eq!(found.peer.to_string(), "10.0.0.1");
        assert_eq!((found.port, found.proto, found.packets), (8080, 6, 3));
        assert_eq!(found.hook, Some(Hook::ToPod));
        let (direction, outcome) = (Direction::Ingress, Outcome::Denied);
        let expected =
            DenialKey { ifindex: 7, ruleset: 9, class: 5, port_class: 255, direction, outcome };
        assert_eq!(found.key, expected);
    }

    #[test]
    fn every_outcome_that_the_programs_note_has_a_word() {
        let value = Denied { family: 4, ..Denied::default() };
        let of = |outcome: u8| denied(&DeniedKey { outcome, ..DeniedKey::default() }, &value);
        let word = |number: u8| of(number).unwrap().key.outcome.as_str();
        assert_eq!(word(outcome::WOULD_DROP), "would-deny");
        assert_eq!(word(DropReason::DeniedEgress as u8), "denied");
        assert_eq!(word(DropReason::PolicyCapacity as u8), "closed");
        assert_eq!(word(DropReason::RowMissing as u8), "row-missing");
        assert_eq!(word(DropReason::NotProgrammed as u8), "not-programmed");
        assert_eq!(word(DropReason::Spoofed as u8), "spoofed");
        assert_eq!(of(200), None);
        assert_eq!(of(DropReason::Malformed as u8), None);
    }

    #[test]
    fn a_row_has_a_bit_for_each_port_class() {
        let row = Row { allow: [0, 1 << 3, 0, 0], staged: [1, 0, 0, 1 << 63] };
        assert!(
            is_allowed(&row, 67, Reading::Enforced) && !is_allowed(&row, 66, Reading::Enforced)
        );
        assert!(is_allowed(&row, 255, Reading::Staged) && is_allowed(&row, 0, Reading::Staged));
        assert!(!is_allowed(&row, 67, Reading::Staged));
    }

    #[test]
    fn a_pod_that_dials_itself_has_rulesets_of_its_own() {
        let value = Endpoint {
            v4: V4::from(Ipv4Addr::new(10, 0, 0, 1)),
            egress: 2,
            ingress: 3,
            hairpin_egress: 4,
            hairpin_ingress: 5,
            ..Endpoint::default()
        };
        let entry = endpoint(7, &value);
        let (own, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let rulesets = |peer| Direction::ALL.map(|direction| entry.ruleset(direction, peer));
        assert_eq!((rulesets(other), rulesets(own)), ([3, 2], [5, 4]));
        assert_eq!(entry.ips, [own]);
    }
}
