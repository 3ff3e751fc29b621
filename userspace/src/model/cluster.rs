// SPDX-License-Identifier: Apache-2.0
//! Nodes, Namespaces and Pods, v1, and the cluster's service addresses: where things run.

use std::{net::IpAddr, sync::Arc};

use super::{
    cidr::Cidr,
    ip::Family,
    name::ObjectName,
    policy::{Labels, NamedPort},
};

/// A node of the cluster.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: ObjectName,
    /// Label `topology.kubernetes.io/zone`; `None` if absent or empty.
    pub zone: Option<Arc<str>>,
    /// `status.addresses` of type InternalIP, in the order of the object.
    pub internal_ips: Box<[IpAddr]>,
    /// Those of type ExternalIP.
    pub external_ips: Box<[IpAddr]>,
    /// Ranges of its pods' addresses, the primary one first (`spec.podCIDRs`).
    pub pod_cidrs: Box<[Cidr]>,
    /// It is being deleted, or the cluster's autoscaler is about to: load balancers should look for
    /// other nodes (KEP-3836).
    pub is_leaving: bool,
    /// Its labels.
    pub labels: Labels,
}

impl Node {
    /// Its addresses, internal ones first.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.internal_ips.iter().chain(&self.external_ips).copied()
    }

    /// The address of a family that stands for the node.
    pub fn primary_ip(&self, family: Family) -> Option<IpAddr> {
        self.ips().find(|ip| Family::of(*ip) == family)
    }
}

/// Addresses of which the cluster's Services get theirs (networking.k8s.io/v1).
#[derive(Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// Its name.
    pub name: ObjectName,
    /// The ranges.
    pub cidrs: Box<[Cidr]>,
}

/// A namespace.
#[derive(Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: ObjectName,
    /// Its labels, `kubernetes.io/metadata.name` among them.
    pub labels: Labels,
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
    /// Its labels.
    pub labels: Labels,
    /// The ports that its containers name; of a name and protocol, the first.
    pub ports: Arc<[NamedPort]>,
    /// When it was created, in seconds since 1970.
    pub created: Option<i64>,
    /// It is being deleted.
    pub is_terminating: bool,
}

impl Pod {
    /// All its containers have ended, so that its addresses may be another's.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }
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
