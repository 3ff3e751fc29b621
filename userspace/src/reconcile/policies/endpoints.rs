// SPDX-License-Identifier: Apache-2.0
//! Pods' interfaces: each write takes effect at once and as a whole.

use std::time::Instant;

use super::{
    failure::{Failure, Subject},
    pods::Timing,
    reconciler::{Closed, PolicyReconciler, write_all},
    tables::{EndpointRecord, PolicyMap, PolicyTables},
};
use crate::{model::name::ObjectName, node::IfIndex, policy::RulesetId};

type Entry = (IfIndex, EndpointRecord);

impl<T: PolicyTables> PolicyReconciler<T> {
    /// Brings interfaces up to date: those that may be before addresses move, or all. Rulesets that
    /// no pod may have now are replaced.
    pub(super) fn write_endpoints(&mut self, until: Timing, closed: &Closed, now: Instant) {
        let records = self.pods.records();
        let mut changed: Vec<(Entry, ObjectName)> = Vec::new();
        for (index, (name, wanted, timing)) in &records {
            let is_now = match (until, timing) {
                (Timing::Late, _) => true,
                // One that is new has no verdicts of before that were to be kept.
                (Timing::Early, Timing::Early) => {
                    self.endpoints.contains_key(index)
                        && !wanted.rulesets.iter().any(|id| closed.contains(id))
                }
                (Timing::Early, Timing::Late) => false,
            };
            let record = without(wanted, closed);
            if is_now && self.endpoints.get(index) != Some(&record) {
                changed.push(((*index, record), (*name).clone()));
            }
        }
        let is_gone = |index: &&IfIndex| !records.contains_key(index);
        let gone: Vec<IfIndex> = self.endpoints.keys().filter(is_gone).copied().collect();
        // Those that close come first: something they are asked about is not as it should be.
        changed.sort_by_key(|((_, record), _)| !record.rulesets.contains(&RulesetId::CLOSED));
        self.refuse_beyond_room(&mut changed);
        let entries: Vec<Entry> = changed.iter().map(|(entry, _)| *entry).collect();
        // Before their addresses are somebody else's.
        self.remove_endpoints(&gone, now);
        self.put_endpoints(&entries, now);
        for ((index, record), name) in changed {
            if self.endpoints.get(&index) != Some(&record) {
                self.failures.entry(Subject::Pod(name)).or_insert(Failure::Waits);
            }
        }
    }

    /// What is refused stays unknown to the programs: closed, unless the operator wants it open.
    fn refuse_beyond_room(&mut self, changed: &mut Vec<(Entry, ObjectName)>) {
        let mut room = self.room(PolicyMap::Endpoints, self.endpoints.len());
        let is_new = |(index, _): &Entry| !self.endpoints.contains_key(index);
        let wanted = changed.iter().filter(|(entry, _)| is_new(entry)).count();
        if wanted <= room {
            return;
        }
        let full = Failure::Full { map: PolicyMap::Endpoints, wanted, room };
        let failures = &mut self.failures;
        changed.retain(|(entry, name)| {
            if !is_new(entry) {
                return true;
            }
            if room == 0 {
                failures.insert(Subject::Pod(name.clone()), full.clone());
                return false;
            }
            room -= 1;
            true
        });
    }

    /// Writes what is known of interfaces.
    pub(super) fn put_endpoints(&mut self, entries: &[Entry], now: Instant) {
        let (made, failed) = write_all(entries, |rest| self.tables.put_endpoints(rest));
        for (index, record) in made {
            record.rulesets.iter().for_each(|id| self.rulesets.take(*id));
            let old = self.endpoints.insert(index, record);
            // One that is new may have been passed until now.
            let before = old.map_or([RulesetId::OPEN; 4], |old| old.rulesets);
            old.iter().flat_map(|old| old.rulesets).for_each(|id| self.rulesets.leave(id, now));
            let mut flips = before.into_iter().zip(record.rulesets);
            let narrows = flips
                .any(|(old, new)| old != new && old != RulesetId::CLOSED && new != RulesetId::OPEN);
            // Other rulesets hold for what is not its own any more.
            let moves = old.is_some_and(|old| (old.v4, old.v6) != (record.v4, record.v6));
            self.note_written();
            if narrows || moves {
                self.note_narrower();
            }
        }
        if failed.is_empty() {
            return;
        }
        let records = self.pods.records();
        let named = failed.into_iter().filter_map(|((index, _), failure)| {
            Some((Subject::Pod(records.get(&index)?.0.clone()), failure))
        });
        let named: Vec<_> = named.collect();
        self.failures.extend(named);
    }

    /// Forgets interfaces.
    pub(super) fn remove_endpoints(&mut self, indices: &[IfIndex], now: Instant) {
        let (made, failed) = write_all(indices, |rest| self.tables.remove_endpoints(rest));
        for index in made {
            if let Some(old) = self.endpoints.remove(&index) {
                old.rulesets.iter().for_each(|id| self.rulesets.leave(*id, now));
                self.note_written();
            }
        }
        let failed = failed.into_iter();
        self.failures.extend(failed.map(|(index, failure)| (Subject::Interface(index), failure)));
    }

    /// Closes the interfaces that have one of these rulesets.
    pub(super) fn close(&mut self, closed: &Closed, now: Instant) {
        let records = self.endpoints.iter().map(|(index, record)| (*index, *record));
        let entries: Vec<Entry> = records
            .map(|(index, record)| (index, without(&record, closed)))
            .filter(|(index, record)| self.endpoints.get(index) != Some(record))
            .collect();
        self.put_endpoints(&entries, now);
    }
}

/// The record with these rulesets replaced.
fn without(record: &EndpointRecord, closed: &Closed) -> EndpointRecord {
    let allowed = |id: RulesetId| if closed.contains(&id) { RulesetId::CLOSED } else { id };
    EndpointRecord { rulesets: record.rulesets.map(allowed), ..*record }
}
