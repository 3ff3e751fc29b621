// SPDX-License-Identifier: Apache-2.0
//! policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy.
//!
//! The API grows by new kinds of peers and protocols, which it wants to fail closed where they are
//! not known. So every union keeps the names of fields that it does not have.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::{Fields, LabelSelector, List, ObjectMeta, Text};

/// Fields that are not known, by name.
pub type Unknown<'a> = BTreeMap<Text<'a>, IgnoredAny>;

/// policy.networking.k8s.io ClusterNetworkPolicy.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ClusterNetworkPolicy<'a> {
    pub metadata: Fields<ObjectMeta<'a>>,
    pub spec: Option<Fields<ClusterNetworkPolicySpec<'a>>>,
}

/// Whom it is about, and what holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ClusterNetworkPolicySpec<'a> {
    pub tier: Option<Text<'a>>,
    pub priority: Option<i64>,
    pub subject: Fields<ClusterSubject<'a>>,
    pub ingress: List<ClusterRule<'a>>,
    pub egress: List<ClusterRule<'a>>,
}

/// Whom it is about: one of its fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ClusterSubject<'a> {
    pub namespaces: Option<Fields<LabelSelector<'a>>>,
    pub pods: Option<Fields<ClusterPods<'a>>>,
    #[serde(flatten)]
    pub unknown: Unknown<'a>,
}

/// Pods of namespaces.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct ClusterPods<'a> {
    pub namespace_selector: Option<Fields<LabelSelector<'a>>>,
    pub pod_selector: Option<Fields<LabelSelector<'a>>>,
}

/// One rule.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ClusterRule<'a> {
    pub name: Option<Text<'a>>,
    pub action: Option<Text<'a>>,
    pub from: List<ClusterPeer<'a>>,
    pub to: List<ClusterPeer<'a>>,
    pub protocols: List<ClusterProtocol<'a>>,
}

/// One item of `from` or `to`: one of its fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ClusterPeer<'a> {
    pub namespaces: Option<Fields<LabelSelector<'a>>>,
    pub pods: Option<Fields<ClusterPods<'a>>>,
    pub nodes: Option<Fields<LabelSelector<'a>>>,
    pub networks: Option<Vec<Text<'a>>>,
    #[serde(flatten)]
    pub unknown: Unknown<'a>,
}

/// One item of `protocols`: one of its fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ClusterProtocol<'a> {
    pub tcp: Option<Fields<ClusterTransport<'a>>>,
    pub udp: Option<Fields<ClusterTransport<'a>>>,
    pub sctp: Option<Fields<ClusterTransport<'a>>>,
    #[serde(rename = "destinationNamedPort")]
    pub named: Option<Text<'a>>,
    #[serde(flatten)]
    pub unknown: Unknown<'a>,
}

/// Ports of a transport protocol.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ClusterTransport<'a> {
    #[serde(rename = "destinationPort")]
    pub port: Option<Fields<ClusterPort<'a>>>,
    #[serde(flatten)]
    pub unknown: Unknown<'a>,
}

/// A port or some: one of its fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ClusterPort<'a> {
    pub number: Option<i32>,
    pub range: Option<Fields<ClusterPortRange>>,
    #[serde(flatten)]
    pub unknown: Unknown<'a>,
}

/// Ports from `start` to `end`.
#[derive(Debug, Deserialize)]
pub struct ClusterPortRange {
    pub start: i32,
    pub end: i32,
}
