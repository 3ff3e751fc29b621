// SPDX-License-Identifier: Apache-2.0
//! networking.k8s.io/v1 NetworkPolicy.

use super::{Direction, Enforcement, Peers, Ports, Selector};
use crate::model::name::ObjectName;

/// A NetworkPolicy: isolates pods of its namespace, and says what they may do nevertheless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Its name.
    pub name: ObjectName,
    /// Which pods of its namespace it is about.
    pub subject: Selector,
    /// Connections towards them.
    pub ingress: Isolation,
    /// Connections from them.
    pub egress: Isolation,
    /// Whether it decides.
    pub enforcement: Enforcement,
}

impl NetworkPolicy {
    /// What it says of a direction.
    pub fn isolation(&self, direction: Direction) -> &Isolation {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

/// What a NetworkPolicy does in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing: the direction is not among the policy's types.
    None,
    /// The pods are isolated, but for what one of the rules allows.
    Except(Box<[Rule]>),
}

/// One rule: what both its peers and its ports match is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The other side.
    pub peers: Peers,
    /// The destination's port.
    pub ports: Ports,
}
