// SPDX-License-Identifier: Apache-2.0
//! Keeps what the maps hold, and changes it into what they should hold.
//!
//! A change of a frontend has one write that counts, that of its value. What is refused before it
//! is undone, and the frontend keeps its last good state, or does without a Maglev table; what is refused after it (a mark, another
//! generation of a backend) is due, and tried again with the next change or by
//! [`Reconciler::retry`].

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
    time::{Duration, Instant},
};

use pintle_abi::service::frontend_flags;
use thiserror::Error;

use super::{
    backends::{Backends, Resolve},
    change::Held,
    cluster::ClusterRanges,
    marks::Marks,
    services::Services,
    slots::Slots,
    sources::Sources,
    strays::Strays,
    tables::{Family, Tables, WriteError},
};
use crate::{
    model::{
        addr::{BackendAddr, FrontendKey, Scope},
        cidr::Cidr,
    },
    plan::desired::{Changes, DesiredFrontend},
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
        /// Entries that are left; for slots, in one piece.
        room: usize,
    },
    /// The frontends of an address, one for either scope, change in an order, and one that comes
    /// before has failed.
    #[error("waits for the other frontend of the address")]
    Waits,
    /// The kernel refused a write.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What changed in what fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Frontends that could be programmed before, and cannot now.
    pub failed: Vec<FrontendKey>,
    /// Frontends that could not be programmed before, and now are.
    pub recovered: Vec<FrontendKey>,
}

/// State of one family.
#[derive(Debug)]
pub(super) struct PerFamily {
    pub(super) backends: Backends,
    pub(super) slots: Slots,
    pub(super) sources: Sources,
    pub(super) cluster_ranges: ClusterRanges,
    /// Number of frontends.
    pub(super) frontends: usize,
    pub(super) disputed: Disputed,
}

/// What frontends that contradict themselves may lead to; nobody else gets it until they are
/// written anew.
#[derive(Debug, Default)]
pub(super) struct Disputed {
    pub(super) slots: Vec<Range<u32>>,
    pub(super) ids: Vec<u32>,
}

/// What is freed when its grace is over.
#[derive(Debug)]
struct Retired {
    since: Instant,
    family: Family,
    slots: Range<u32>,
    ids: Vec<u32>,
    /// Source ranges of a service port.
    ranges: (u32, Box<[Cidr]>),
}

/// Changes the maps into what they should hold.
#[derive(Debug)]
pub struct Reconciler<T> {
    pub(super) tables: T,
    pub(super) families: [PerFamily; 2],
    pub(super) services: Services,
    pub(super) marks: Marks,
    pub(super) frontends: HashMap<FrontendKey, Held>,
    retired: VecDeque<Retired>,
    /// Backends that UDP frontends gave up, and others keep.
    pub(super) strays: Strays,
    /// Backends that were given up, each counted again when its id is free.
    gone: u64,
    /// Changes that could not be made, to be tried again.
    failed: BTreeMap<FrontendKey, (Option<DesiredFrontend>, ReconcileError)>,
    /// Why something that is due could not be written.
    due: Option<WriteError>,
    /// A sweep kept what a later one may not have to keep.
    pub(super) is_unswept: bool,
}

impl<T: Tables> Reconciler<T> {
    /// A reconciler over empty maps; see [`Self::adopt`](super::adopt) for others.
    pub fn new(tables: T) -> Self {
        let families = Family::ALL.map(|family| PerFamily {
            backends: Backends::new(tables.backend_capacity(family)),
            slots: Slots::new(tables.slot_capacity(family)),
            sources: Sources::default(),
            cluster_ranges: ClusterRanges::default(),
            frontends: 0,
            disputed: Disputed::default(),
        });
        Self {
            tables,
            families,
            services: Services::default(),
            marks: Marks::default(),
            frontends: HashMap::new(),
            retired: VecDeque::new(),
            strays: Strays::default(),
            gone: 0,
            failed: BTreeMap::new(),
            due: None,
            is_unswept: false,
        }
    }

    /// The maps.
    pub fn tables(&self) -> &T {
        &self.tables
    }

    /// Id and generation of a backend in use.
    pub fn backend(&self, addr: &BackendAddr) -> Option<(u32, u32)> {
        self.families[Family::of(addr.ip) as usize].backends.known(addr)
    }

    /// The maps, for what is not of services.
    pub fn tables_mut(&mut self) -> &mut T {
        &mut self.tables
    }

    /// Makes changes. One that fails leaves its frontend as it was, or without its table, and is tried
    /// again; the others are made.
    pub fn apply(&mut self, changes: Changes, resolve: &Resolve<'_>, now: Instant) -> Outcome {
        for (ip, flags) in changes.wildcards {
            self.marks.want(ip, flags);
        }
        if let Some(ranges) = changes.cluster_ranges {
            for family in Family::ALL {
                self.families[family as usize].cluster_ranges.want(ranges.get(family));
            }
        }
        let mut outcome = Outcome::default();
        for (key, desired) in self.ordered(changes.frontends) {
            match self.make(&key, desired.as_ref(), resolve, now) {
                Ok(()) if self.failed.is_empty() => {}
                Ok(()) => {
                    if self.failed.remove(&key).is_some() {
                        outcome.recovered.push(key);
                    }
                }
                Err(error) => {
                    if self.failed.insert(key, (desired, error)).is_none() {
                        outcome.failed.push(key);
                    }
                }
            }
        }
        self.settle();
        self.note_strays(now);
        outcome
    }

