// SPDX-License-Identifier: Apache-2.0
//! The maps in memory, for tests: they fail at will, and check the promises to a reader at every
//! single write.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use pintle_abi::service::frontend_flags;

use super::{
    faults::Faults,
    reconciler::GRACE,
    tables::{BackendRecord, Family, FrontendRecord, Realized, Tables, WriteError},
};
use crate::model::{
    addr::{BackendAddr, FrontendKey},
    cidr::Cidr,
};

/// Maps in memory.
#[derive(Debug)]
pub struct FakeTables {
    pub slot_capacity: u32,
    pub backend_capacity: u32,
    pub frontend_capacity: u32,
    pub source_range_capacity: u32,
    pub frontends: BTreeMap<FrontendKey, FrontendRecord>,
    /// Wildcard entries with their flags.
    pub marks: BTreeMap<IpAddr, u32>,
    pub backends: BTreeMap<(Family, u32), BackendRecord>,
    pub slots: BTreeMap<(Family, u32), u32>,
    /// Source ranges by service port.
    pub source_ranges: BTreeSet<(u32, Cidr)>,
    pub cluster_ranges: BTreeMap<(Family, u32), Cidr>,
    pub faults: Faults,
    /// The time, as the reconciler is told it.
    pub now: Instant,
    /// Slots and backend ids that a reader may still hold, and since when nothing leads to them.
    left_slots: BTreeMap<(Family, u32), Instant>,
    left_ids: BTreeMap<(Family, u32), Instant>,
}

impl FakeTables {
    pub fn new() -> Self {
        Self {
            slot_capacity: 64,
            backend_capacity: 64,
            frontend_capacity: 64,
            source_range_capacity: 64,
            frontends: BTreeMap::new(),
            marks: BTreeMap::new(),
            backends: BTreeMap::new(),
            slots: BTreeMap::new(),
            source_ranges: BTreeSet::new(),
            cluster_ranges: BTreeMap::new(),
            faults: Faults::new(),
            now: Instant::now(),
            left_slots: BTreeMap::new(),
            left_ids: BTreeMap::new(),
        }
    }

    /// Lets time pass.
    pub fn sleep(&mut self, time: Duration) {
        self.now += time;
    }

    /// What an agent reads at its start.
    pub fn realized(&self) -> Realized {
        let ids = |key: &FrontendKey, record: &FrontendRecord| {
            let range = record.base..record.base.saturating_add(record.count);
            match range.end <= self.slot_capacity {
                true => range.map(|slot| self.slot(Family::of(key.addr.ip), slot)).collect(),
                false => Vec::new(),
            }
        };
        Realized {
            frontends: self.frontends.iter().map(|(a, r)| (*a, *r, ids(a, r))).collect(),
            wildcards: self.marks.iter().map(|(ip, flags)| (*ip, *flags)).collect(),
            backends: self.backends.iter().map(|((f, id), r)| (*f, *id, *r)).collect(),
            source_ranges: self.source_ranges.iter().copied().collect(),
            cluster_ranges: self.cluster_ranges.iter().map(|((_, i), r)| (*i, *r)).collect(),
        }
    }

    /// Where a new connection to a frontend may go.
    pub fn reached(&self, key: &FrontendKey) -> Option<Vec<BackendAddr>> {
        let family = Family::of(key.addr.ip);
        let record = self.frontends.get(key)?;
        let reach = |slot| {
            let id = self.slot(family, slot);
            let backend = self.backends.get(&(family, id)).and_then(|backend| backend.addr);
            backend.unwrap_or_else(|| panic!("{key}: slot {slot} leads to {id}, not a backend"))
        };
        Some((record.base..record.base + record.count).map(reach).collect())
    }

    /// Addresses of live backends, with how often each occurs.
    pub fn live(&self) -> Vec<BackendAddr> {
        let mut live: Vec<_> = self.backends.values().filter_map(|record| record.addr).collect();
        live.sort();
        live
    }

    fn slot(&self, family: Family, slot: u32) -> u32 {
        self.slots.get(&(family, slot)).copied().unwrap_or_default()
    }

    /// Makes one write: of what readers see, it may change the frontend `of` and no other.
    fn write(
        &mut self,
        map: &'static str,
        of: Option<&FrontendKey>,
        write: impl FnOnce(&mut Self),
    ) -> Result<(), WriteError> {
        self.faults.attempt(map)?;
        let reached = |tables: &Self| -> BTreeMap<FrontendKey, _> {
            let others = tables.frontends.keys().filter(|key| Some(*key) != of);
            others.map(|key| (*key, tables.reached(key))).collect()
        };
        let before = reached(self);
        write(self);
        assert_eq!(before, reached(self), "a write to {map} changed what others lead to");
        if let Some(key) = of {
            self.reached(key);
            self.assert_complete(key);
        }
        Ok(())
    }

