// SPDX-License-Identifier: Apache-2.0
//! A [`World`] whose maps the agent's own planner and reconciler write: plan and data path together.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use pintle::{
    model::{addr::FrontendKey, cidr::Cidr, event::Event, ip::Family},
    plan::{
        options::{NodeAddresses, Options},
        planner::Planner,
    },
    reconcile::{
        reconciler::Reconciler,
        tables::{BackendRecord, FrontendRecord, Redirect, Tables, WriteError},
    },
};

use crate::world::{BackendSpec, FrontendSpec, IFINDEX, MTU, Place, Range, World};

/// Entries of every map, few enough for any world.
const CAPACITY: u32 = 256;

/// Our node.
pub const NODE: &str = "here";

/// A world with an agent's core.
pub struct Planned<'a> {
    planner: Planner,
    reconciler: Reconciler<WorldTables<'a>>,
    now: Instant,
}

impl<'a> Planned<'a> {
    /// An agent that knows the node's addresses and no object.
    pub fn new(world: &'a mut dyn World, options: Options, addresses: NodeAddresses) -> Self {
        let mut planner = Planner::new(NODE, options);
        planner.set_node_addresses(addresses);
        let reconciler = Reconciler::new(WorldTables(world));
        let mut planned = Self { planner, reconciler, now: Instant::now() };
        planned.apply([Event::Synced]);
        planned
    }

    /// Takes events and writes what they change. Every pod of this node may be reached by redirect.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) {
        let changes = self.planner.apply(events);
        let resolve = |_: IpAddr| Some(Redirect { ifindex: IFINDEX, mtu: MTU });
        let outcome = self.reconciler.apply(changes, &resolve, self.now);
        assert!(outcome.failed.is_empty(), "not written: {:?}", outcome.failed);
    }

    /// Lets so much time pass that everything given up is free.
    pub fn wait(&mut self) {
        self.now += Duration::from_secs(3600);
        self.reconciler.free_retired(self.now);
    }

    /// The world.
    pub fn world(&mut self) -> &mut dyn World {
        self.reconciler.tables_mut().0
    }
}

/// The maps of a world as the reconciler sees them.
struct WorldTables<'a>(&'a mut dyn World);

fn frontend(key: &FrontendKey, record: &FrontendRecord) -> FrontendSpec {
    FrontendSpec {
        addr: SocketAddr::new(key.addr.ip, key.addr.port),
        proto: key.addr.protocol.number(),
        scope: key.scope.number(),
        service: record.service,
        slots: (record.base, record.count),
        flags: record.flags,
        affinity_seconds: record.affinity_seconds,
    }
}

fn range(cidr: Cidr) -> Range {
    Range { ip: cidr.address(), bits: cidr.prefix().into() }
}

impl Tables for WorldTables<'_> {
    fn slot_capacity(&self, _: Family) -> u32 {
        CAPACITY
    }

    fn backend_capacity(&self, _: Family) -> u32 {
        CAPACITY
    }

    fn frontend_capacity(&self, _: Family) -> u32 {
        CAPACITY
    }

    fn source_range_capacity(&self, _: Family) -> u32 {
        CAPACITY
    }

    fn put_backends(
        &mut self,
        family: Family,
        records: &[(u32, BackendRecord)],
    ) -> Result<(), WriteError> {
        let nowhere = SocketAddr::new(crate::vectors::scene::unspecified(family == Family::V6), 0);
        for (id, record) in records {
            let (id, generation) = (*id, record.generation);
            let spec = match record.addr {
                Some(addr) => BackendSpec {
                    id,
                    addr: SocketAddr::new(addr.ip, addr.port),
                    generation,
                    ifindex: record.redirect.map_or(0, |redirect| redirect.ifindex),
                    place: if record.local { Place::Local } else { Place::Remote },
                },
                None => {
                    BackendSpec { id, addr: nowhere, generation, ifindex: 0, place: Place::Nowhere }
                }
            };
            self.0.put_backend(spec);
        }
        Ok(())
    }

    fn put_slots(&mut self, family: Family, base: u32, ids: &[u32]) -> Result<(), WriteError> {
        for (slot, id) in (base..).zip(ids) {
            self.0.put_slot(family == Family::V6, slot, *id);
        }
        Ok(())
    }

    fn put_frontend(
        &mut self,
        key: &FrontendKey,
        record: &FrontendRecord,
    ) -> Result<(), WriteError> {
        self.0.put_frontend(&frontend(key, record));
        Ok(())
    }

    fn remove_frontend(&mut self, key: &FrontendKey) -> Result<(), WriteError> {
        self.0.remove_frontend(&frontend(key, &FrontendRecord::default()));
        Ok(())
    }

    fn put_wildcard(&mut self, ip: IpAddr, flags: u32) -> Result<(), WriteError> {
        self.0.put_frontend(&FrontendSpec::wildcard(ip, flags));
        Ok(())
    }

    fn remove_wildcard(&mut self, ip: IpAddr) -> Result<(), WriteError> {
        self.0.remove_frontend(&FrontendSpec::wildcard(ip, 0));
        Ok(())
    }

    fn put_source_range(&mut self, _: Family, service: u32, cidr: Cidr) -> Result<(), WriteError> {
        self.0.put_source_range(service, range(cidr));
        Ok(())
    }

    fn remove_source_range(
        &mut self,
        _: Family,
        service: u32,
        cidr: Cidr,
    ) -> Result<(), WriteError> {
        self.0.remove_source_range(service, range(cidr));
        Ok(())
    }

    fn put_cluster_range(
        &mut self,
        family: Family,
        index: u32,
        cidr: Option<Cidr>,
    ) -> Result<(), WriteError> {
        let none = Range { ip: crate::vectors::scene::unspecified(family == Family::V6), bits: 0 };
        self.0.put_cluster_range(index, cidr.map_or(none, range));
        Ok(())
    }
}
