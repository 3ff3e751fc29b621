// SPDX-License-Identifier: Apache-2.0
//! What is asked of the API server: the one list of resources, which the ClusterRole repeats.

use std::borrow::Cow;

use super::Interest;
use crate::{model::name::Kind, source::convert::DocumentKind};

/// A resource that is listed and watched.
#[derive(Debug)]
pub struct Resource {
    /// What its objects are.
    pub kind: DocumentKind,
    /// Its API group; empty for the core group.
    pub group: &'static str,
    /// The version that is asked for.
    pub version: &'static str,
    /// Its name in paths and roles.
    pub plural: &'static str,
    /// Which of its objects are asked for, by their labels.
    pub labels: &'static str,
    fields: Fields,
    need: Need,
}

/// Which objects are asked for, by their fields.
#[derive(Clone, Copy, Debug)]
enum Fields {
    All,
    Selected(&'static str),
    /// Without policies our own one.
    Node,
}

/// When a resource is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Always,
    /// Always, from servers that have it.
    Optional,
    /// For policies.
    Policies,
    /// For policies, where its CustomResourceDefinition is installed.
    OptionalForPolicies,
}

/// All of them. Services and their slices are selected as kube-proxy does it.
pub const RESOURCES: [Resource; 8] = [
    Resource {
        labels: "!service.kubernetes.io/service-proxy-name",
        fields: Fields::Selected("spec.clusterIP!=None"),
        ..resource(DocumentKind::Service, ("", "v1", "services"), Need::Always)
    },
    Resource {
        labels: "!service.kubernetes.io/headless",
        ..resource(
            DocumentKind::EndpointSlice,
            ("discovery.k8s.io", "v1", "endpointslices"),
            Need::Always,
        )
    },
    Resource {
        fields: Fields::Node,
        ..resource(DocumentKind::Node, ("", "v1", "nodes"), Need::Always)
    },
    resource(
        DocumentKind::ServiceCidr,
        ("networking.k8s.io", "v1", "servicecidrs"),
        Need::Optional,
    ),
    resource(DocumentKind::Namespace, ("", "v1", "namespaces"), Need::Policies),
    resource(DocumentKind::Pod, ("", "v1", "pods"), Need::Policies),
    resource(
        DocumentKind::NetworkPolicy,
        ("networking.k8s.io", "v1", "networkpolicies"),
        Need::Policies,
    ),
    resource(
        DocumentKind::ClusterNetworkPolicy,
        ("policy.networking.k8s.io", "v1alpha2", "clusternetworkpolicies"),
        Need::OptionalForPolicies,
    ),
];

const fn resource(
    kind: DocumentKind,
    (group, version, plural): (&'static str, &'static str, &'static str),
    need: Need,
) -> Resource {
    Resource { kind, group, version, plural, labels: "", fields: Fields::All, need }
}

impl Resource {
    /// Those that are needed.
    pub(super) fn wanted(interest: &Interest) -> impl Iterator<Item = &'static Self> + use<> {
        let policies = interest.policies;
        RESOURCES.iter().filter(move |resource| match resource.need {
            Need::Always | Need::Optional => true,
            Need::Policies | Need::OptionalForPolicies => policies,
        })
    }

    /// A server without it is no reason to wait.
    pub(super) fn is_optional(&self) -> bool {
        matches!(self.need, Need::Optional | Need::OptionalForPolicies)
    }

    /// The selector of objects by their fields; empty for all.
    pub(super) fn fields(&self, interest: &Interest) -> Cow<'static, str> {
        match self.fields {
            Fields::All => "".into(),
            Fields::Selected(selector) => selector.into(),
            Fields::Node if interest.policies => "".into(),
            Fields::Node => format!("metadata.name={}", interest.node_name).into(),
        }
    }

    /// How roles and messages name it: `networkpolicies.networking.k8s.io`.
    pub fn full_name(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The one that holds objects of a kind.
    pub(super) fn of(kind: &Kind) -> Option<&'static Self> {
        RESOURCES.iter().find(|resource| resource.kind.kind() == *kind)
    }

    /// `networking.k8s.io/v1`.
    pub(super) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }
}
