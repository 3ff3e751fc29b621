// SPDX-License-Identifier: Apache-2.0
//! What could not be written, and why.

use std::{fmt, net::IpAddr};

use thiserror::Error;

use super::tables::PolicyMap;
use crate::{
    model::{cidr::Cidr, name::ObjectName},
    node::IfIndex,
    policy::{ClassId, RulesetId},
    reconcile::tables::WriteError,
};

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A ruleset; pods that should have it are closed.
    Ruleset(RulesetId),
    /// A class; addresses that should have it do not.
    Class(ClassId),
    /// An address.
    Address(IpAddr),
    /// A range of addresses.
    Range(Cidr),
    /// A pod's interface.
    Pod(ObjectName),
    /// An interface that is no pod's any more.
    Interface(IfIndex),
    /// The epoch; connections of before are not judged again.
    Epoch,
    /// What nothing needs any more.
    Leftovers(PolicyMap),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ruleset(id) => write!(f, "policy ruleset {:#010x}", id.0),
            Self::Class(id) => write!(f, "policy class {:#010x}", id.0),
            Self::Address(ip) => write!(f, "policy class of {ip}"),
            Self::Range(range) => write!(f, "policy class of {range}"),
            Self::Pod(pod) => write!(f, "policies of Pod {pod}"),
            Self::Interface(index) => write!(f, "policies of interface {index}, which is gone"),
            Self::Epoch => f.write_str("policy epoch"),
            Self::Leftovers(map) => write!(f, "unused entries of {}", map.name()),
        }
    }
}

/// Why it is not; it is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// Nothing of it was written, for not everything would have had room.
    #[error("{map} is full: {wanted} more entries, room for {room}", map = .map.name())]
    Full {
        /// The map.
        map: PolicyMap,
        /// Entries that are needed.
        wanted: usize,
        /// Entries that are left.
        room: usize,
    },
    /// The kernel refused a write.
    #[error("write {map}: {reason}")]
    Refused {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// Something that has to be there before could not be written, or was in use until now.
    #[error("waits for what it needs")]
    Waits,
}

impl From<&WriteError> for Failure {
    fn from(error: &WriteError) -> Self {
        let mut reason = error.source.to_string();
        let mut source = error.source.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        Self::Refused { map: error.map, reason }
    }
}
