// SPDX-License-Identifier: Apache-2.0
//! Services, v1, as far as a service proxy needs them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use clap::ValueEnum;
use serde::Serialize;

use super::{addr::Protocol, cidr::Cidr, ip::Family, name::ServiceName};

/// A Service that has something to serve: not headless, not an ExternalName, not another proxy's.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// `metadata.creationTimestamp`, seconds since 1970; `None` if it was written by hand.
    pub created: Option<i64>,
    /// Its type.
    pub service_type: ServiceType,
    /// Its cluster addresses.
    pub cluster_ips: ClusterIps,
    /// Addresses that somebody routes to the nodes (`spec.externalIPs`).
    pub external_ips: Box<[IpAddr]>,
    /// Addresses of its load balancer that are ours to serve (`status.loadBalancer.ingress` without
    /// those of mode `Proxy`).
    pub load_balancer_ips: Box<[IpAddr]>,
    /// Who may use the addresses of its load balancer.
    pub source_ranges: SourceRanges,
    /// Its ports, in the order of the object; no two have the same number and protocol.
    pub ports: Box<[ServicePort]>,
    /// Which endpoints traffic to the cluster address may reach.
    pub internal_traffic_policy: TrafficPolicy,
    /// Which endpoints traffic to its other addresses may reach, if it comes from outside.
    pub external_traffic_policy: TrafficPolicy,
    /// Where the load balancer asks whether this node has endpoints; only with a load balancer and
    /// the external policy `Local`.
    pub health_check_node_port: Option<u16>,
    /// Stickiness by client address, with its timeout; `None` without.
    pub affinity: Option<Duration>,
    /// How the backend of a connection from outside is chosen; `None` as on the rest of the node.
    pub backend_selection: Option<BackendSelection>,
}

/// How a new connection's backend is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BackendSelection {
    /// Evenly, by a hash of the connection that is the node's own.
    #[default]
    Random,
    /// As Maglev does: the same choice on every node, little moved when backends change.
    Maglev,
}

impl BackendSelection {
    /// The word of flags and annotations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Maglev => "maglev",
        }
    }

    /// What a word of flags and annotations means.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Random, Self::Maglev].into_iter().find(|selection| selection.as_str() == word)
    }
}

/// `Service.spec.type`, without ExternalName.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// Reachable at its cluster addresses.
    #[default]
    ClusterIp,
    /// Also at a port of every node.
    NodePort,
    /// Also at the addresses of a load balancer.
    LoadBalancer,
}

impl ServiceType {
    /// The word Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Which endpoints a class of traffic may reach (KEP-2086).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// All.
    #[default]
    Cluster,
    /// Those on the node where the traffic appears.
    Local,
}

impl TrafficPolicy {
    /// The word Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// The cluster addresses of a Service, at most one per family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterIps {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl ClusterIps {
    /// The address of a family.
    pub fn get(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// Keeps an address, unless one of its family is there already.
    pub fn add(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.v4 = self.v4.or(Some(ip)),
            IpAddr::V6(ip) => self.v6 = self.v6.or(Some(ip)),
        }
    }

    /// The addresses, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let addresses = *self;
        Family::ALL.into_iter().filter_map(move |family| addresses.get(family))
    }
}

/// Who may use the addresses of a load balancer, by family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRanges {
    /// Of the IPv4 addresses.
    pub v4: Sources,
    /// Of the IPv6 addresses.
    pub v6: Sources,
}

impl SourceRanges {
    /// Who may use the addresses of a family.
    pub fn get(&self, family: Family) -> &Sources {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

/// Who may use an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sources {
    /// Everybody.
    #[default]
    All,
    /// Who is in one of the ranges; nobody if there are none.
    Only(Box<[Cidr]>),
}

/// What an address is to its Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressKind {
    /// A cluster address.
    ClusterIp,
    /// An address of its load balancer.
    LoadBalancer,
    /// An external address.
    ExternalIp,
    /// Any of the node's own addresses.
    NodePort,
}

impl AddressKind {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalIp => "ExternalIP",
            Self::NodePort => "NodePort",
        }
    }
}

/// A port of a Service. Its name and protocol are its identity and tie it to the slices' ports.
#[derive(Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty if it is the only one.
    pub name: Arc<str>,
    /// The number that clients dial.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The number that clients dial at the node's own addresses, if it has one.
    pub node_port: Option<u16>,
}
