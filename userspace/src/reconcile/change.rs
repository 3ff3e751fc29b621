// SPDX-License-Identifier: Apache-2.0
//! One change of one frontend: the writes it takes, in their order, and what undoes them.

use std::{ops::Range, time::Instant};

use super::{
    backends::Resolve,
    reconciler::{ReconcileError, Reconciler},
    tables::{Family, FrontendRecord, Tables, WriteError},
};
use crate::{
    model::addr::FrontendAddr,
    plan::desired::{DesiredFrontend, NoBackend},
};

/// A frontend as the maps hold it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) record: FrontendRecord,
    /// Backends that it keeps alive: first those in its slots, in order, then those that drain.
    pub(super) ids: Box<[u32]>,
    /// The slots are its own, and `ids` are what they hold; not so if it was adopted and
    /// contradicts itself.
    pub(super) is_sound: bool,
    /// It is counted as a frontend of its service port.
    pub(super) is_counted: bool,
}

impl Held {
    /// The slots that are its own.
    fn range(&self) -> Range<u32> {
        match self.is_sound {
            true => self.record.base..self.record.base + self.record.count,
            false => 0..0,
        }
    }

    /// Whether its slots hold exactly these ids.
    fn has_slots(&self, ids: impl ExactSizeIterator<Item = Option<u32>>) -> bool {
        let slots = self.ids.iter().take(self.record.count as usize).copied().map(Some);
        self.is_sound && self.record.count as usize == ids.len() && slots.eq(ids)
    }
}

impl<T: Tables> Reconciler<T> {
    pub(super) fn make(
        &mut self,
        addr: &FrontendAddr,
        desired: Option<&DesiredFrontend>,
        resolve: &Resolve<'_>,
        now: Instant,
    ) -> Result<(), ReconcileError> {
        match desired {
            Some(desired) => self.put(addr, desired, resolve, now),
            None => Ok(self.remove(addr, now)?),
        }
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
        let ids = self.acquire(family, desired, resolve, now)?;
        let record = match self.write(addr, desired, &ids) {
            Ok(record) => record,
            Err(error) => {
                self.release(family, &ids, now);
                return Err(error);
            }
        };
        let held = Held { record, ids: ids.into(), is_sound: true, is_counted: true };
        let range = held.range();
        match self.frontends.insert(*addr, held) {
            Some(old) => self.give_up(family, &old, &range, now),
            None => {
                self.families[family as usize].frontends += 1;
                self.marks.add(addr.ip);
            }
        }
        Ok(())
    }

