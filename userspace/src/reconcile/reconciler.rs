// SPDX-License-Identifier: Apache-2.0
//! Keeps what the maps hold, and changes it into what they should hold.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    ops::Range,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    backends::{Backends, Resolve, Write},
    services::Services,
    slots::Slots,
    tables::{BackendRecord, Family, FrontendRecord, Tables, WriteError},
};
use crate::{
    model::addr::{BackendAddr, FrontendAddr},
    plan::desired::{Changes, DesiredBackend, DesiredFrontend, NoBackend},
};

/// How long what nothing leads to any more is kept: a program that has read the old value runs for
/// microseconds.
pub const GRACE: Duration = Duration::from_millis(100);

/// Why a frontend is not as it should be; it keeps its last good state, and is tried again.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// Written nothing, for not everything would have had room.
    #[error("{map} is full: {wanted} more entries, room for {room}")]
    Full {
        /// The map.
        map: &'static str,
        /// Entries that are needed.
        wanted: usize,
        /// Entries that are left.
        room: usize,
    },
    /// The kernel refused a write.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A frontend as the maps hold it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) record: FrontendRecord,
    /// Ids in its slots, in order.
    pub(super) slots: Vec<u32>,
    /// Backends that it keeps alive: those in its slots and those that drain.
    pub(super) uses: Vec<BackendAddr>,
}

impl Held {
    fn range(&self) -> Range<u32> {
        self.record.base..self.record.base + self.record.count
    }
}

/// State of one family.
#[derive(Debug)]
pub(super) struct PerFamily {
    pub(super) backends: Backends,
    pub(super) slots: Slots,
    /// Entries in the frontend map.
    pub(super) entries: usize,
}

/// What is freed when its grace is over.
#[derive(Debug)]
struct Retired {
    since: Instant,
    family: Family,
    slots: Range<u32>,
    ids: Vec<u32>,
}

/// Changes the maps into what they should hold.
#[derive(Debug)]
pub struct Reconciler<T> {
    pub(super) tables: T,
    pub(super) families: [PerFamily; 2],
    pub(super) services: Services,
    pub(super) frontends: HashMap<FrontendAddr, Held>,
    /// Marked addresses, with the number of their frontends.
    pub(super) addresses: HashMap<IpAddr, u32>,
    retired: VecDeque<Retired>,
    /// Changes that could not be made, to be tried again.
    failed: BTreeMap<FrontendAddr, (Option<DesiredFrontend>, ReconcileError)>,
}

impl<T: Tables> Reconciler<T> {
    /// A reconciler over empty maps; see [`Self::adopt`](super::adopt) for others.
    pub fn new(tables: T) -> Self {
        let families = Family::ALL.map(|family| PerFamily {
            backends: Backends::new(tables.backend_capacity(family)),
            slots: Slots::new(tables.slot_capacity(family)),
            entries: 0,
        });
        Self {
            tables,
            families,
            services: Services::default(),
            frontends: HashMap::new(),
            addresses: HashMap::new(),
            retired: VecDeque::new(),
            failed: BTreeMap::new(),
        }
    }

    /// The maps.
    pub fn tables(&self) -> &T {
        &self.tables
    }

    /// The maps, for what is not of services.
    pub fn tables_mut(&mut self) -> &mut T {
        &mut self.tables
    }

