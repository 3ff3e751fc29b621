// SPDX-License-Identifier: Apache-2.0
//! EndpointSlices, discovery.k8s.io/v1: the addresses that may answer for a Service.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use super::{
    addr::Protocol,
    ip::Family,
    name::{ObjectName, ServiceName},
};

/// A part of the endpoints of one Service, of one address family.
#[derive(Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its own name.
    pub name: ObjectName,
    /// The Service it belongs to (label `kubernetes.io/service-name`).
    pub service: ServiceName,
    /// The family of all its addresses (`addressType`).
    pub family: Family,
    /// Port numbers by name; they may differ between the slices of one Service.
    pub ports: Box<[SlicePort]>,
    /// The endpoints, in the order of the object.
    pub endpoints: Box<[Endpoint]>,
    /// How much of the connections each of them takes, compared with those of other slices, where
    /// backends are chosen as Maglev does: 1 to 100 (`pintle.dev/weight`).
    pub weight: u8,
    /// When what it tells began to be so (`endpoints.kubernetes.io/last-change-trigger-time`).
    pub trigger_time: Option<SystemTime>,
}

/// A port of every endpoint of a slice.
#[derive(Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name that ties it to a port of the Service; may be empty.
    pub name: Arc<str>,
    /// The number the pods listen on.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// An address that may answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses[0]`; kube-proxy reads no other.
    pub ip: IpAddr,
    /// Its conditions, with the API's defaults filled in.
    pub conditions: Conditions,
    /// The node it runs on, if known.
    pub node: Option<Arc<str>>,
    /// The pod behind it (`targetRef`), in the namespace of the slice.
    pub pod: Option<Arc<str>>,
    /// For whom the control plane meant it; `None` is for everybody.
    pub hints: Option<Arc<Hints>>,
}

/// Conditions of an endpoint; unset ones are ready, serving, not terminating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Takes new connections.
    pub ready: bool,
    /// Answers, whether or not it is terminating.
    pub serving: bool,
    /// On its way out.
    pub terminating: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { ready: true, serving: true, terminating: false }
    }
}

/// Topology hints of an endpoint (KEP-2433 zones, KEP-3015 nodes).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    /// Zones whose clients should use it; empty for no hint.
    pub zones: Box<[Arc<str>]>,
    /// Nodes whose clients should use it; empty for no hint.
    pub nodes: Box<[Arc<str>]>,
}

impl Hints {
    /// There is no hint of either type.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty() && self.nodes.is_empty()
    }
}
