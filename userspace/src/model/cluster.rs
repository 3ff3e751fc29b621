// SPDX-License-Identifier: Apache-2.0
//! Nodes, Namespaces and Pods, v1: where things run.

use std::{net::IpAddr, sync::Arc};

use super::name::ObjectName;

/// A node of the cluster.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: ObjectName,
    /// Label `topology.kubernetes.io/zone`; `None` if absent or empty.
    pub zone: Option<Arc<str>>,
    /// `status.addresses` of type InternalIP, in the order of the object.
    pub internal_ips: Box<[IpAddr]>,
    /// It is being deleted, or the cluster autoscaler is about to.
    pub is_leaving: bool,
}

/// A namespace.
#[derive(Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: ObjectName,
}

/// A pod.
#[derive(Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: ObjectName,
    /// Its addresses, the primary one first.
    pub ips: Box<[IpAddr]>,
    /// The node it was scheduled to.
    pub node: Option<Arc<str>>,
    /// It shares the node's network, so it has no interface of its own.
    pub host_network: bool,
    /// Its phase.
    pub phase: PodPhase,
}

/// `Pod.status.phase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodPhase {
    /// Accepted, not all containers started.
    Pending,
    /// Running.
    Running,
    /// All containers ended well; the address may be reused.
    Succeeded,
    /// All containers ended, one of them badly; the address may be reused.
    Failed,
    /// Not reported.
    #[default]
    Unknown,
}
