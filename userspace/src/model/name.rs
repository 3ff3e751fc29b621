// SPDX-License-Identifier: Apache-2.0
//! Names of objects: what an object is called, and how a message refers to it.

use std::{fmt, sync::Arc};

/// The name of an object within its kind: `namespace/name`, or `name` if it is cluster-scoped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<str>);

/// The name of a Service.
pub type ServiceName = ObjectName;

impl ObjectName {
    /// The name of an object in a namespace.
    pub fn namespaced(namespace: &str, name: &str) -> Self {
        let mut full = String::with_capacity(namespace.len() + 1 + name.len());
        full.push_str(namespace);
        full.push('/');
        full.push_str(name);
        Self(full.into())
    }

    /// The name of a cluster-scoped object.
    pub fn cluster(name: &str) -> Self {
        Self(name.into())
    }

    /// The namespace; empty if the object is cluster-scoped.
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The name without its namespace.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// `namespace/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kind of an object, or of the thing that should have held one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// v1 Node.
    Node,
    /// v1 Namespace.
    Namespace,
    /// v1 Pod.
    Pod,
    /// networking.k8s.io/v1 ServiceCIDR.
    ServiceCidr,
    /// networking.k8s.io/v1 NetworkPolicy.
    NetworkPolicy,
    /// policy.networking.k8s.io ClusterNetworkPolicy.
    ClusterNetworkPolicy,
    /// A file of the directory source, named where its content cannot be.
    File,
    /// The directory of the directory source.
    Directory,
    /// The API source's watch of a resource.
    Watch,
    /// A kind that Pintle does not know.
    Other(Arc<str>),
}

impl Kind {
    /// The word Kubernetes uses.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::ServiceCidr => "ServiceCIDR",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::File => "File",
            Self::Directory => "Directory",
            Self::Watch => "Watch",
            Self::Other(kind) => kind,
        }
    }

    /// Objects of this kind live outside of namespaces. Of unknown kinds we cannot tell.
    pub fn is_cluster_scoped(&self) -> bool {
        matches!(
            self,
            Self::Node
                | Self::Namespace
                | Self::ServiceCidr
                | Self::ClusterNetworkPolicy
                | Self::File
                | Self::Directory
                | Self::Watch
        )
    }
}

/// An object as messages name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name within the kind.
    pub name: ObjectName,
}

impl ObjectRef {
    /// Names an object.
    pub fn new(kind: Kind, name: ObjectName) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for ObjectRef {
    /// `Service shop/web`, `Node worker-1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_as_kind_and_full_name() {
        let service = ObjectRef::new(Kind::Service, ObjectName::namespaced("shop", "web"));
        assert_eq!(service.to_string(), "Service shop/web");
        assert_eq!((service.name.namespace(), service.name.name()), ("shop", "web"));

        let node = ObjectRef::new(Kind::Node, ObjectName::cluster("worker-1"));
        assert_eq!(node.to_string(), "Node worker-1");
        assert_eq!((node.name.namespace(), node.name.name()), ("", "worker-1"));
    }
}
