// SPDX-License-Identifier: Apache-2.0
//! Which kinds are accepted, and the typed decoding of a document once its kind is known.

use serde::{Deserialize, Deserializer};

use super::{
    Converted, NameError, api, cluster_policy, endpoint_slice, namespace, network_policy, node,
    pod, service, service_cidr,
};
use crate::model::{intern::Interner, name::Kind};

/// What a document is, judged by its `apiVersion` and `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
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
    /// policy.networking.k8s.io ClusterNetworkPolicy, any version.
    ClusterNetworkPolicy,
}

impl DocumentKind {
    /// `None` for what is not accepted.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        Some(match (api_version, kind) {
            ("v1", "Service") => Self::Service,
            ("discovery.k8s.io/v1", "EndpointSlice") => Self::EndpointSlice,
            ("v1", "Node") => Self::Node,
            ("v1", "Namespace") => Self::Namespace,
            ("v1", "Pod") => Self::Pod,
            ("networking.k8s.io/v1", "ServiceCIDR") => Self::ServiceCidr,
            ("networking.k8s.io/v1", "NetworkPolicy") => Self::NetworkPolicy,
            (group, "ClusterNetworkPolicy") if group.starts_with("policy.networking.k8s.io/") => {
                Self::ClusterNetworkPolicy
            }
            _ => return None,
        })
    }

    /// The model's word for it.
    pub fn kind(self) -> Kind {
        match self {
            Self::Service => Kind::Service,
            Self::EndpointSlice => Kind::EndpointSlice,
            Self::Node => Kind::Node,
            Self::Namespace => Kind::Namespace,
            Self::Pod => Kind::Pod,
            Self::ServiceCidr => Kind::ServiceCidr,
            Self::NetworkPolicy => Kind::NetworkPolicy,
            Self::ClusterNetworkPolicy => Kind::ClusterNetworkPolicy,
        }
    }
}

/// Decodes documents, sharing repeated strings between the objects.
#[derive(Debug, Default)]
pub struct Converter {
    /// Shared strings.
    pub interner: Interner,
}

impl Converter {
    /// Decodes and converts a document.
    pub fn decode<'de, D: Deserializer<'de>>(
        &self,
        kind: DocumentKind,
        document: D,
    ) -> Result<Result<Converted, NameError>, D::Error> {
        let interner = &self.interner;
        Ok(match kind {
            DocumentKind::Service => service(&api::Service::deserialize(document)?, interner),
            DocumentKind::EndpointSlice => {
                endpoint_slice(&api::EndpointSlice::deserialize(document)?, interner)
            }
            DocumentKind::Node => node(&api::Node::deserialize(document)?, interner),
            DocumentKind::Namespace => namespace(&api::Namespace::deserialize(document)?, interner),
            DocumentKind::Pod => pod(&api::Pod::deserialize(document)?, interner),
            DocumentKind::ServiceCidr => service_cidr(&api::ServiceCidr::deserialize(document)?),
            DocumentKind::NetworkPolicy => {
                network_policy(&api::NetworkPolicy::deserialize(document)?, interner)
            }
            DocumentKind::ClusterNetworkPolicy => {
                cluster_policy(&api::ClusterNetworkPolicy::deserialize(document)?, interner)
            }
        })
    }
}