    /// Who is told that clients outside the cluster have a frontend of their own finds it.
    fn assert_complete(&self, key: &FrontendKey) {
        let internal = self.frontends.get(&FrontendKey::internal(key.addr));
        if internal.is_some_and(|record| record.has(frontend_flags::SPLIT)) {
            let external = FrontendKey::external(key.addr);
            assert!(self.frontends.contains_key(&external), "{external} is missing");
        }
    }

    /// A reader that has just read the old value of a frontend may hold its slots and ids.
    fn leave(&mut self, key: &FrontendKey) {
        let Some(record) = self.frontends.get(key).copied() else { return };
        let family = Family::of(key.addr.ip);
        for slot in record.base..record.base + record.count {
            self.left_slots.insert((family, slot), self.now);
            self.left_ids.insert((family, self.slot(family, slot)), self.now);
        }
    }

    fn assert_grace(&self, what: &str, left: Option<&Instant>) {
        if let Some(left) = left {
            assert!(self.now >= *left + GRACE, "{what} is used again too early");
        }
    }
}

impl Tables for FakeTables {
    fn slot_capacity(&self, _: Family) -> u32 {
        self.slot_capacity
    }

    fn backend_capacity(&self, _: Family) -> u32 {
        self.backend_capacity
    }

    fn frontend_capacity(&self, _: Family) -> u32 {
        self.frontend_capacity
    }

    fn source_range_capacity(&self, _: Family) -> u32 {
        self.source_range_capacity
    }

    fn put_backends(
        &mut self,
        family: Family,
        records: &[(u32, BackendRecord)],
    ) -> Result<(), WriteError> {
        for (id, record) in records {
            assert!(*id < self.backend_capacity, "backend {id} is out of range");
            let before = self.backends.get(&(family, *id)).copied();
            if before.is_some_and(|before| before.addr != record.addr) {
                self.assert_grace("a backend id", self.left_ids.get(&(family, *id)));
                assert_ne!(before.map(|before| before.generation), Some(0));
            }
            self.write("BACKENDS", None, |tables| {
                tables.backends.insert((family, *id), *record);
            })?;
        }
        Ok(())
    }

    fn put_slots(&mut self, family: Family, base: u32, ids: &[u32]) -> Result<(), WriteError> {
        for (slot, id) in (base..).zip(ids) {
            assert!(slot < self.slot_capacity, "slot {slot} is out of range");
            self.assert_grace("a slot", self.left_slots.get(&(family, slot)));
            self.write("SLOTS", None, |tables| {
                tables.slots.insert((family, slot), *id);
            })?;
        }
        Ok(())
    }

    fn put_frontend(
        &mut self,
        key: &FrontendKey,
        record: &FrontendRecord,
    ) -> Result<(), WriteError> {
        self.write("FRONTENDS", Some(key), |tables| {
            tables.leave(key);
            tables.frontends.insert(*key, *record);
            let used = tables.frontends.len() + tables.marks.len();
            assert!(used <= 2 * tables.frontend_capacity as usize, "FRONTENDS overflows");
        })
    }

    fn remove_frontend(&mut self, key: &FrontendKey) -> Result<(), WriteError> {
        self.write("FRONTENDS", Some(key), |tables| {
            tables.leave(key);
            tables.frontends.remove(key);
        })
    }

    fn put_wildcard(&mut self, ip: IpAddr, flags: u32) -> Result<(), WriteError> {
        assert!(!ip.is_unspecified(), "node ports have no mark");
        self.write("FRONTENDS", None, |tables| {
            tables.marks.insert(ip, flags);
        })
    }

    fn remove_wildcard(&mut self, ip: IpAddr) -> Result<(), WriteError> {
        assert!(self.frontends.keys().all(|key| key.addr.ip != ip), "{ip} has frontends");
        self.write("FRONTENDS", None, |tables| {
            tables.marks.remove(&ip);
        })
    }

    fn put_source_range(
        &mut self,
        family: Family,
        service: u32,
        range: Cidr,
    ) -> Result<(), WriteError> {
        assert_eq!(range.family(), family);
        let of_family = self.source_ranges.iter().filter(|(_, range)| range.family() == family);
        let room = self.source_range_capacity as usize;
        assert!(of_family.count() < room, "SOURCE_RANGES overflows");
        self.write("SOURCE_RANGES", None, |tables| {
            tables.source_ranges.insert((service, range));
        })
    }

    fn remove_source_range(
        &mut self,
        family: Family,
        service: u32,
        range: Cidr,
    ) -> Result<(), WriteError> {
        assert_eq!(range.family(), family);
        self.write("SOURCE_RANGES", None, |tables| {
            tables.source_ranges.remove(&(service, range));
        })
    }

    fn put_cluster_range(
        &mut self,
        family: Family,
        index: u32,
        range: Option<Cidr>,
    ) -> Result<(), WriteError> {
        self.write("CLUSTER_RANGES", None, |tables| {
            match range {
                Some(range) => tables.cluster_ranges.insert((family, index), range),
                None => tables.cluster_ranges.remove(&(family, index)),
            };
        })
    }
}
