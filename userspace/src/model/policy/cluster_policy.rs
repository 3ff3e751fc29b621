// SPDX-License-Identifier: Apache-2.0
//! policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy.

use std::sync::Arc;

use super::{Direction, Enforcement, Labels, Peer, Ports, Selector};
use crate::model::name::ObjectName;

/// A ClusterNetworkPolicy: ordered rules before or behind those of namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNetworkPolicy {
    /// Its name.
    pub name: ObjectName,
    /// Before or behind NetworkPolicies.
    pub tier: Tier,
    /// Smaller comes first; equal ones go by name.
    pub priority: u16,
    /// Which pods it is about.
    pub subject: Subject,
    /// Connections towards them.
    pub ingress: Box<[ClusterRule]>,
    /// Connections from them.
    pub egress: Box<[ClusterRule]>,
    /// Whether it decides.
    pub enforcement: Enforcement,
}

impl ClusterNetworkPolicy {
    /// Its rules of a direction.
    pub fn rules(&self, direction: Direction) -> &[ClusterRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

/// Where a policy stands; the first tier that decides has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// ClusterNetworkPolicies that come first.
    Admin,
    /// NetworkPolicies.
    NetworkPolicy,
    /// ClusterNetworkPolicies that come last.
    Baseline,
}

impl Tier {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "Admin",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Baseline => "Baseline",
        }
    }
}

/// The pods that a ClusterNetworkPolicy is about; never pods in a node's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// In namespaces with these labels,
    pub namespaces: Selector,
    /// with these labels.
    pub pods: Selector,
}

impl Subject {
    /// A pod with these labels is among them.
    pub fn matches(&self, namespace: &Labels, pod: &Labels) -> bool {
        self.namespaces.matches(namespace) && self.pods.matches(pod)
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRule {
    /// Its name; `None` if it has none.
    pub name: Option<Arc<str>>,
    /// What becomes of a connection that it matches.
    pub action: Action,
    /// The other side.
    pub peers: Box<[Peer]>,
    /// The destination's port.
    pub ports: Ports,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Allows, finally.
    Accept,
    /// Denies, finally.
    Deny,
    /// Skips the rest of its tier.
    Pass,
}

impl Action {
    /// The word Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "Accept",
            Self::Deny => "Deny",
            Self::Pass => "Pass",
        }
    }
}
