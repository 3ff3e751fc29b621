// SPDX-License-Identifier: Apache-2.0
//! What an address is beside its ports: the flags of its wildcard entry.
//!
//! An address of a load balancer that is also a node's or a pod's is no wildcard for refusals: what
//! is sent there for other ports is none of ours.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use pintle_abi::service::wildcard_flags;

use super::{
    frontends,
    options::{NodeAddresses, Options, UnknownPort},
};
use crate::model::{
    ip::Family,
    service::{AddressKind, Service},
};

/// For how many services an address is what.
#[derive(Debug, Default)]
struct Roles {
    cluster: u32,
    load_balancer: u32,
    external: u32,
}

/// What addresses are to all services and to the node.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    roles: HashMap<IpAddr, Roles>,
    /// How many of the addresses are of load balancers.
    balancers: usize,
    /// Number of node ports, by family.
    node_ports: [usize; 2],
    node: NodeAddresses,
}

impl Addresses {
    /// Takes in the addresses of a service; returns those whose flags may change.
    pub fn add(&mut self, service: &Service, options: &Options) -> Vec<IpAddr> {
        self.count(service, options, |count| *count += 1, |ports, more| *ports += more)
    }

    /// Forgets them.
    pub fn remove(&mut self, service: &Service, options: &Options) -> Vec<IpAddr> {
        self.count(service, options, |count| *count -= 1, |ports, less| *ports -= less)
    }

    fn count(
        &mut self,
        service: &Service,
        options: &Options,
        step: fn(&mut u32),
        step_ports: fn(&mut usize, usize),
    ) -> Vec<IpAddr> {
        let mut touched = Vec::new();
        if service.ports.is_empty() {
            return touched;
        }
        for (ip, kind) in frontends::addresses(service, options) {
            let roles = self.roles.entry(ip).or_default();
            let was_balancer = roles.load_balancer > 0;
            match kind {
                AddressKind::ClusterIp => step(&mut roles.cluster),
                AddressKind::LoadBalancer => step(&mut roles.load_balancer),
                AddressKind::ExternalIp | AddressKind::NodePort => step(&mut roles.external),
            }
            self.balancers += usize::from(roles.load_balancer > 0);
            self.balancers -= usize::from(was_balancer);
            if roles.cluster + roles.load_balancer + roles.external == 0 {
                self.roles.remove(&ip);
            }
            touched.push(ip);
        }
        let ports = service.ports.iter().filter(|port| port.node_port.is_some()).count();
        for family in service.cluster_ips.iter().map(Family::of) {
            let had = self.node_ports[family as usize] > 0;
            step_ports(&mut self.node_ports[family as usize], ports);
            if had != (self.node_ports[family as usize] > 0) {
                let of = |ip: &&IpAddr| Family::of(**ip) == family;
                touched.extend(self.node.node_ports.iter().filter(of));
            }
        }
        touched
    }

    /// Takes in the node's own addresses; returns those whose flags may change.
    pub fn set_node(&mut self, node: NodeAddresses) -> Vec<IpAddr> {
        let old = std::mem::replace(&mut self.node, node);
        let mut touched: Vec<_> = old.own.symmetric_difference(&self.node.own).copied().collect();
        touched.extend(old.node_ports.symmetric_difference(&self.node.node_ports));
        touched
    }

    /// The addresses among these that are of load balancers.
    pub fn balancers(&self, ips: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
        match self.balancers {
            0 => Vec::new(),
            _ => ips.into_iter().filter(|ip| self.is_balancer(ip)).collect(),
        }
    }

    /// It is an address of a load balancer.
    pub fn is_balancer(&self, ip: &IpAddr) -> bool {
        self.roles.get(ip).is_some_and(|roles| roles.load_balancer > 0)
    }

    /// Every address that may have flags.
    pub fn all(&self) -> BTreeSet<IpAddr> {
        self.roles.keys().chain(&self.node.node_ports).copied().collect()
    }

    /// The flags of an address, given that `foreign` are those of pods and of nodes; `None` if it
    /// is none of ours.
    pub fn flags(&self, ip: &IpAddr, options: &Options, foreign: &BTreeSet<IpAddr>) -> Option<u32> {
        let roles = self.roles.get(ip);
        let has_node_ports = self.node_ports[Family::of(*ip) as usize] > 0;
        let is_node = has_node_ports && self.node.node_ports.contains(ip);
        if roles.is_none() && !is_node {
            return None;
        }
        let is_foreign = || self.node.own.contains(ip) || foreign.contains(ip);
        let is_cluster = roles.is_some_and(|roles| roles.cluster > 0);
        let mut flags = 0;
        if is_cluster && options.unknown_port == UnknownPort::Reject {
            flags |= wildcard_flags::CLUSTER;
        }
        if self.is_balancer(ip) && !is_foreign() {
            flags |= wildcard_flags::LOAD_BALANCER;
        }
        if is_node {
            flags |= wildcard_flags::NODE;
        }
        Some(flags)
    }
}