    /// Tries again what failed.
    pub fn retry(&mut self, resolve: &Resolve<'_>, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let failed = std::mem::take(&mut self.failed);
        let failed = failed.into_iter().map(|(key, (desired, _))| (key, desired)).collect();
        for (key, desired) in self.ordered(failed) {
            match self.make(&key, desired.as_ref(), resolve, now) {
                Ok(()) => outcome.recovered.push(key),
                Err(error) => drop(self.failed.insert(key, (desired, error))),
            }
        }
        match self.is_unswept {
            true => self.sweep(now),
            false => self.settle(),
        }
        self.note_strays(now);
        outcome
    }

    /// What could not be made, and why.
    pub fn errors(&self) -> impl Iterator<Item = (&FrontendKey, &ReconcileError)> {
        self.failed.iter().map(|(key, (_, error))| (key, error))
    }

    /// Why one frontend could not be made what it should be.
    pub fn error(&self, key: &FrontendKey) -> Option<&ReconcileError> {
        self.failed.get(key).map(|(_, error)| error)
    }

    /// Why something that no frontend waits for could not be written; it is tried again.
    pub fn due_error(&self) -> Option<&WriteError> {
        self.due.as_ref()
    }

    /// Frees what has been out of use for [`GRACE`]; returns when to call again.
    pub fn free_retired(&mut self, now: Instant) -> Option<Instant> {
        let mut next = self.strays.due().filter(|due| *due > now);
        let mut is_any = false;
        while let Some(oldest) = self.retired.front() {
            let due = oldest.since + GRACE;
            if due > now {
                next = Some(next.map_or(due, |other| other.min(due)));
                break;
            }
            let Some(retired) = self.retired.pop_front() else { break };
            let state = &mut self.families[retired.family as usize];
            state.slots.give_back(retired.slots);
            self.gone += retired.ids.len() as u64;
            retired.ids.into_iter().for_each(|id| state.backends.free(id));
            let (service, ranges) = retired.ranges;
            state.sources.release(service, &ranges);
            is_any = true;
        }
        if is_any {
            self.settle();
        }
        next
    }

    fn note_strays(&mut self, now: Instant) {
        let families = &self.families;
        self.strays.settle(|family| &families[family as usize].backends, now);
    }

    /// Looks up the interfaces of local backends again.
    pub fn resolve_again(&mut self, resolve: &Resolve<'_>) {
        self.families.iter_mut().for_each(|state| state.backends.resolve_again(resolve));
        self.settle();
    }

    /// Numbers and names of service ports.
    pub fn service_names(&self) -> &Services {
        &self.services
    }

    /// Rises whenever a backend is given up, and again when nothing can lead to it any more.
    pub fn gone_backends(&self) -> u64 {
        self.gone
    }

    /// Number of frontends in the maps.
    pub fn frontend_count(&self) -> usize {
        self.frontends.len()
    }

    /// Removals first: they make room. Then frontends that contradict themselves. Of an address with
    /// two, that for clients outside the cluster comes first and goes last.
    fn ordered(
        &self,
        changes: BTreeMap<FrontendKey, Option<DesiredFrontend>>,
    ) -> Vec<(FrontendKey, Option<DesiredFrontend>)> {
        let mut ordered: Vec<_> = changes.into_iter().collect();
        ordered.sort_by_key(|(key, desired)| {
            let held = self.frontends.get(key);
            let was_split = held.is_some_and(|held| held.record.has(frontend_flags::SPLIT));
            let is_sound = held.is_none_or(|held| held.is_sound);
            match (desired, key.scope) {
                (None, Scope::Internal) => 0,
                (Some(wanted), Scope::Internal) if was_split && !wanted.is_split => 1,
                (None, Scope::External) => 2,
                (Some(_), Scope::External) if !is_sound => 3,
                (Some(_), Scope::Internal) if !is_sound => 4,
                (Some(_), Scope::External) => 5,
                (Some(_), Scope::Internal) => 6,
            }
        });
        ordered
    }

    pub(super) fn retire_later(
        &mut self,
        family: Family,
        slots: Range<u32>,
        ids: Vec<u32>,
        now: Instant,
    ) {
        self.gone += ids.len() as u64;
        if !slots.is_empty() || !ids.is_empty() {
            let ranges = Default::default();
            self.retired.push_back(Retired { since: now, family, slots, ids, ranges });
        }
    }

    /// A program that has read a frontend that asked for these ranges may look for them yet.
    pub(super) fn release_ranges_later(
        &mut self,
        family: Family,
        service: u32,
        ranges: &[Cidr],
        now: Instant,
    ) {
        if !ranges.is_empty() {
            let (slots, ids, ranges) = (0..0, Vec::new(), (service, ranges.into()));
            self.retired.push_back(Retired { since: now, family, slots, ids, ranges });
        }
    }

    /// Writes what is due.
    pub(super) fn settle(&mut self) {
        let [v4, v6] = Family::ALL.map(|family| {
            let backends = self.write_backends(family);
            let state = &mut self.families[family as usize];
            backends.and(state.sources.settle(family, &mut self.tables))
        });
        let marks = self.marks.settle(&mut self.tables);
        let [c4, c6] = Family::ALL.map(|family| {
            self.families[family as usize].cluster_ranges.settle(family, &mut self.tables)
        });
        self.due = v4.and(v6).and(marks).and(c4).and(c6).err();
    }

    /// Backends of changes that failed.
    pub(super) fn wanted_by_failed(&self) -> impl Iterator<Item = BackendAddr> {
        let desired = self.failed.values().filter_map(|(desired, _)| desired.as_ref());
        desired.flat_map(|desired| {
            desired.backends.iter().chain(&desired.draining).map(|backend| backend.addr)
        })
    }
}

#[cfg(test)]
#[path = "reconciler_tests.rs"]
mod tests;