    fn remove(&mut self, addr: &FrontendAddr, now: Instant) -> Result<(), WriteError> {
        if !self.frontends.contains_key(addr) {
            return Ok(());
        }
        self.tables.remove_frontend(addr)?;
        if let Some(old) = self.frontends.remove(addr) {
            let family = Family::of(addr.ip);
            self.families[family as usize].frontends -= 1;
            self.marks.remove(addr.ip);
            self.give_up(family, &old, &(0..0), now);
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
        let check = |map, wanted: usize, room: usize| match wanted > room {
            true => Err(ReconcileError::Full { map, wanted, room }),
            false => Ok(()),
        };
        let missing = state.backends.missing(desired.backends.iter().chain(&desired.draining));
        check("BACKENDS", missing, state.backends.room())?;
        let ids = desired.backends.iter().map(|backend| state.backends.id_of(&backend.addr));
        let old = self.frontends.get(addr);
        if !old.is_some_and(|old| old.has_slots(ids)) {
            check("SLOTS", desired.backends.len(), state.slots.longest() as usize)?;
        }
        if old.is_none() {
            let wanted = 1 + usize::from(!self.marks.contains(&addr.ip));
            let used = state.frontends + self.marks.count(family);
            let capacity = self.tables.frontend_capacity(family) as usize;
            check("FRONTENDS", wanted, capacity.saturating_sub(used))?;
        }
        Ok(())
    }

    /// Ids of all backends of a frontend, those for its slots first.
    fn acquire(
        &mut self,
        family: Family,
        desired: &DesiredFrontend,
        resolve: &Resolve<'_>,
        now: Instant,
    ) -> Result<Vec<u32>, ReconcileError> {
        let mut ids = Vec::with_capacity(desired.backends.len() + desired.draining.len());
        for backend in desired.backends.iter().chain(&desired.draining) {
            match self.families[family as usize].backends.acquire(backend, resolve) {
                Some(id) => ids.push(id),
                None => {
                    self.release(family, &ids, now);
                    return Err(ReconcileError::Full { map: "BACKENDS", wanted: 1, room: 0 });
                }
            }
        }
        Ok(ids)
    }

    /// Writes backends, slots and frontend, as far as the maps do not hold them.
    fn write(
        &mut self,
        addr: &FrontendAddr,
        desired: &DesiredFrontend,
        ids: &[u32],
    ) -> Result<FrontendRecord, ReconcileError> {
        let family = Family::of(addr.ip);
        self.write_backends(family)?;
        let slots = &ids[..desired.backends.len()];
        let old = self.frontends.get(addr).filter(|old| old.is_sound);
        let old_record = old.map(|old| old.record);
        let kept = old.filter(|old| old.has_slots(slots.iter().copied().map(Some)));
        let (range, is_new) = match kept {
            Some(old) => (old.range(), false),
            None => (self.write_slots(family, slots)?, true),
        };
        let service = self.services.acquire(&desired.service);
        let record = record(desired, service, &range);
        if old_record != Some(record)
            && let Err(error) = self.tables.put_frontend(addr, &record)
        {
            self.services.release(service);
            if is_new {
                self.families[family as usize].slots.give_back(range);
            }
            return Err(error.into());
        }
        Ok(record)
    }

    pub(super) fn write_backends(&mut self, family: Family) -> Result<(), WriteError> {
        let backends = &mut self.families[family as usize].backends;
        let unwritten = backends.unwritten();
        if !unwritten.is_empty() {
            self.tables.put_backends(family, &unwritten)?;
            backends.note_written();
        }
        Ok(())
    }

    fn write_slots(&mut self, family: Family, ids: &[u32]) -> Result<Range<u32>, ReconcileError> {
        if ids.is_empty() {
            return Ok(0..0);
        }
        let slots = &mut self.families[family as usize].slots;
        let range = slots.take(ids.len() as u32).ok_or_else(|| ReconcileError::Full {
            map: "SLOTS",
            wanted: ids.len(),
            room: slots.longest() as usize,
        })?;
        match self.tables.put_slots(family, range.start, ids) {
            Ok(()) => Ok(range),
            Err(error) => {
                slots.give_back(range);
                Err(error.into())
            }
        }
    }

    /// Gives up what a frontend held, now that it leads to the slots in `kept`.
    fn give_up(&mut self, family: Family, old: &Held, kept: &Range<u32>, now: Instant) {
        if old.is_counted {
            self.services.release(old.record.service);
        }
        if old.range() != *kept {
            self.retire_later(family, old.range(), Vec::new(), now);
        }
        self.release(family, &old.ids, now);
    }

    /// Counts one use of each backend less.
    fn release(&mut self, family: Family, ids: &[u32], now: Instant) {
        let backends = &mut self.families[family as usize].backends;
        let retired = ids.iter().copied().filter(|id| backends.release(*id)).collect();
        self.retire_later(family, 0..0, retired, now);
    }
}

pub(super) fn record(
    desired: &DesiredFrontend,
    service: u32,
    range: &Range<u32>,
) -> FrontendRecord {
    FrontendRecord {
        service,
        base: range.start,
        count: range.end - range.start,
        silent: desired.no_backend == NoBackend::Drop,
        affinity_seconds: desired
            .affinity
            .map_or(0, |timeout| timeout.as_secs().try_into().unwrap_or(u32::MAX)),
    }
}
