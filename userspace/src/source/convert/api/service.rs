// SPDX-License-Identifier: Apache-2.0
//! v1 Service.

use serde::Deserialize;

use super::{Fields, List, ObjectMeta, Text};

/// v1 Service.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Service<'a> {
    pub metadata: Fields<ObjectMeta<'a>>,
    pub spec: Option<Fields<ServiceSpec<'a>>>,
    pub status: Option<Fields<ServiceStatus<'a>>>,
}

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct ServiceSpec<'a> {
    #[serde(rename = "type")]
    pub type_: Option<Text<'a>>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Text<'a>>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<Text<'a>>>,
    pub ip_families: Option<Vec<Text<'a>>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Vec<Text<'a>>>,
    pub load_balancer_source_ranges: Option<Vec<Text<'a>>>,
    pub ports: List<ServicePort<'a>>,
    pub internal_traffic_policy: Option<Text<'a>>,
    pub external_traffic_policy: Option<Text<'a>>,
    pub health_check_node_port: Option<i32>,
    pub session_affinity: Option<Text<'a>>,
    pub session_affinity_config: Option<Fields<SessionAffinityConfig>>,
}

/// One port.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct ServicePort<'a> {
    pub name: Option<Text<'a>>,
    pub protocol: Option<Text<'a>>,
    pub port: Option<i32>,
    pub node_port: Option<i32>,
}

/// How affinity is kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SessionAffinityConfig {
    #[serde(rename = "clientIP")]
    pub client_ip: Option<Fields<ClientIpConfig>>,
}

/// How affinity of client addresses is kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientIpConfig {
    pub timeout_seconds: Option<i32>,
}

/// What the cloud has made of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct ServiceStatus<'a> {
    pub load_balancer: Option<Fields<LoadBalancerStatus<'a>>>,
}

/// The load balancer's part of the status.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct LoadBalancerStatus<'a> {
    pub ingress: List<LoadBalancerIngress<'a>>,
}

/// One way in.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct LoadBalancerIngress<'a> {
    pub ip: Option<Text<'a>>,
    pub ip_mode: Option<Text<'a>>,
}
