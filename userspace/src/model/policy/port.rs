// SPDX-License-Identifier: Apache-2.0
//! Ports: what containers name, and what rules speak of.

use std::sync::Arc;

use crate::model::addr::Protocol;

/// A port that a container of a pod gives a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// Its name.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// The ports that a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Every port of every protocol, and what has no ports.
    Any,
    /// What one of these items matches; of none, nothing.
    Only(Box<[PortMatch]>),
}

/// One item of a rule's ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortMatch {
    /// Every port of a protocol.
    Protocol(Protocol),
    /// Ports from `first` to `last`, both included.
    Range {
        /// Their protocol.
        protocol: Protocol,
        /// The lowest.
        first: u16,
        /// The highest.
        last: u16,
    },
    /// The port that the destination pod calls so.
    Named {
        /// Its protocol; `None` if any will do.
        protocol: Option<Protocol>,
        /// Its name.
        name: Arc<str>,
    },
    /// An item that could not be understood.
    Unknown,
}
