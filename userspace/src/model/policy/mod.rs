// SPDX-License-Identifier: Apache-2.0
//! Policies as they were meant: every default of the API is filled in, and what it leaves to
//! "absent or empty" is an enum.
//!
//! What could not be understood stays as `Unknown`, and whoever evaluates it fails closed.

use serde::{Deserialize, Serialize};

mod cluster_policy;
mod network_policy;
mod peer;
mod port;
mod selector;

pub use cluster_policy::{Action, ClusterNetworkPolicy, ClusterRule, Subject, Tier};
pub use network_policy::{Isolation, NetworkPolicy, Rule};
pub use peer::{IpBlock, Namespaces, Peer, Peers};
pub use port::{NamedPort, PortMatch, Ports};
pub use selector::{Labels, NAMESPACE_NAME, Requirement, Selector};

/// The way of a connection, as the pod sees it that a policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Towards the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The word Kubernetes uses, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Whether a policy decides, or only says what it would decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Enforcement {
    /// It decides.
    #[default]
    Enforced,
    /// It reports what it would drop, and drops nothing.
    Audited,
}
