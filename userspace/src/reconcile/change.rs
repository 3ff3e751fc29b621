// SPDX-License-Identifier: Apache-2.0
//! One change of one frontend: the writes it takes, in their order, and what undoes them.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    ops::Range,
    time::Instant,
};

use pintle_abi::service::frontend_flags;

use super::{
    backends::Resolve,
    reconciler::{ReconcileError, Reconciler},
    tables::{Family, FrontendRecord, Tables, WriteError},
};
use crate::{
    model::{
        addr::{FrontendKey, Scope},
        cidr::Cidr,
    },
    plan::{
        desired::{DesiredFrontend, Masquerade, NoBackend},
        maglev,
    },
};

/// The maps of slots, as errors name them.
const SLOTS: &str = "SLOTS";

/// A frontend as the maps hold it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) record: FrontendRecord,
    /// Backends that it keeps alive, each once: first those that its slots lead to, by address, then
    /// those that drain.
    pub(super) ids: Box<[u32]>,
    /// Number of those that its slots lead to.
    pub(super) chosen: u32,
    /// What is known of its Maglev table, if it has one.
    pub(super) table: Table,
    /// Source ranges that it asks for.
    pub(super) ranges: Box<[Cidr]>,
    /// The slots are its own, and `ids` are what they hold; not so if it was adopted and
    /// contradicts itself.
    pub(super) is_sound: bool,
    /// It is counted as a frontend of its service port.
    pub(super) is_counted: bool,
}

/// What tells a Maglev table from another one of the same backends.
#[derive(Debug)]
pub(super) enum Table {
    /// Their weights; empty if they are alike.
    Weighted(Box<[u8]>),
    /// A hash of the slots: it was adopted, and the maps know no weights.
    Adopted(u64),
}

impl Table {
    /// The table that the maps hold.
    pub(super) fn adopted(slots: &[u32]) -> Self {
        Self::Adopted(hash(slots))
    }

    /// Whether it is that of a frontend with these backends.
    fn is_of(&self, desired: &DesiredFrontend, ids: &[u32]) -> bool {
        match self {
            _ if desired.table.is_none() => true,
            Self::Weighted(weights) => **weights == desired.weights(),
            Self::Adopted(found) => *found == hash(&slots(desired, ids)),
        }
    }
}

fn hash(slots: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    slots.hash(&mut hasher);
    hasher.finish()
}

impl Held {
    /// The slots that are its own.
    fn range(&self) -> Range<u32> {
        match self.is_sound {
            true => self.record.base..self.record.base + self.record.count,
            false => 0..0,
        }
    }

    /// Whether its slots are those that a frontend shall have, and lead to exactly these backends.
    fn has_slots(&self, desired: &DesiredFrontend, ids: impl Iterator<Item = Option<u32>>) -> bool {
        let chosen = &self.ids[..self.chosen as usize];
        self.is_sound
            && self.record.has(frontend_flags::MAGLEV) == desired.table.is_some()
            && self.record.count as usize == desired.slots()
            && chosen.iter().copied().map(Some).eq(ids)
            && self.table.is_of(desired, chosen)
    }
}

impl<T: Tables> Reconciler<T> {
    pub(super) fn make(
        &mut self,
        key: &FrontendKey,
        desired: Option<&DesiredFrontend>,
        resolve: &Resolve<'_>,
        now: Instant,
    ) -> Result<(), ReconcileError> {
        let Some(desired) = desired else { return self.remove(key, now) };
        match self.put(key, desired, resolve, now) {
            // Better chosen at random than not at all.
            Err(full @ ReconcileError::Full { map: SLOTS, .. }) if desired.table.is_some() => {
                let plain = DesiredFrontend { table: None, ..desired.clone() };
                self.put(key, &plain, resolve, now)?;
                Err(full)
            }
            made => made,
        }
    }

