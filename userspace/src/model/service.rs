// SPDX-License-Identifier: Apache-2.0
//! Services, v1, as far as a service proxy needs them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use super::{addr::Protocol, ip::Family, name::ServiceName};

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
    /// Its ports, in the order of the object; no two have the same number and protocol.
    pub ports: Box<[ServicePort]>,
    /// Which endpoints traffic to the cluster address may reach.
    pub internal_traffic_policy: TrafficPolicy,
    /// Stickiness by client address, with its timeout; `None` without.
    pub affinity: Option<Duration>,
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

/// A port of a Service. Its name and protocol are its identity and tie it to the slices' ports.
#[derive(Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty if it is the only one.
    pub name: Arc<str>,
    /// The number that clients dial.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}