    /// Makes changes. One that fails leaves its frontend as it was and is tried again; the others
    /// are made.
    pub fn apply(&mut self, changes: Changes, resolve: &Resolve<'_>, now: Instant) {
        // Removals first: they make room.
        let (removed, changed): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|(_, desired)| desired.is_none());
        for (addr, desired) in removed.into_iter().chain(changed) {
            let result = match &desired {
                Some(desired) => self.put(&addr, desired, resolve, now),
                None => self.remove(&addr, now),
            };
            match result {
                Ok(()) => self.failed.remove(&addr),
                Err(error) => self.failed.insert(addr, (desired, error)),
            };
        }
    }

    /// Tries again what failed.
    pub fn retry(&mut self, resolve: &Resolve<'_>, now: Instant) {
        let failed = std::mem::take(&mut self.failed);
        if !failed.is_empty() {
            let changes = failed.into_iter().map(|(addr, (desired, _))| (addr, desired));
            self.apply(changes.collect(), resolve, now);
        }
    }

    /// What could not be made, and why.
    pub fn errors(&self) -> impl Iterator<Item = (&FrontendAddr, &ReconcileError)> {
        self.failed.iter().map(|(addr, (_, error))| (addr, error))
    }

    /// Frees what has been out of use for [`GRACE`]; returns when to call again.
    pub fn free_retired(&mut self, now: Instant) -> Result<Option<Instant>, WriteError> {
        while let Some(oldest) = self.retired.front() {
            let due = oldest.since + GRACE;
            if due > now {
                return Ok(Some(due));
            }
            let Some(retired) = self.retired.pop_front() else { break };
            let family = retired.family;
            self.families[family as usize].slots.give_back(retired.slots);
            for id in retired.ids {
                let write = self.families[family as usize].backends.free(id);
                self.write_backend(family, write)?;
            }
        }
        Ok(None)
    }

    /// Looks up the interfaces of local backends again.
    pub fn resolve_again(&mut self, resolve: &Resolve<'_>) -> Result<(), WriteError> {
        for family in Family::ALL {
            for write in self.families[family as usize].backends.resolve_again(resolve) {
                self.write_backend(family, Some(write))?;
            }
        }
        Ok(())
    }

    /// Numbers and names of service ports.
    pub fn service_names(&self) -> &Services {
        &self.services
    }

    /// Number of frontends in the maps.
    pub fn frontend_count(&self) -> usize {
        self.frontends.len()
    }

    fn put(
        &mut self,
        addr: &FrontendAddr,
        desired: &DesiredFrontend,
        resolve: &Resolve<'_>,
        now: Instant,
    ) -> Result<(), ReconcileError> {
        let family = Family::of(addr.ip);
        self.check_room(addr, desired)?;
        let (slots, uses) = self.acquire(family, desired, resolve)?;
        let (record, kept_slots) = match self.write_frontend(addr, desired, &slots) {
            Ok(written) => written,
            Err(error) => {
                self.release(family, &uses, now)?;
                return Err(error);
            }
        };
        let old = self.frontends.insert(*addr, Held { record, slots, uses });
        match old {
            Some(old) => self.retire(family, old, kept_slots, now)?,
            None => self.add_address(addr)?,
        }
        Ok(())
    }

    /// Writes slots and frontend; returns the record and whether the slots are the old ones.
    fn write_frontend(
        &mut self,
        addr: &FrontendAddr,
        desired: &DesiredFrontend,
        slots: &[u32],
    ) -> Result<(FrontendRecord, bool), ReconcileError> {
        let family = Family::of(addr.ip);
        let old = self.frontends.get(addr);
        let old_record = old.map(|old| old.record);
        let kept = old.filter(|old| old.slots == slots).map(Held::range);
        let range = match &kept {
            Some(range) => range.clone(),
            None => self.write_slots(family, slots)?,
        };
        let service = self.services.acquire(&desired.service);
        let record = FrontendRecord {
            service,
            base: range.start,
            count: slots.len() as u32,
            silent: desired.no_backend == NoBackend::Drop,
            affinity_seconds: desired
                .affinity
                .map_or(0, |timeout| timeout.as_secs().try_into().unwrap_or(u32::MAX)),
        };
        if old_record != Some(record)
            && let Err(error) = self.tables.put_frontend(addr, &record)
        {
            self.services.release(service);
            if kept.is_none() {
                self.families[family as usize].slots.give_back(range);
            }
            return Err(error.into());
        }
        Ok((record, kept.is_some()))
    }

    fn remove(&mut self, addr: &FrontendAddr, now: Instant) -> Result<(), ReconcileError> {
        if !self.frontends.contains_key(addr) {
            return Ok(());
        }
        self.tables.remove_frontend(addr)?;
        self.remove_address(addr)?;
        if let Some(old) = self.frontends.remove(addr) {
            self.retire(Family::of(addr.ip), old, false, now)?;
        }
        Ok(())
    }

    /// Refuses a change before anything is written, if not all of it has room.
    fn check_room(
        &self,
        addr: &FrontendAddr,
        desired: &DesiredFrontend,
    ) -> Result<(), ReconcileError> {
        let family = Family::of(addr.ip);
        let state = &self.families[family as usize];
        let full = |map, wanted: usize, room: usize| ReconcileError::Full { map, wanted, room };
        let missing = state.backends.missing(desired.backends.iter().chain(&desired.draining));
        if missing > state.backends.room() {
            return Err(full("BACKENDS", missing, state.backends.room()));
        }
        let room = state.slots.free() as usize;
        if desired.backends.len() > room {
            return Err(full("SLOTS", desired.backends.len(), room));
        }
        if !self.frontends.contains_key(addr) {
            let wanted = 1 + usize::from(!self.addresses.contains_key(&addr.ip));
            let room = self.tables.frontend_capacity(family) as usize;
            if state.entries + wanted > room {
                return Err(full("FRONTENDS", wanted, room - state.entries));
            }
        }
        Ok(())
    }

    /// Ids of the backends, new ones written: those for slots, and the addresses of all.
    fn acquire(
        &mut self,
        family: Family,
        desired: &DesiredFrontend,
        resolve: &Resolve<'_>,
    ) -> Result<(Vec<u32>, Vec<BackendAddr>), ReconcileError> {
        let mut slots = Vec::with_capacity(desired.backends.len());
        let mut uses = Vec::with_capacity(desired.backends.len() + desired.draining.len());
        for backend in desired.backends.iter().chain(&desired.draining) {
            let id = self.acquire_one(family, backend, resolve)?;
            uses.push(backend.addr);
            if slots.len() < desired.backends.len() {
                slots.push(id);
            }
        }
        Ok((slots, uses))
    }

    fn acquire_one(
        &mut self,
        family: Family,
        backend: &DesiredBackend,
        resolve: &Resolve<'_>,
    ) -> Result<u32, ReconcileError> {
        let full = ReconcileError::Full { map: "BACKENDS", wanted: 1, room: 0 };
        let (id, write) =
            self.families[family as usize].backends.acquire(backend, resolve).ok_or(full)?;
        self.write_backend(family, write)?;
        Ok(id)
    }

    fn write_backend(&mut self, family: Family, write: Write) -> Result<(), WriteError> {
        match write {
            Some((id, record)) => self.tables.put_backend(family, id, &record),
            None => Ok(()),
        }
    }

    fn write_slots(&mut self, family: Family, ids: &[u32]) -> Result<Range<u32>, ReconcileError> {
        let wanted = ids.len();
        if wanted == 0 {
            return Ok(0..0);
        }
        let slots = &mut self.families[family as usize].slots;
        let room = slots.free() as usize;
        let full = ReconcileError::Full { map: "SLOTS", wanted, room };
        let range = slots.take(wanted as u32).ok_or(full)?;
        for (slot, id) in range.clone().zip(ids) {
            if let Err(error) = self.tables.put_slot(family, slot, *id) {
                self.families[family as usize].slots.give_back(range);
                return Err(error.into());
            }
        }
        Ok(range)
    }

    fn add_address(&mut self, addr: &FrontendAddr) -> Result<(), WriteError> {
        let entries = &mut self.families[Family::of(addr.ip) as usize].entries;
        *entries += 1;
        let uses = self.addresses.entry(addr.ip).or_insert(0);
        *uses += 1;
        if *uses == 1 {
            *entries += 1;
            self.tables.put_wildcard(addr.ip)?;
        }
        Ok(())
    }

    fn remove_address(&mut self, addr: &FrontendAddr) -> Result<(), WriteError> {
        let entries = &mut self.families[Family::of(addr.ip) as usize].entries;
        *entries = entries.saturating_sub(1);
        let Some(uses) = self.addresses.get_mut(&addr.ip) else { return Ok(()) };
        *uses -= 1;
        if *uses == 0 {
            self.addresses.remove(&addr.ip);
            *entries = entries.saturating_sub(1);
            self.tables.remove_wildcard(addr.ip)?;
        }
        Ok(())
    }

    /// Gives up what a frontend held, now that it leads elsewhere.
    fn retire(
        &mut self,
        family: Family,
        old: Held,
        keep_slots: bool,
        now: Instant,
    ) -> Result<(), ReconcileError> {
        self.services.release(old.record.service);
        let slots = if keep_slots { 0..0 } else { old.range() };
        self.retire_later(family, slots, Vec::new(), now);
        self.release(family, &old.uses, now)
    }

    /// Counts one use of each backend less.
    fn release(
        &mut self,
        family: Family,
        uses: &[BackendAddr],
        now: Instant,
    ) -> Result<(), ReconcileError> {
        let mut ids = Vec::new();
        for addr in uses {
            let write = self.families[family as usize].backends.release(addr);
            ids.extend(write.as_ref().map(|(id, _)| *id));
            self.write_backend(family, write)?;
        }
        self.retire_later(family, 0..0, ids, now);
        Ok(())
    }

    pub(super) fn retire_later(
        &mut self,
        family: Family,
        slots: Range<u32>,
        ids: Vec<u32>,
        now: Instant,
    ) {
        if !slots.is_empty() || !ids.is_empty() {
            self.retired.push_back(Retired { since: now, family, slots, ids });
        }
    }

    pub(super) fn write_records(
        &mut self,
        family: Family,
        records: &[(u32, BackendRecord)],
    ) -> Result<(), WriteError> {
        records.iter().try_for_each(|(id, record)| self.tables.put_backend(family, *id, record))
    }
}
