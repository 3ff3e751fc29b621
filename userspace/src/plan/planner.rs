// SPDX-License-Identifier: Apache-2.0
//! Keeps what is known and tells, batch by batch, what changes in the maps.
//!
//! Invariants: the result depends on what is known, not on the order in which it became known; the
//! work for a change is that of the services it touches, except that a move of our own node to
//! another zone touches all, and a new load balancer address is looked for among all endpoints.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    addresses::Addresses,
    claims::Claims,
    desired::{Changes, DesiredFrontend},
    frontends::{self, Outlook},
    health::{HealthCheck, health_check},
    known::Services,
    options::{NodeAddresses, Options},
    ranges::ServiceCidrs,
    selection::{self, Place},
    unserved::Unserved,
};
use crate::model::{
    addr::{FrontendAddr, FrontendKey, Scope},
    cluster::{Node, ServiceCidr},
    event::Event,
    ip::Family,
    name::{Kind, ObjectName, ObjectRef, ServiceName},
    object::Object,
    rejection::{RejectReason, Rejection},
    service::{Service, Sources},
    slice::EndpointSlice,
};

/// Turns what is known into what the maps should hold.
#[derive(Debug)]
pub struct Planner {
    options: Options,
    place: Place,
    known: Services,
    nodes: BTreeMap<ObjectName, Arc<Node>>,
    /// Addresses that stand for our node.
    node_ips: Vec<IpAddr>,
    cidrs: ServiceCidrs,
    addresses: Addresses,
    claims: Claims,
    /// Addresses that were told to have a frontend of their own for clients outside the cluster.
    split: HashSet<FrontendAddr>,
    health_checks: BTreeMap<ServiceName, HealthCheck>,
    unserved: Unserved,
    rejected: BTreeMap<ObjectRef, Arc<[RejectReason]>>,
    /// Moves when `rejected` changes, or what else is rejected beside claims.
    rejected_version: u64,
    is_synced: bool,
}

/// What is to be computed anew.
#[derive(Debug, Default)]
struct Stale {
    frontends: BTreeSet<FrontendAddr>,
    wildcards: BTreeSet<IpAddr>,
    health_checks: BTreeSet<ServiceName>,
    cluster_ranges: bool,
}

impl Planner {
    /// A planner for the node of this name, which knows nothing yet.
    pub fn new(node_name: &str, options: Options) -> Self {
        Self {
            node_ips: options.node_ips.clone(),
            options,
            place: Place { node: node_name.into(), zone: None },
            known: Services::default(),
            nodes: BTreeMap::new(),
            cidrs: ServiceCidrs::default(),
            addresses: Addresses::default(),
            claims: Claims::default(),
            split: HashSet::new(),
            health_checks: BTreeMap::new(),
            unserved: Unserved::default(),
            rejected: BTreeMap::new(),
            rejected_version: 0,
            is_synced: false,
        }
    }

