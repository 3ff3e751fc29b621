// SPDX-License-Identifier: Apache-2.0
//! networking.k8s.io/v1 NetworkPolicy.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

use super::{LabelSelector, ObjectMeta, Text};

/// networking.k8s.io/v1 NetworkPolicy.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct NetworkPolicy<'a> {
    pub metadata: ObjectMeta<'a>,
    pub spec: Option<NetworkPolicySpec<'a>>,
}

/// What is isolated, and from whom not.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct NetworkPolicySpec<'a> {
    pub pod_selector: Option<LabelSelector<'a>>,
    pub policy_types: Option<Vec<Text<'a>>>,
    pub ingress: Option<Vec<NetworkPolicyIngressRule<'a>>>,
    pub egress: Option<Vec<NetworkPolicyEgressRule<'a>>>,
}

/// Who may come, and where to.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct NetworkPolicyIngressRule<'a> {
    pub from: Option<Vec<NetworkPolicyPeer<'a>>>,
    pub ports: Option<Vec<NetworkPolicyPort<'a>>>,
}

/// Whom it may go to, and where.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct NetworkPolicyEgressRule<'a> {
    pub to: Option<Vec<NetworkPolicyPeer<'a>>>,
    pub ports: Option<Vec<NetworkPolicyPort<'a>>>,
}

/// One item of `from` or `to`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct NetworkPolicyPeer<'a> {
    pub ip_block: Option<IpBlock<'a>>,
    pub namespace_selector: Option<LabelSelector<'a>>,
    pub pod_selector: Option<LabelSelector<'a>>,
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
