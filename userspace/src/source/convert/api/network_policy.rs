// SPDX-License-Identifier: Apache-2.0
//! networking.k8s.io/v1 NetworkPolicy.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

use super::{Fields, LabelSelector, List, ObjectMeta, Text};

/// networking.k8s.io/v1 NetworkPolicy.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct NetworkPolicy<'a> {
    pub metadata: Fields<ObjectMeta<'a>>,
    pub spec: Option<Fields<NetworkPolicySpec<'a>>>,
}

/// What is isolated, and from whom not.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct NetworkPolicySpec<'a> {
    pub pod_selector: Option<Fields<LabelSelector<'a>>>,
    pub policy_types: Option<Vec<Text<'a>>>,
    pub ingress: List<NetworkPolicyIngressRule<'a>>,
    pub egress: List<NetworkPolicyEgressRule<'a>>,
}

/// Who may come, and where to.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct NetworkPolicyIngressRule<'a> {
    pub from: List<NetworkPolicyPeer<'a>>,
    pub ports: List<NetworkPolicyPort<'a>>,
}

/// Whom it may go to, and where.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct NetworkPolicyEgressRule<'a> {
    pub to: List<NetworkPolicyPeer<'a>>,
    pub ports: List<NetworkPolicyPort<'a>>,
}

/// One item of `from` or `to`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct NetworkPolicyPeer<'a> {
    pub ip_block: Option<Fields<IpBlock<'a>>>,
    pub namespace_selector: Option<Fields<LabelSelector<'a>>>,
    pub pod_selector: Option<Fields<LabelSelector<'a>>>,
}

/// A range with holes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct IpBlock<'a> {
    pub cidr: Option<Text<'a>>,
    pub except: Option<Vec<Text<'a>>>,
}

/// One item of `ports`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct NetworkPolicyPort<'a> {
    pub protocol: Option<Text<'a>>,
    pub port: Option<IntOrString>,
    pub end_port: Option<i32>,
}