    /// Takes events and returns what they may have changed.
    ///
    /// Before [`Event::Synced`] nothing is returned, because a part of the truth must not reach the
    /// maps; the batch that holds it returns everything.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Changes {
        let was_synced = self.is_synced;
        let mut stale = Stale::default();
        for event in events {
            self.take(event, &mut stale);
        }
        let changes = match (was_synced, self.is_synced) {
            (_, false) => Changes::default(),
            (false, true) => {
                let services = self.known.iter().map(|(service, _)| service.name.clone());
                self.look_at_health(&services.collect());
                let all = self.desired();
                let external = all.frontends.keys().filter(|key| key.scope == Scope::External);
                self.split.extend(external.map(|key| key.addr));
                all
            }
            (true, true) => {
                self.look_at_health(&stale.health_checks);
                self.changes(&stale)
            }
        };
        self.unserved.note(&changes);
        changes
    }

    /// Takes in the node's own addresses, and returns what that changes.
    pub fn set_node_addresses(&mut self, node: NodeAddresses) -> Changes {
        let touched = self.addresses.set_node(node);
        match self.is_synced {
            true => self
                .changes(&Stale { wildcards: touched.into_iter().collect(), ..Stale::default() }),
            false => Changes::default(),
        }
    }

    /// Everything that should be in the maps.
    pub fn desired(&self) -> Changes {
        let mut changes = Changes {
            cluster_ranges: Some(self.cidrs.ranges(&self.options)),
            ..Changes::default()
        };
        for addr in self.claims.addresses() {
            let found = self.frontends(&addr).into_iter();
            changes.frontends.extend(found.filter(|(_, frontend)| frontend.is_some()));
        }
        let wildcards = self.wildcards(self.addresses.all());
        changes.wildcards.extend(wildcards.filter(|(_, flags)| flags.is_some()));
        changes
    }

    /// Whether the source has told everything that it knew at the start.
    pub fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Our own node, if it is known.
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.nodes.get(&ObjectName::cluster(&self.place.node))
    }

    /// Addresses that stand for our node, as far as they are known.
    pub fn node_ips(&self) -> &[IpAddr] {
        &self.node_ips
    }

    /// Where load balancers ask for which service, and what they are told; empty until everything
    /// that existed at the start is known.
    pub fn health_checks(&self) -> &BTreeMap<ServiceName, HealthCheck> {
        &self.health_checks
    }

    /// How many services of a family have endpoints, but none that clients in a scope may reach at
    /// this node: those of the internal policy `Local`, or outside those of the external one.
    pub fn unserved(&self, family: Family, scope: Scope) -> usize {
        self.unserved.services(family, scope)
    }

    /// Everything that is known and not in force: the source's findings, by object, then services
    /// whose address belongs to another, then what the maps have no room for or the operator does
    /// not want.
    pub fn rejections(&self) -> impl Iterator<Item = Rejection> {
        let found = self.rejected.iter().flat_map(|(object, reasons)| {
            let rejection =
                |reason: &_| Rejection { object: object.clone(), reason: Clone::clone(reason) };
            reasons.iter().map(rejection)
        });
        let conflicts = self.claims.conflicts().map(|(frontend, loser, owner)| Rejection {
            object: ObjectRef::new(Kind::Service, loser.clone()),
            reason: RejectReason::AddressTaken { frontend, owner: owner.clone() },
        });
        let off = self.known.iter().filter(|(service, _)| self.has_unwanted(service));
        let off = off.map(|(service, _)| Rejection {
            object: ObjectRef::new(Kind::Service, service.name.clone()),
            reason: RejectReason::ExternalIpsOff,
        });
        found.chain(conflicts).chain(self.cidrs.rejections(&self.options)).chain(off)
    }

    /// A number that moves whenever [`Self::rejections`] change.
    pub fn rejections_version(&self) -> u64 {
        self.rejected_version + self.claims.version()
    }

    pub(super) fn known(&self) -> &Services {
        &self.known
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    fn has_unwanted(&self, service: &Service) -> bool {
        !self.options.external_ips && !service.external_ips.is_empty()
    }

    fn take(&mut self, event: Event, stale: &mut Stale) {
        match event {
            Event::Apply(Object::Service(service)) => {
                let name = service.name.clone();
                self.set_service(&name, Some(service), stale);
            }
            Event::Apply(Object::EndpointSlice(slice)) => self.add_slice(slice, stale),
            Event::Apply(Object::Node(node)) => {
                let name = node.name.clone();
                self.set_node(&name, Some(node), stale);
            }
            Event::Apply(Object::ServiceCidr(cidr)) => self.set_cidr(cidr, stale),
            Event::Apply(
                Object::Namespace(_)
                | Object::Pod(_)
                | Object::NetworkPolicy(_)
                | Object::ClusterNetworkPolicy(_),
            ) => {}
            Event::Delete(object) => self.delete(&object, stale),
            Event::Rejected(object, reasons) => {
                self.rejected_version += 1;
                match reasons.is_empty() {
                    true => self.rejected.remove(&object),
                    false => self.rejected.insert(object, reasons),
                };
            }
            Event::Synced => self.is_synced = true,
        }
    }

    fn delete(&mut self, object: &ObjectRef, stale: &mut Stale) {
        match object.kind {
            Kind::Service => self.set_service(&object.name, None, stale),
            Kind::EndpointSlice => {
                let old = self.known.slice(&object.name).cloned();
                self.mark_balancers(old.iter(), stale);
                if let Some(service) = self.known.remove_slice(&object.name) {
                    self.mark(&service, stale);
                }
            }
            Kind::Node => self.set_node(&object.name, None, stale),
            Kind::ServiceCidr if self.cidrs.remove(&object.name) => {
                self.rejected_version += 1;
                stale.cluster_ranges = true;
            }
            _ => {}
        }
    }

    fn set_service(
        &mut self,
        name: &ServiceName,
        service: Option<Arc<Service>>,
        stale: &mut Stale,
    ) {
        let old = self.known.set(name, service.clone());
        for old in old.iter() {
            for (addr, ..) in frontends::frontends(old, &self.options) {
                self.claims.remove(addr, name);
                stale.frontends.insert(addr);
            }
            stale.wildcards.extend(self.addresses.remove(old, &self.options));
        }
        for service in service.iter() {
            for (addr, ..) in frontends::frontends(service, &self.options) {
                self.claims.add(addr, service);
                stale.frontends.insert(addr);
            }
            stale.wildcards.extend(self.addresses.add(service, &self.options));
        }
        for service in [&old, &service].into_iter().flatten() {
            self.rejected_version += u64::from(self.has_unwanted(service));
            if service.health_check_node_port.is_some() {
                stale.health_checks.insert(name.clone());
            }
        }
    }

    fn add_slice(&mut self, slice: Arc<EndpointSlice>, stale: &mut Stale) {
        let old = self.known.slice(&slice.name).cloned();
        self.mark_balancers(old.iter().chain([&slice]), stale);
        for service in self.known.add_slice(slice).into_iter().flatten() {
            self.mark(&service, stale);
        }
    }

    /// An address of a load balancer becomes, or ceases to be, that of a pod.
    fn mark_balancers<'a>(
        &self,
        slices: impl Iterator<Item = &'a Arc<EndpointSlice>>,
        stale: &mut Stale,
    ) {
        let endpoints = slices.flat_map(|slice| &slice.endpoints);
        stale.wildcards.extend(self.addresses.balancers(endpoints.map(|endpoint| endpoint.ip)));
    }

    fn mark(&self, name: &ServiceName, stale: &mut Stale) {
        let Some(service) = self.known.get(name).and_then(|known| known.service.as_ref()) else {
            return;
        };
        let all = frontends::frontends(service, &self.options);
        stale.frontends.extend(all.map(|(addr, ..)| addr));
        if service.health_check_node_port.is_some() {
            stale.health_checks.insert(name.clone());
        }
    }

    fn set_cidr(&mut self, cidr: Arc<ServiceCidr>, stale: &mut Stale) {
        self.cidrs.set(cidr);
        self.rejected_version += 1;
        stale.cluster_ranges = true;
    }

    fn set_node(&mut self, name: &ObjectName, node: Option<Arc<Node>>, stale: &mut Stale) {
        let places = |node: &Option<Arc<Node>>| {
            node.as_ref().map(|node| (node.ips().collect::<Vec<_>>(), node.pod_cidrs.clone()))
        };
        let old = match node.clone() {
            Some(node) => self.nodes.insert(name.clone(), node),
            None => self.nodes.remove(name),
        };
        if places(&old) != places(&node) {
            stale.wildcards.extend(self.addresses.balancers(self.addresses.all()));
        }
        if name.as_str() != &*self.place.node {
            return;
        }
        let zone = node.as_ref().and_then(|node| node.zone.clone());
        if self.place.zone != zone {
            self.place.zone = zone;
            stale.frontends.extend(self.claims.addresses());
        }
        self.set_node_ips(node.as_deref(), stale);
    }

    /// The operator's addresses, and of each family that has none the Node's first.
    fn set_node_ips(&mut self, node: Option<&Node>, stale: &mut Stale) {
        let mut ips = self.options.node_ips.clone();
        for family in Family::ALL {
            if !ips.iter().any(|ip| Family::of(*ip) == family) {
                ips.extend(node.and_then(|node| node.primary_ip(family)));
            }
        }
        if self.node_ips == ips {
            return;
        }
        self.node_ips = ips;
        let is_ranged = |service: &Service| {
            Family::ALL.iter().any(|f| *service.source_ranges.get(*f) != Sources::All)
        };
        for (service, _) in self.known.iter().filter(|(service, _)| is_ranged(service)) {
            let all = frontends::frontends(service, &self.options);
            stale.frontends.extend(all.map(|(addr, ..)| addr));
        }
    }

    fn changes(&mut self, stale: &Stale) -> Changes {
        let mut changes = Changes::default();
        for addr in &stale.frontends {
            let [internal, (key, external)] = self.frontends(addr);
            let was_split = match external {
                Some(_) => !self.split.insert(*addr),
                None => self.split.remove(addr),
            };
            changes.frontends.extend([internal]);
            if external.is_some() || was_split {
                changes.frontends.insert(key, external);
            }
        }
        changes.wildcards.extend(self.wildcards(stale.wildcards.clone()));
        changes.cluster_ranges = stale.cluster_ranges.then(|| self.cidrs.ranges(&self.options));
        changes
    }

    /// What should be behind an address, in each scope; `None` if nobody claims it.
    fn frontends(&self, addr: &FrontendAddr) -> [(FrontendKey, Option<DesiredFrontend>); 2] {
        let mut found =
            [(FrontendKey::internal(*addr), None), (FrontendKey::external(*addr), None)];
        let known = self.claims.owner(addr).and_then(|owner| self.known.get(owner));
        let Some((known, service)) = known.and_then(|known| Some((known, known.service.as_ref()?)))
        else {
            return found;
        };
        let Some((kind, port)) = frontends::find(service, &self.options, addr) else {
            return found;
        };
        let family = Family::of(addr.ip);
        let candidates = selection::candidates(&known.slices, port, family);
        let outlook =
            Outlook { options: &self.options, place: &self.place, node_ips: &self.node_ips };
        for (key, frontend) in &mut found {
            *frontend = outlook.frontend(service, (kind, port), (family, key.scope), &candidates);
        }
        found
    }

    /// The flags of addresses.
    fn wildcards(
        &self,
        ips: BTreeSet<IpAddr>,
    ) -> impl Iterator<Item = (IpAddr, Option<u32>)> + use<'_> {
        let foreign = self.foreign(&ips);
        ips.into_iter().map(move |ip| (ip, self.addresses.flags(&ip, &self.options, &foreign)))
    }

    /// Which of these are addresses of load balancers, and of pods or nodes as well.
    fn foreign(&self, ips: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let balancers: BTreeSet<IpAddr> =
            ips.iter().copied().filter(|ip| self.addresses.is_balancer(ip)).collect();
        if balancers.is_empty() {
            return balancers;
        }
        let nodes = || self.nodes.values();
        let is_of_node = |ip: &IpAddr| {
            nodes().any(|node| {
                node.ips().any(|other| other == *ip)
                    || node.pod_cidrs.iter().any(|cidr| cidr.contains(*ip))
            })
        };
        let mut foreign: BTreeSet<IpAddr> =
            self.known.endpoint_ips().filter(|ip| balancers.contains(ip)).collect();
        foreign.extend(balancers.into_iter().filter(is_of_node));
        foreign
    }

    fn look_at_health(&mut self, stale: &BTreeSet<ServiceName>) {
        for name in stale {
            let known = self.known.get(name);
            let found = known.and_then(|known| {
                health_check(known.service.as_ref()?, &known.slices, &self.place)
            });
            match found {
                Some(check) => self.health_checks.insert(name.clone(), check),
                None => self.health_checks.remove(name),
            };
        }
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
