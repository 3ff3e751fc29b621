// SPDX-License-Identifier: Apache-2.0
//! Any object of the model, shared between its source and its users.

use std::sync::Arc;

use super::{
    cluster::{Namespace, Node, Pod, ServiceCidr},
    name::{Kind, ObjectName, ObjectRef},
    policy::{ClusterNetworkPolicy, NetworkPolicy},
    service::Service,
    slice::EndpointSlice,
};

/// An object of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Arc<Service>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Node.
    Node(Arc<Node>),
    /// A Namespace.
    Namespace(Arc<Namespace>),
    /// A Pod.
    Pod(Arc<Pod>),
    /// A ServiceCIDR.
    ServiceCidr(Arc<ServiceCidr>),
    /// A NetworkPolicy.
    NetworkPolicy(Arc<NetworkPolicy>),
    /// A ClusterNetworkPolicy.
    ClusterNetworkPolicy(Arc<ClusterNetworkPolicy>),
}

impl Object {
    /// Its kind and name.
    pub fn object_ref(&self) -> ObjectRef {
        let (kind, name): (Kind, &ObjectName) = match self {
            Self::Service(service) => (Kind::Service, &service.name),
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, &slice.name),
            Self::Node(node) => (Kind::Node, &node.name),
            Self::Namespace(namespace) => (Kind::Namespace, &namespace.name),
            Self::Pod(pod) => (Kind::Pod, &pod.name),
            Self::ServiceCidr(cidr) => (Kind::ServiceCidr, &cidr.name),
            Self::NetworkPolicy(policy) => (Kind::NetworkPolicy, &policy.name),
            Self::ClusterNetworkPolicy(policy) => (Kind::ClusterNetworkPolicy, &policy.name),
        };
        ObjectRef::new(kind, name.clone())
    }
}
