// SPDX-License-Identifier: Apache-2.0
//! The planner's output: numbers and addresses only; everything Kubernetes-shaped is resolved.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use super::maglev::TableSize;
use crate::model::{
    addr::{BackendAddr, FrontendKey},
    cidr::Cidr,
    ip::Family,
};

/// What happens to a new connection when a frontend has no usable backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoBackend {
    /// The client is refused (ICMP port unreachable).
    #[default]
    Reject,
    /// The packet is dropped: endpoints exist, but the traffic policy excludes them.
    Drop,
}

/// Whose address is replaced by one of the node's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masquerade {
    /// Nobody's.
    #[default]
    Nobody,
    /// That of clients that are no local pods, on their way to another node.
    Others,
    /// That of every client, on its way to another node.
    Remote,
    /// That of every client, also on its way to a pod of this node.
    Always,
}

/// A backend of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DesiredBackend {
    /// Its address.
    pub addr: BackendAddr,
    /// The pod runs on this node.
    pub local: bool,
    /// Its part of a Maglev table, compared with those of others.
    pub weight: u8,
}

/// A frontend as it should be in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredFrontend {
    /// The service port it belongs to, `namespace/name:port`; equal for all its frontends.
    pub service: Arc<str>,
    /// Backends for new connections, sorted by address, without duplicates.
    pub backends: Vec<DesiredBackend>,
    /// Endpoints that take no new connections but still serve old ones: sorted, disjoint from
    /// `backends`.
    pub draining: Vec<DesiredBackend>,
    /// The answer when `backends` is empty.
    pub no_backend: NoBackend,
    /// Size of the Maglev table that leads to its backends; `None` where each has one slot, and the
    /// node's own hash chooses.
    pub table: Option<TableSize>,
    /// Session affinity by client address, with its timeout.
    pub affinity: Option<Duration>,
    /// Clients outside the cluster have the frontend of the other scope.
    pub is_split: bool,
    /// Whose address is replaced.
    pub masquerade: Masquerade,
    /// Who may use it; `None` for everybody. Equal for all restricted frontends of a service port
    /// in a family.
    pub source_ranges: Option<Arc<[Cidr]>>,
}

/// Ranges of the cluster's service addresses, by family, sorted: what in them no service has is
/// dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterRanges {
    /// IPv4.
    pub v4: Vec<Cidr>,
    /// IPv6.
    pub v6: Vec<Cidr>,
}

impl ClusterRanges {
    /// The ranges of a family.
    pub fn get(&self, family: Family) -> &[Cidr] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

/// A change of the desired state.
///
/// Ordered, so that equal changes are written in equal order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// For each frontend its new value, or `None` if it is to go.
    pub frontends: BTreeMap<FrontendKey, Option<DesiredFrontend>>,
    /// For each address that has frontends, or at which node ports answer, the flags of what else is
    /// sent to it (`pintle_abi::service::wildcard_flags`); `None` if it is neither any more.
    pub wildcards: BTreeMap<IpAddr, Option<u32>>,
    /// The cluster's service addresses, if they change.
    pub cluster_ranges: Option<ClusterRanges>,
}

impl DesiredFrontend {
    /// The weights of its backends in a Maglev table; empty if there is no table, or all are alike.
    pub fn weights(&self) -> Vec<u8> {
        let weights: Vec<u8> = self.backends.iter().map(|backend| backend.weight).collect();
        let are_alike = weights.windows(2).all(|pair| pair[0] == pair[1]);
        if self.table.is_none() || are_alike { Vec::new() } else { weights }
    }

    /// Number of slots that it takes.
    pub fn slots(&self) -> usize {
        match self.table {
            Some(size) if !self.backends.is_empty() => size.slots() as usize,
            _ => self.backends.len(),
        }
    }
}

impl Changes {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.frontends.is_empty() && self.wildcards.is_empty() && self.cluster_ranges.is_none()
    }
}
