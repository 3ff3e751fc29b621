// SPDX-License-Identifier: Apache-2.0
//! v1 Node, Namespace, Pod and networking.k8s.io/v1 ServiceCIDR.

use serde::Deserialize;

use super::{Fields, List, ObjectMeta, Text};

/// v1 Node.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Node<'a> {
    pub metadata: Fields<ObjectMeta<'a>>,
    pub spec: Option<Fields<NodeSpec<'a>>>,
    pub status: Option<Fields<NodeStatus<'a>>>,
}

/// What a node is to have.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct NodeSpec<'a> {
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<Text<'a>>,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Option<Vec<Text<'a>>>,
    pub taints: List<Taint<'a>>,
}

/// A reason not to send it pods.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Taint<'a> {
    pub key: Option<Text<'a>>,
}

/// What a node has.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct NodeStatus<'a> {
    pub addresses: List<NodeAddress<'a>>,
}

/// An address of a node.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct NodeAddress<'a> {
    #[serde(rename = "type")]
    pub type_: Option<Text<'a>>,
    pub address: Option<Text<'a>>,
}

/// v1 Namespace.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Namespace<'a> {
    pub metadata: Fields<ObjectMeta<'a>>,
}

/// v1 Pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Pod<'a> {
    pub metadata: Fields<ObjectMeta<'a>>,
    pub spec: Option<Fields<PodSpec<'a>>>,
    pub status: Option<Fields<PodStatus<'a>>>,
}

/// What a pod is to be.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct PodSpec<'a> {
    pub node_name: Option<Text<'a>>,
    pub host_network: Option<bool>,
    pub containers: List<Container<'a>>,
    pub init_containers: List<Container<'a>>,
}

/// A container.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct Container<'a> {
    pub restart_policy: Option<Text<'a>>,
    pub ports: List<ContainerPort<'a>>,
}

/// A port of a container.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct ContainerPort<'a> {
    pub name: Option<Text<'a>>,
    pub container_port: Option<i32>,
    pub protocol: Option<Text<'a>>,
}

/// What a pod is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct PodStatus<'a> {
    pub phase: Option<Text<'a>>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<Text<'a>>,
    #[serde(rename = "podIPs")]
    pub pod_ips: List<PodIp<'a>>,
}

/// An address of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct PodIp<'a> {
    pub ip: Option<Text<'a>>,
}

/// networking.k8s.io/v1 ServiceCIDR.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ServiceCidr<'a> {
    pub metadata: Fields<ObjectMeta<'a>>,
    pub spec: Option<Fields<ServiceCidrSpec<'a>>>,
}

/// What addresses services get.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ServiceCidrSpec<'a> {
    pub cidrs: Option<Vec<Text<'a>>>,
}
