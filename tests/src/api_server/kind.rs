// SPDX-License-Identifier: Apache-2.0
//! The kinds of objects that the server has, and what the API says of each: one row per kind.

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `v1` Service.
    Service,
    /// `v1` Node.
    Node,
    /// `v1` Namespace.
    Namespace,
    /// `v1` Pod.
    Pod,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
    /// `networking.k8s.io/v1` ServiceCIDR.
    ServiceCidr,
    /// `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicy.
    ClusterNetworkPolicy,
}

/// Whether names are unique in a namespace or in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Namespaced,
    Cluster,
}

/// Where the kind comes from. Items in a list of a built-in kind do not say their kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    BuiltIn,
    CustomResourceDefinition,
}

/// What the API says of a kind.
pub(super) struct Description {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub scope: Scope,
    pub origin: Origin,
    /// What field selectors may ask for, besides name and namespace, and what it is if not said.
    pub fields: &'static [(&'static str, &'static str)],
    /// What an object without content shows behind its metadata, in bookmarks.
    pub empty: &'static str,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] = [
        Kind::Service,
        Kind::Node,
        Kind::Namespace,
        Kind::Pod,
        Kind::EndpointSlice,
        Kind::NetworkPolicy,
        Kind::ServiceCidr,
        Kind::ClusterNetworkPolicy,
    ];

    /// Its name in paths and roles.
    pub fn plural(self) -> &'static str {
        self.description().plural
    }

    /// Its API group, empty for the core group.
    pub fn group(self) -> &'static str {
        self.description().group
    }

    /// `v1`, or group and version.
    pub(super) fn api_version(self) -> String {
        let Description { group, version, .. } = self.description();
        if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") }
    }

    /// The kind that an object says it is of.
    pub(super) fn named(api_version: &str, kind: &str) -> Option<Kind> {
        let is_it = |it: &Kind| it.description().kind == kind && it.api_version() == api_version;
        Kind::ALL.into_iter().find(is_it)
    }

    /// The kind behind a path.
    pub(super) fn at(group: &str, version: &str, plural: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| {
            let it = kind.description();
            (it.group, it.version, it.plural) == (group, version, plural)
        })
    }

    /// Whether a path is in a group of built-in kinds.
    pub(super) fn is_group_path(path: &str) -> bool {
        let mut built_in =
            Kind::ALL.into_iter().filter(|kind| kind.description().origin == Origin::BuiltIn);
        built_in.any(|kind| {
            let root = if kind.group().is_empty() { "/api" } else { "/apis" };
            path.starts_with(&format!("{root}/{}/", kind.api_version()))
        })
    }

    pub(super) fn description(self) -> &'static Description {
        match self {
            Kind::Service => &SERVICE,
            Kind::Node => &NODE,
            Kind::Namespace => &NAMESPACE,
            Kind::Pod => &POD,
            Kind::EndpointSlice => &ENDPOINT_SLICE,
            Kind::NetworkPolicy => &NETWORK_POLICY,
            Kind::ServiceCidr => &SERVICE_CIDR,
            Kind::ClusterNetworkPolicy => &CLUSTER_NETWORK_POLICY,
        }
    }
}

const SERVICE: Description = Description {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    scope: Scope::Namespaced,
    origin: Origin::BuiltIn,
    fields: &[("spec.clusterIP", ""), ("spec.type", "")],
    empty: r#","spec":{},"status":{"loadBalancer":{}}"#,
};

const NODE: Description = Description {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    scope: Scope::Cluster,
    origin: Origin::BuiltIn,
    fields: &[("spec.unschedulable", "false")],
    empty: r#","spec":{},"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}}}"#,
};

const NAMESPACE: Description = Description {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    scope: Scope::Cluster,
    origin: Origin::BuiltIn,
    fields: &[("status.phase", "")],
    empty: r#","spec":{},"status":{}"#,
};

const POD: Description = Description {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    scope: Scope::Namespaced,
    origin: Origin::BuiltIn,
    fields: &[
        ("spec.nodeName", ""),
        ("spec.hostNetwork", "false"),
        ("status.phase", ""),
        ("status.podIP", ""),
    ],
    empty: r#","spec":{"containers":null},"status":{}"#,
};

const ENDPOINT_SLICE: Description = Description {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    scope: Scope::Namespaced,
    origin: Origin::BuiltIn,
    fields: &[],
    empty: r#","addressType":"","endpoints":null,"ports":null"#,
};

const NETWORK_POLICY: Description = Description {
    group: "networking.k8s.io",
    version: "v1",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    scope: Scope::Namespaced,
    origin: Origin::BuiltIn,
    fields: &[],
    empty: r#","spec":{"podSelector":{}}"#,
};

const SERVICE_CIDR: Description = Description {
    group: "networking.k8s.io",
    version: "v1",
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    scope: Scope::Cluster,
    origin: Origin::BuiltIn,
    fields: &[],
    empty: r#","spec":{},"status":{}"#,
};

const CLUSTER_NETWORK_POLICY: Description = Description {
    group: "policy.networking.k8s.io",
    version: "v1alpha2",
    kind: "ClusterNetworkPolicy",
    plural: "clusternetworkpolicies",
    scope: Scope::Cluster,
    origin: Origin::CustomResourceDefinition,
    fields: &[],
    empty: "",
};
