// SPDX-License-Identifier: Apache-2.0
//! Taking over what the maps hold from an earlier agent: they are the truth, and are never flushed.

use std::{sync::Arc, time::Instant};

use super::{
    reconciler::{Held, Reconciler},
    tables::{Family, Realized, Tables, WriteError},
};
use crate::{model::addr::BackendAddr, plan::desired::Changes};

impl<T: Tables> Reconciler<T> {
    /// Starts from what the maps hold. What contradicts itself is written anew when it is desired,
    /// and removed otherwise.
    pub fn adopt(&mut self, realized: Realized) {
        let mut addrs = [Vec::new(), Vec::new()];
        for (family, id, record) in &realized.backends {
            self.families[*family as usize].backends.adopt(*id, record);
            let known: &mut Vec<Option<BackendAddr>> = &mut addrs[*family as usize];
            let len = known.len().max(*id as usize + 1);
            known.resize(len, None);
            known[*id as usize] = record.addr;
        }
        for (addr, record, slots) in realized.frontends {
            let family = Family::of(addr.ip) as usize;
            let state = &mut self.families[family];
            state.entries += 1;
            *self.addresses.entry(addr.ip).or_insert(0) += 1;
            let mut record = record;
            let mut slots = slots;
            if !state.slots.adopt(record.base..record.base.saturating_add(record.count)) {
                // Two frontends cannot share slots: this one gets new ones.
                record.count = 0;
                slots.clear();
            }
            self.frontends.insert(addr, Held { record, slots, uses: Vec::new() });
        }
        for ip in realized.wildcards {
            self.families[Family::of(ip) as usize].entries += 1;
            self.addresses.entry(ip).or_insert(0);
        }
        for family in &mut self.families {
            family.backends.finish_adopting();
        }
    }

    /// Completes the first desired state: frontends that the maps hold and nobody desires are to go,
    /// and service ports keep the numbers that the maps use for them.
    pub fn complete(&mut self, desired: &mut Changes) {
        for (addr, wanted) in desired.iter() {
            if let (Some(held), Some(wanted)) = (self.frontends.get(addr), wanted) {
                let name: &Arc<str> = &wanted.service;
                self.services.adopt(name, held.record.service);
            }
        }
        for addr in self.frontends.keys() {
            desired.entry(*addr).or_insert(None);
        }
    }

    /// After the first desired state was applied: gives up backends and marks that nothing uses.
    pub fn sweep(&mut self, now: Instant) -> Result<(), WriteError> {
        for family in Family::ALL {
            let unused = self.families[family as usize].backends.retire_unused();
            self.write_records(family, &unused)?;
            let ids = unused.into_iter().map(|(id, _)| id).collect();
            self.retire_later(family, 0..0, ids, now);
        }
        let unused: Vec<_> =
            self.addresses.iter().filter(|(_, uses)| **uses == 0).map(|(ip, _)| *ip).collect();
        for ip in unused {
            self.tables.remove_wildcard(ip)?;
            self.addresses.remove(&ip);
            let entries = &mut self.families[Family::of(ip) as usize].entries;
            *entries = entries.saturating_sub(1);
        }
        Ok(())
    }
}
