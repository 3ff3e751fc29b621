// SPDX-License-Identifier: Apache-2.0
//! Port classes and rows. A ruleset never changes under a reader: what of it is in the maps and is to
//! be another waits until nothing has led to it for some time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{
    failure::{Failure, Subject},
    reconciler::{Closed, PolicyReconciler, write_all},
    tables::{PolicyMap, PolicyTables},
};
use crate::policy::{ClassId, PortKey, Row, RowKey, RulesetId};

impl<T: PolicyTables> PolicyReconciler<T> {
    /// Writes what rulesets and classes need before anything leads to them.
    pub(super) fn write_rules(&mut self, now: Instant) {
        let lacks_room = self.rows.adding() > self.room(PolicyMap::Rows, self.rows.entries().len())
            || self.ports.adding() > self.room(PolicyMap::Ports, self.ports.entries().len());
        if lacks_room {
            self.remove_idle(usize::MAX, now);
        }
        self.write_ports(now);
        self.write_rows(now);
    }

    fn write_ports(&mut self, now: Instant) {
        let mut rulesets: BTreeMap<RulesetId, Vec<(PortKey, u8)>> = BTreeMap::new();
        for (key, class) in self.ports.puts() {
            rulesets.entry(key.0).or_default().push((key, class));
        }
        rulesets.retain(|id, _| self.rulesets.is_idle(id, now));
        self.remove_foreign_ports(now);
        let mut room = self.room(PolicyMap::Ports, self.ports.entries().len());
        let mut fitting = Vec::new();
        for (id, entries) in rulesets {
            let wanted = entries.iter().filter(|(key, _)| self.ports.is_new(key)).count();
            match room.checked_sub(wanted) {
                Some(rest) => {
                    room = rest;
                    fitting.extend(entries);
                }
                None => {
                    let failure = Failure::Full { map: PolicyMap::Ports, wanted, room };
                    self.failures.insert(Subject::Ruleset(id), failure);
                }
            }
        }
        let (made, failed) = write_all(&fitting, |rest| self.tables.put_ports(rest));
        for (key, class) in made {
            self.ports.made(key, Some(class));
        }
        let failed = failed.into_iter();
        self.failures.extend(failed.map(|(((id, _), _), failure)| (Subject::Ruleset(id), failure)));
    }

    /// Port classes that an earlier agent has given a ruleset that has others now.
    fn remove_foreign_ports(&mut self, now: Instant) {
        let is_foreign = |(id, _): &PortKey| self.is_wanted(*id) && self.rulesets.is_idle(id, now);
        let foreign: Vec<PortKey> = self.ports.gone().filter(is_foreign).collect();
        self.remove_ports(&foreign);
    }

    fn write_rows(&mut self, now: Instant) {
        let adds_only = self.rows.adding() == self.rows.puts().count();
        let may_write = |(key, _): &(RowKey, Row)| {
            adds_only || self.rows.is_new(key) || self.rulesets.is_idle(&key.0, now)
        };
        let entries: Vec<(RowKey, Row)> = self.rows.puts().filter(may_write).collect();
        let room = self.room(PolicyMap::Rows, self.rows.entries().len());
        let fits = self.rows.adding() <= room;
        let fitting = if fits { entries } else { self.fitting(entries, room) };
        self.put_rows(&fitting);
    }

    /// As many whole classes and rulesets as there is room for: rows of new classes, without which
    /// addresses are not where they should be, before those of new rulesets.
    fn fitting(&mut self, entries: Vec<(RowKey, Row)>, mut room: usize) -> Vec<(RowKey, Row)> {
        let mut units: BTreeMap<Unit, Vec<(RowKey, Row)>> = BTreeMap::new();
        for (key, row) in entries {
            let (ruleset, class) = key;
            let is_used = self.rulesets.has(&ruleset);
            let unit = if is_used { Unit::Class(class) } else { Unit::Ruleset(ruleset) };
            units.entry(unit).or_default().push((key, row));
        }
        let mut fitting = Vec::new();
        let mut refused = BTreeSet::new();
        for (unit, mut entries) in units {
            // Nothing will be in a class that is refused.
            if let Unit::Ruleset(_) = unit {
                entries.retain(|((_, class), _)| !refused.contains(class));
            }
            let wanted = entries.iter().filter(|(key, _)| self.rows.is_new(key)).count();
            if let Some(rest) = room.checked_sub(wanted) {
                room = rest;
                fitting.extend(entries);
                continue;
            }
            let failure = Failure::Full { map: PolicyMap::Rows, wanted, room };
            let subject = match unit {
                Unit::Class(class) => {
                    refused.insert(class);
                    Subject::Class(class)
                }
                Unit::Ruleset(id) => Subject::Ruleset(id),
            };
            self.failures.insert(subject, failure);
        }
        fitting
    }

