// SPDX-License-Identifier: Apache-2.0
//! The API's objects, down to the fields that are read here.
//!
//! A cluster's pods are mostly fields that are nobody's business here: who manages which field,
//! volumes, conditions. They are passed over without being decoded. What is decoded borrows its texts
//! from the document where that can be; what a conversion keeps, it copies or interns.
//!
//! Nearly every field is an option, since absent and `null` mean the same in the API, and what is required
//! may be absent in a file. What each means is said at its conversion and in the API's reference.

mod cluster;
mod cluster_policy;
mod fields;
mod metadata;
mod network_policy;
mod service;
mod slice;
mod text;

pub use cluster::{Namespace, Node, NodeSpec, Pod, PodSpec, PodStatus, ServiceCidr};
pub use cluster_policy::{
    ClusterNetworkPolicy, ClusterNetworkPolicySpec, ClusterPeer, ClusterPods, ClusterProtocol,
    ClusterRule, ClusterSubject, ClusterTransport, Unknown,
};
pub use fields::{Fields, List};
pub use metadata::{LabelSelector, ObjectMeta};
pub use network_policy::{
    IpBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
pub use service::{LoadBalancerIngress, Service, ServicePort, ServiceSpec, ServiceStatus};
pub use slice::{Endpoint, EndpointHints, EndpointSlice, Hint};
pub use text::Text;
