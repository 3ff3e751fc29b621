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

use super::{
    change::Held,
    reconciler::Reconciler,
    tables::{Family, FrontendRecord, Realized, Tables},
};
use crate::{
    model::addr::{BackendAddr, FrontendAddr},
    plan::desired::Changes,
};

impl<T: Tables> Reconciler<T> {
    /// Starts from what the maps hold.
    pub fn adopt(&mut self, realized: Realized) {
        for (family, id, record) in &realized.backends {
            self.families[*family as usize].backends.adopt(*id, record);
        }
        let mut dead = [BTreeSet::new(), BTreeSet::new()];
        for (addr, record, slots) in realized.frontends {
            let dead = &mut dead[Family::of(addr.ip) as usize];
            self.adopt_frontend(addr, record, &slots, dead);
        }
        for ip in realized.wildcards {
            self.marks.adopt(ip);
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
        addr: FrontendAddr,
        record: FrontendRecord,
        slots: &[u32],
        dead: &mut BTreeSet<u32>,
    ) {
        let state = &mut self.families[Family::of(addr.ip) as usize];
        let range = record.base..record.base.saturating_add(record.count);
        let free = state.slots.adopt(range.clone());
        let is_own = range.is_empty() || free == [range.clone()];
        let mut is_sound = is_own && slots.len() == record.count as usize;
        let mut ids = Vec::with_capacity(slots.len());
        for id in slots {
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
        state.frontends += 1;
        self.marks.add(addr.ip);
        self.services.reserve(record.service);
        let held = Held { record, ids: ids.into(), is_sound, is_counted: false };
        self.frontends.insert(addr, held);
    }

    /// Completes the first desired state: frontends that the maps hold and nobody desires are to go,
    /// and service ports keep the numbers that the maps use for them.
    pub fn complete(&mut self, desired: &mut Changes) {
        for (addr, wanted) in desired.iter() {
            if let (Some(held), Some(wanted)) = (self.frontends.get_mut(addr), wanted) {
                held.is_counted |= self.services.adopt(&wanted.service, held.record.service);
            }
        }
        for addr in self.frontends.keys() {
            desired.entry(*addr).or_insert(None);
        }
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
        self.settle();
    }
}