    /// Writes rows; what fails is noted for their rulesets, or for the class if those are in use.
    pub(super) fn put_rows(&mut self, entries: &[(RowKey, Row)]) {
        let (made, failed) = write_all(entries, |rest| self.tables.put_rows(rest));
        for (key, row) in made {
            self.rows.made(key, Some(row));
        }
        for (((ruleset, class), _), failure) in failed {
            let subject = match self.rulesets.has(&ruleset) {
                true => Subject::Class(class),
                false => Subject::Ruleset(ruleset),
            };
            self.failures.insert(subject, failure);
        }
    }

    /// Some pod should have the ruleset, or should have had it until lately.
    pub(super) fn is_wanted(&self, id: RulesetId) -> bool {
        self.rows.wanted(&(id, ClassId::NOTHING)).is_some()
    }

    /// Classes that some ruleset in use cannot judge yet: no address may get one of these.
    pub(super) fn blocked(&self) -> BTreeSet<ClassId> {
        let lacking = self.rows.additions().filter(|(id, _)| self.rulesets.has(id));
        lacking.map(|(_, class)| class).collect()
    }

    /// Rulesets that are not, or not as they should be, in the maps.
    pub(super) fn incomplete(&mut self, now: Instant) -> Closed {
        let blocked = self.blocked();
        let is_needed = |(_, class): &RowKey| !blocked.contains(class) || self.classes.has(class);
        let rows = self.rows.puts().map(|(key, _)| key);
        let rows = rows.filter(is_needed).map(|(id, _)| id);
        let ports = self.ports.puts().map(|((id, _), _)| id);
        let foreign = self.ports.gone().map(|(id, _)| id).filter(|id| self.is_wanted(*id));
        let incomplete: Closed = rows.chain(ports).chain(foreign).collect();
        for id in &incomplete {
            // It is wanted, so its pods are told of; one that was in use waits for that to end.
            if !self.rulesets.is_idle(id, now) {
                self.failures.entry(Subject::Ruleset(*id)).or_insert(Failure::Waits);
            }
        }
        incomplete
    }

    /// Removes what nothing has led to for some time, of rows at most so many; notes whether there are
    /// more.
    pub(super) fn remove_idle(&mut self, most: usize, now: Instant) {
        let is_idle = |(id, class): &RowKey| {
            self.rulesets.is_idle(id, now) || self.classes.is_idle(class, now)
        };
        let rows: Vec<RowKey> = self.rows.gone().filter(is_idle).take(most).collect();
        self.has_leftovers = rows.len() == most;
        let (made, failed) = write_all(&rows, |rest| self.tables.remove_rows(rest));
        for key in made {
            self.rows.made(key, None);
        }
        if let Some((_, failure)) = failed.into_iter().next() {
            self.failures.insert(Subject::Leftovers(PolicyMap::Rows), failure);
            self.has_leftovers = false;
        }
        let ports = self.ports.gone().filter(|(id, _)| self.rulesets.is_idle(id, now));
        let ports: Vec<PortKey> = ports.collect();
        self.remove_ports(&ports);
    }

    fn remove_ports(&mut self, keys: &[PortKey]) {
        let (made, failed) = write_all(keys, |rest| self.tables.remove_ports(rest));
        for key in made {
            self.ports.made(key, None);
        }
        if let Some((_, failure)) = failed.into_iter().next() {
            self.failures.insert(Subject::Leftovers(PolicyMap::Ports), failure);
        }
    }
}

/// Rows that are of use only together. The order is that in which they get room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    /// For all rulesets in use.
    Class(ClassId),
    /// For all classes.
    Ruleset(RulesetId),
}
