// SPDX-License-Identifier: Apache-2.0
//! The maps in memory, for tests: they fail at will, and check the promises to a reader at every
//! single write.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    reconciler::GRACE,
    tables::{BackendRecord, Family, FrontendRecord, Realized, Tables, WriteError},
};
use crate::model::addr::{BackendAddr, FrontendAddr};

/// Maps in memory.
#[derive(Debug)]
pub struct FakeTables {
    pub slot_capacity: u32,
    pub backend_capacity: u32,
    pub frontend_capacity: u32,
    pub frontends: BTreeMap<FrontendAddr, FrontendRecord>,
    pub marks: BTreeSet<IpAddr>,
    pub backends: BTreeMap<(Family, u32), BackendRecord>,
    pub slots: BTreeMap<(Family, u32), u32>,
    /// Number of writes that were tried.
    pub writes: usize,
    /// Every write fails after this many more.
    pub dies_after: Option<usize>,
    /// Writes that fail, in percent.
    pub failures: u32,
    random: u64,
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
            frontends: BTreeMap::new(),
            marks: BTreeSet::new(),
            backends: BTreeMap::new(),
            slots: BTreeMap::new(),
            writes: 0,
            dies_after: None,
            failures: 0,
            random: 0x9e37_79b9_7f4a_7c15,
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
        let ids = |addr: &FrontendAddr, record: &FrontendRecord| {
            let range = record.base..record.base.saturating_add(record.count);
            match range.end <= self.slot_capacity {
                true => range.map(|slot| self.slot(Family::of(addr.ip), slot)).collect(),
                false => Vec::new(),
            }
        };
        Realized {
            frontends: self.frontends.iter().map(|(a, r)| (*a, *r, ids(a, r))).collect(),
            wildcards: self.marks.iter().copied().collect(),
            backends: self.backends.iter().map(|((f, id), r)| (*f, *id, *r)).collect(),
        }
    }

    /// Where a new connection to a frontend may go.
    pub fn reached(&self, addr: &FrontendAddr) -> Option<Vec<BackendAddr>> {
        let family = Family::of(addr.ip);
        let record = self.frontends.get(addr)?;
        let reach = |slot| {
            let id = self.slot(family, slot);
            let backend = self.backends.get(&(family, id)).and_then(|backend| backend.addr);
            backend.unwrap_or_else(|| panic!("{addr}: slot {slot} leads to {id}, not a backend"))
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
        of: Option<&FrontendAddr>,
        write: impl FnOnce(&mut Self),
    ) -> Result<(), WriteError> {
        self.writes += 1;
        if self.fails() {
            return Err(WriteError { map, source: "injected".into() });
        }
        let reached = |tables: &Self| -> BTreeMap<FrontendAddr, _> {
            let others = tables.frontends.keys().filter(|addr| Some(*addr) != of);
            others.map(|addr| (*addr, tables.reached(addr))).collect()
        };
        let before = reached(self);
        write(self);
        assert_eq!(before, reached(self), "a write to {map} changed what others lead to");
        if let Some(addr) = of {
            self.reached(addr);
        }
        Ok(())
    }

    fn fails(&mut self) -> bool {
        if let Some(left) = &mut self.dies_after {
            let is_dead = *left == 0;
            *left = left.saturating_sub(1);
            return is_dead;
        }
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100 < u64::from(self.failures)
    }

    /// A reader that has just read the old value of a frontend may hold its slots and ids.
    fn leave(&mut self, addr: &FrontendAddr) {
        let Some(record) = self.frontends.get(addr).copied() else { return };
        let family = Family::of(addr.ip);
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
        addr: &FrontendAddr,
        record: &FrontendRecord,
    ) -> Result<(), WriteError> {
        self.write("FRONTENDS", Some(addr), |tables| {
            tables.leave(addr);
            tables.frontends.insert(*addr, *record);
            let used = tables.frontends.len() + tables.marks.len();
            assert!(used <= 2 * tables.frontend_capacity as usize, "FRONTENDS overflows");
        })
    }

    fn remove_frontend(&mut self, addr: &FrontendAddr) -> Result<(), WriteError> {
        self.write("FRONTENDS", Some(addr), |tables| {
            tables.leave(addr);
            tables.frontends.remove(addr);
        })
    }

    fn put_wildcard(&mut self, ip: IpAddr) -> Result<(), WriteError> {
        self.write("FRONTENDS", None, |tables| {
            tables.marks.insert(ip);
        })
    }

    fn remove_wildcard(&mut self, ip: IpAddr) -> Result<(), WriteError> {
        assert!(self.frontends.keys().all(|addr| addr.ip != ip), "{ip} has frontends");
        self.write("FRONTENDS", None, |tables| {
            tables.marks.remove(&ip);
        })
    }
}
