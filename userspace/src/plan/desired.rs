// SPDX-License-Identifier: Apache-2.0
//! The planner's output: numbers and addresses only; everything Kubernetes-shaped is resolved.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::model::addr::{BackendAddr, FrontendAddr};

/// What happens to a new connection when a frontend has no usable backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoBackend {
    /// The client is refused (ICMP port unreachable).
    #[default]
    Reject,
    /// The packet is dropped: endpoints exist, but the traffic policy excludes them.
    Drop,
}

/// A backend of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DesiredBackend {
    /// Its address.
    pub addr: BackendAddr,
    /// The pod runs on this node.
    pub local: bool,
}

/// A frontend as it should be in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredFrontend {
    /// The service port it belongs to, `namespace/name:port`; equal for all its frontends.
    pub service: Arc<str>,
    /// Backends for new connections, sorted by address, without duplicates.
    pub backends: Vec<DesiredBackend>,
    /// Endpoints that take no new connections but may have old ones (terminating or unready):
    /// sorted, disjoint from `backends`.
    pub draining: Vec<DesiredBackend>,
    /// The answer when `backends` is empty.
    pub no_backend: NoBackend,
    /// Session affinity by client address, with its timeout.
    pub affinity: Option<Duration>,
}

/// A change of the desired state: for each frontend its new value, or `None` if it is to go.
///
/// Ordered, so that equal changes are written in equal order.
pub type Changes = BTreeMap<FrontendAddr, Option<DesiredFrontend>>;
