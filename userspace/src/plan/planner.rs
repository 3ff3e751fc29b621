// SPDX-License-Identifier: Apache-2.0
//! Keeps what is known and tells, batch by batch, which frontends change.
//!
//! Invariants: the result depends on what is known, not on the order in which it became known; the
//! work for a change is that of the services it touches, except that a move of our own node to
//! another zone touches all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    claims::Claims,
    desired::{Changes, DesiredFrontend},
    known::{self, Services},
    selection::{self, Place},
};
use crate::model::{
    addr::FrontendAddr,
    cluster::Node,
    event::Event,
    ip::Family,
    name::{Kind, ObjectRef, ServiceName},
    object::Object,
    rejection::{RejectReason, Rejection},
    service::{Service, ServicePort},
    slice::EndpointSlice,
};

/// Turns what is known into desired frontends.
#[derive(Debug)]
pub struct Planner {
    place: Place,
    known: Services,
    claims: Claims,
    rejected: BTreeMap<ObjectRef, Arc<[RejectReason]>>,
    /// Moves when `rejected` changes.
    rejected_version: u64,
    is_synced: bool,
}

/// Frontends to be computed anew.
type Stale = BTreeSet<FrontendAddr>;

impl Planner {
    /// A planner for the node of this name, which knows nothing yet.
    pub fn new(node_name: &str) -> Self {
        Self {
            place: Place { node: node_name.into(), zone: None },
            known: Services::default(),
            claims: Claims::default(),
            rejected: BTreeMap::new(),
            rejected_version: 0,
            is_synced: false,
        }
    }

    /// Takes events and returns the frontends that they may have changed.
    ///
    /// Before [`Event::Synced`] nothing is returned, because a part of the truth must not reach the
    /// maps; the batch that holds it returns everything.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Changes {
        let was_synced = self.is_synced;
        let mut stale = Stale::new();
        for event in events {
            self.take(event, &mut stale);
        }
        match (was_synced, self.is_synced) {
            (_, false) => Changes::new(),
            (false, true) => self.desired(),
            (true, true) => stale.into_iter().map(|addr| (addr, self.frontend(&addr))).collect(),
        }
    }

    /// Every frontend that should exist.
    pub fn desired(&self) -> Changes {
        self.claims.addresses().map(|addr| (addr, self.frontend(&addr))).collect()
    }

    /// Whether the source has told everything that it knew at the start.
    pub fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Everything that is known and not in force: the source's findings, by object, then services
    /// whose address belongs to another.
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
        found.chain(conflicts)
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

    fn take(&mut self, event: Event, stale: &mut Stale) {
        match event {
            Event::Apply(Object::Service(service)) => {
                let name = service.name.clone();
                self.set_service(&name, Some(service), stale);
            }
            Event::Apply(Object::EndpointSlice(slice)) => self.add_slice(slice, stale),
            Event::Apply(Object::Node(node)) => self.set_node(&node, stale),
            Event::Apply(Object::Namespace(_) | Object::Pod(_)) => {}
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
                if let Some(service) = self.known.remove_slice(&object.name) {
                    self.mark(&service, stale);
                }
            }
            Kind::Node if object.name.as_str() == &*self.place.node => self.set_zone(None, stale),
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
        for (addr, _) in old.iter().flat_map(|old| known::frontends(old)) {
            self.claims.remove(addr, name);
            stale.insert(addr);
        }
        for service in service.iter() {
            for (addr, _) in known::frontends(service) {
                self.claims.add(addr, service);
                stale.insert(addr);
            }
        }
    }

    fn add_slice(&mut self, slice: Arc<EndpointSlice>, stale: &mut Stale) {
        for service in self.known.add_slice(slice).into_iter().flatten() {
            self.mark(&service, stale);
        }
    }

    fn mark(&self, service: &ServiceName, stale: &mut Stale) {
        let service = self.known.get(service).and_then(|known| known.service.as_ref());
        let all = service.iter().flat_map(|service| known::frontends(service));
        stale.extend(all.map(|(addr, _)| addr));
    }

    fn set_node(&mut self, node: &Node, stale: &mut Stale) {
        if node.name.as_str() == &*self.place.node {
            self.set_zone(node.zone.clone(), stale);
        }
    }

    fn set_zone(&mut self, zone: Option<Arc<str>>, stale: &mut Stale) {
        if self.place.zone != zone {
            self.place.zone = zone;
            stale.extend(self.claims.addresses());
        }
    }

    /// What should be behind an address; `None` if nobody claims it.
    fn frontend(&self, addr: &FrontendAddr) -> Option<DesiredFrontend> {
        let known = self.known.get(self.claims.owner(addr)?)?;
        let service = known.service.as_ref()?;
        let port = known::port_of(service, addr)?;
        let candidates = selection::candidates(&known.slices, port, Family::of(addr.ip));
        let selected = selection::select(&candidates, service.internal_traffic_policy, &self.place);
        Some(DesiredFrontend {
            service: port_name(service, port),
            backends: selected.backends,
            draining: selected.draining,
            no_backend: selected.no_backend,
            affinity: service.affinity,
        })
    }
}

/// `namespace/name:port`, or `namespace/name` for a port without name.
fn port_name(service: &Service, port: &ServicePort) -> Arc<str> {
    if port.name.is_empty() {
        return service.name.as_str().into();
    }
    format!("{}:{}", service.name, port.name).into()
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
