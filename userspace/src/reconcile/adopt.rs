// SPDX-License-Identifier: Apache-2.0
//! Taking over what the maps hold from an earlier agent: they are the truth, and are never flushed.
//!
//! The earlier agent may have died between any two writes. That leaves backends that nothing leads
//! to and marks that are missing or too many, never a frontend that contradicts itself; should there
//! be one all the same, it is written anew before others get slots and ids.

use std::{
    collections::{BTreeSet, HashSet},
    time::Instant,
};

use pintle_abi::service::frontend_flags;

use super::{
    backends::Backends,
    change::{Held, Table},
    reconciler::Reconciler,
    tables::{Family, FrontendRecord, Realized, Tables},
};
use crate::{
    model::addr::{BackendAddr, FrontendKey},
    plan::desired::Changes,
};

impl<T: Tables> Reconciler<T> {
    /// Starts from what the maps hold.
    pub fn adopt(&mut self, realized: Realized) {
        for (family, id, record) in &realized.backends {
            self.families[*family as usize].backends.adopt(*id, record);
        }
        for (service, range) in realized.source_ranges {
            // A number that ranges are left of must not be given to somebody else.
            self.services.reserve(service);
            self.families[range.family() as usize].sources.adopt(service, range);
        }
        for (index, range) in realized.cluster_ranges {
            let state = &mut self.families[range.family() as usize];
            state.cluster_ranges.adopt(index as usize, range);
        }
        for (ip, flags) in realized.wildcards {
            self.marks.adopt(ip, flags);
        }
        let mut dead = [BTreeSet::new(), BTreeSet::new()];
        for (key, record, slots) in realized.frontends {
            let dead = &mut dead[Family::of(key.addr.ip) as usize];
            self.adopt_frontend(key, record, &slots, dead);
        }
        for (family, dead) in Family::ALL.into_iter().zip(dead) {
            let state = &mut self.families[family as usize];
            state.backends.finish_adopting(&dead);
            let capacity = self.tables.backend_capacity(family);
            state.disputed.ids.extend(dead.range(..capacity));
        }
    }

    /// A frontend contradicts itself if its slots lie outside the array or are another's too, or if
    /// one of them leads to no backend (its id goes into `dead`).
    fn adopt_frontend(
        &mut self,
        key: FrontendKey,
        record: FrontendRecord,
        slots: &[u32],
        dead: &mut BTreeSet<u32>,
    ) {
        let state = &mut self.families[Family::of(key.addr.ip) as usize];
        let range = record.base..record.base.saturating_add(record.count);
        let free = state.slots.adopt(range.clone());
        let is_own = range.is_empty() || free == [range.clone()];
        let mut is_sound = is_own && slots.len() == record.count as usize;
        let members = members(&state.backends, &record, slots);
        let mut ids = Vec::with_capacity(members.len());
        for id in &members {
            if state.backends.adopt_use(*id) {
                ids.push(*id);
            } else {
                dead.insert(*id);
                is_sound = false;
            }
        }
        if !is_sound {
            state.disputed.slots.extend(free);
        }
        let ranges = match record.has(frontend_flags::SOURCE_RANGES) {
            true => state.sources.adopt_use(record.service),
            false => Box::default(),
        };
        state.frontends += 1;
        self.marks.add(key.addr.ip);
        self.services.reserve(record.service);
        let chosen = ids.len() as u32;
        let ids = ids.into();
        let table = Table::adopted(slots);
        let held = Held { record, ids, chosen, table, ranges, is_sound, is_counted: false };
        self.frontends.insert(key, held);
    }

    /// Completes the first desired state: frontends that the maps hold and nobody desires are to go,
    /// and service ports keep the numbers that the maps use for them.
    pub fn complete(&mut self, desired: &mut Changes) {
        for (key, wanted) in desired.frontends.iter() {
            if let (Some(held), Some(wanted)) = (self.frontends.get_mut(key), wanted) {
                held.is_counted |= self.services.adopt(&wanted.service, held.record.service);
            }
        }
        for key in self.frontends.keys() {
            desired.frontends.entry(*key).or_insert(None);
        }
        self.marks.complete();
        self.families.iter_mut().for_each(|state| state.sources.complete());
    }

    /// After the first desired state was applied: gives up what was adopted and nothing uses.
    ///
    /// What a change that failed still wants is kept, and given up by a later [`Self::retry`].
    pub fn sweep(&mut self, now: Instant) {
        let wanted: HashSet<BackendAddr> = self.wanted_by_failed().collect();
        let is_disputed = self.frontends.values().any(|held| !held.is_sound);
        self.is_unswept = is_disputed;
        for family in Family::ALL {
            let state = &mut self.families[family as usize];
            let (ids, kept) = state.backends.retire_unused(&wanted);
            self.is_unswept |= kept > 0;
            let disputed = match is_disputed {
                true => Default::default(),
                false => std::mem::take(&mut state.disputed),
            };
            self.retire_later(family, 0..0, ids, now);
            self.retire_later(family, 0..0, disputed.ids, now);
            for range in disputed.slots {
                self.retire_later(family, range, Vec::new(), now);
            }
        }
        // The earlier agent may have died before it told them.
        self.strays.suspect(now);
        self.settle();
    }
}

/// The backends that slots lead to, each once.
fn members(backends: &Backends, record: &FrontendRecord, slots: &[u32]) -> Vec<u32> {
    let mut ids = slots.to_vec();
    if record.has(frontend_flags::MAGLEV) {
        ids.sort_unstable();
        ids.dedup();
        ids.sort_by_key(|id| backends.addr_of(*id));
    }
    ids
}