    fn put(
        &mut self,
        key: &FrontendKey,
        desired: &DesiredFrontend,
        resolve: &Resolve<'_>,
        now: Instant,
    ) -> Result<(), ReconcileError> {
        let family = Family::of(key.addr.ip);
        if desired.is_split && !self.frontends.contains_key(&FrontendKey::external(key.addr)) {
            return Err(ReconcileError::Waits);
        }
        let keeps_slots = self.keeps_slots(key, desired);
        self.check_room(key, desired, keeps_slots)?;
        let ids = self.acquire(family, desired, resolve, now)?;
        let record = match self.write(key, desired, &ids, keeps_slots) {
            Ok(record) => record,
            Err(error) => {
                self.release(family, &ids, now);
                return Err(error);
            }
        };
        let ranges = desired.source_ranges.as_deref().unwrap_or_default().into();
        let chosen = desired.backends.len() as u32;
        let ids = ids.into();
        let table = Table::Weighted(desired.weights().into());
        let held = Held { record, ids, chosen, table, ranges, is_sound: true, is_counted: true };
        let range = held.range();
        match self.frontends.insert(*key, held) {
            Some(old) => {
                self.strays.note(key, &old, self.frontends.get(key));
                self.give_up(family, &old, &range, now);
            }
            None => {
                self.families[family as usize].frontends += 1;
                self.marks.add(key.addr.ip);
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: &FrontendKey, now: Instant) -> Result<(), ReconcileError> {
        if !self.frontends.contains_key(key) {
            return Ok(());
        }
        let internal = self.frontends.get(&FrontendKey::internal(key.addr));
        let is_split = internal.is_some_and(|other| other.record.has(frontend_flags::SPLIT));
        if key.scope == Scope::External && is_split {
            return Err(ReconcileError::Waits);
        }
        self.tables.remove_frontend(key)?;
        if let Some(old) = self.frontends.remove(key) {
            let family = Family::of(key.addr.ip);
            self.families[family as usize].frontends -= 1;
            self.marks.remove(key.addr.ip);
            self.strays.note(key, &old, None);
            self.give_up(family, &old, &(0..0), now);
        }
        Ok(())
    }

    /// Whether a frontend has its slots already. Of a table that was adopted that takes as long as to make one.
    fn keeps_slots(&self, key: &FrontendKey, desired: &DesiredFrontend) -> bool {
        let backends = &self.families[Family::of(key.addr.ip) as usize].backends;
        let ids = desired.backends.iter().map(|backend| backends.id_of(&backend.addr));
        self.frontends.get(key).is_some_and(|old| old.has_slots(desired, ids))
    }

    /// Refuses a change before anything is written, if not all of it has room.
    fn check_room(
        &self,
        key: &FrontendKey,
        desired: &DesiredFrontend,
        keeps_slots: bool,
    ) -> Result<(), ReconcileError> {
        let family = Family::of(key.addr.ip);
        let state = &self.families[family as usize];
        let check = |map, wanted: usize, room: usize| match wanted > room {
            true => Err(ReconcileError::Full { map, wanted, room }),
            false => Ok(()),
        };
        let missing = state.backends.missing(desired.backends.iter().chain(&desired.draining));
        check("BACKENDS", missing, state.backends.room())?;
        let old = self.frontends.get(key);
        if !keeps_slots {
            check(SLOTS, desired.slots(), state.slots.longest() as usize)?;
        }
        if old.is_none() {
            let wanted = 1 + self.marks.missing(&key.addr.ip);
            let used = state.frontends + self.marks.count(family);
            let capacity = self.tables.frontend_capacity(family) as usize;
            check("FRONTENDS", wanted, capacity.saturating_sub(used))?;
        }
        let ranges = desired.source_ranges.as_deref().unwrap_or_default();
        let missing = state.sources.missing(self.services.id_of(&desired.service), ranges);
        let capacity = self.tables.source_range_capacity(family) as usize;
        check("SOURCE_RANGES", missing, capacity.saturating_sub(state.sources.count()))
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

    /// Writes backends, slots, source ranges and frontend, as far as the maps do not hold them.
    fn write(
        &mut self,
        key: &FrontendKey,
        desired: &DesiredFrontend,
        ids: &[u32],
        keeps_slots: bool,
    ) -> Result<FrontendRecord, ReconcileError> {
        let family = Family::of(key.addr.ip);
        self.write_backends(family)?;
        let old = self.frontends.get(key).filter(|old| old.is_sound);
        let old_record = old.map(|old| old.record);
        let (range, is_new) = match old.filter(|_| keeps_slots) {
            Some(old) => (old.range(), false),
            None => {
                let chosen = &ids[..desired.backends.len()];
                (self.write_slots(family, &slots(desired, chosen))?, true)
            }
        };
        let service = self.services.acquire(&desired.service);
        let record = record(desired, service, &range);
        let ranges = desired.source_ranges.as_deref().unwrap_or_default();
        let changed = Some(&record).filter(|record| old_record != Some(**record));
        match self.write_frontend(key, ranges, service, changed) {
            Ok(()) => Ok(record),
            Err(error) => {
                self.services.release(service);
                if is_new {
                    self.families[family as usize].slots.give_back(range);
                }
                Err(error.into())
            }
        }
    }

    /// Writes source ranges and, if it changes, the frontend that asks for them.
    fn write_frontend(
        &mut self,
        key: &FrontendKey,
        ranges: &[Cidr],
        service: u32,
        changed: Option<&FrontendRecord>,
    ) -> Result<(), WriteError> {
        let family = Family::of(key.addr.ip);
        let sources = &mut self.families[family as usize].sources;
        sources.acquire(family, service, ranges, &mut self.tables)?;
        let Some(record) = changed else { return Ok(()) };
        let written = self.tables.put_frontend(key, record);
        if written.is_err() {
            sources.release(service, ranges);
        }
        written
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
            map: SLOTS,
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
        self.release_ranges_later(family, old.record.service, &old.ranges, now);
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
        flags: flags(desired),
        affinity_seconds: desired
            .affinity
            .map_or(0, |timeout| timeout.as_secs().try_into().unwrap_or(u32::MAX)),
    }
}

/// What stands in the slots of a frontend, given the ids of its backends.
fn slots<'a>(desired: &DesiredFrontend, ids: &'a [u32]) -> Cow<'a, [u32]> {
    let Some(size) = desired.table else { return ids.into() };
    let backends: Vec<_> = desired.backends.iter().map(|backend| backend.addr).collect();
    let table = maglev::table(&backends, &desired.weights(), size);
    table.into_iter().map(|index| ids[index as usize]).collect()
}

fn flags(desired: &DesiredFrontend) -> u32 {
    let silent = match desired.no_backend {
        NoBackend::Drop => frontend_flags::DROP,
        NoBackend::Reject => 0,
    };
    let masquerade = match desired.masquerade {
        Masquerade::Nobody => 0,
        Masquerade::Others => frontend_flags::MASQUERADE_OTHERS,
        Masquerade::Remote => frontend_flags::MASQUERADE,
        Masquerade::Always => frontend_flags::MASQUERADE | frontend_flags::MASQUERADE_LOCAL,
    };
    let split = if desired.is_split { frontend_flags::SPLIT } else { 0 };
    let ranges = if desired.source_ranges.is_some() { frontend_flags::SOURCE_RANGES } else { 0 };
    // A client with session affinity is to keep its backend also at another node.
    let maglev = match (desired.table, desired.affinity) {
        (None, _) => 0,
        (Some(_), None) => frontend_flags::MAGLEV,
        (Some(_), Some(_)) => frontend_flags::MAGLEV | frontend_flags::ANY_PORT,
    };
    silent | masquerade | split | ranges | maglev
}
