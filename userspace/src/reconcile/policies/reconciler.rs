// SPDX-License-Identifier: Apache-2.0
//! Keeps what the policy maps hold, and changes it into what they should hold.
//!
//! Every change is first noted as wanted, then [`PolicyReconciler::settle`] goes through what differs
//! in the order of [`super`]. What fails stays wanted, and each later turn tries it again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use super::{
    failure::{Failure, Subject},
    overlay::Overlay,
    pods::{Interfaces, Pods, Timing},
    tables::{EndpointRecord, PolicyMap, PolicyTables, Realized, Stopped, Written},
    uses::Uses,
};
use crate::{
    model::{cidr::Cidr, name::ObjectName},
    node::IfIndex,
    policy::{Changes, ClassId, PortKey, Row, RowKey, RulesetId},
};

/// How many rows are removed in a turn: what changes meanwhile does not wait for tens of thousands.
pub(super) const ROWS_AT_A_TIME: usize = 4096;

/// How many writes of a list may fail before the rest of it waits for the next turn.
const PATIENCE: usize = 8;

/// Changes the maps into what they should hold.
#[derive(Debug)]
pub struct PolicyReconciler<T> {
    pub(super) tables: T,
    pub(super) ports: Overlay<PortKey, u8>,
    pub(super) rows: Overlay<RowKey, Row>,
    pub(super) ranges: Overlay<Cidr, ClassId>,
    pub(super) peers: Overlay<IpAddr, ClassId>,
    pub(super) endpoints: BTreeMap<IfIndex, EndpointRecord>,
    /// Rulesets that endpoints in the maps have.
    pub(super) rulesets: Uses<RulesetId>,
    /// Classes that addresses and ranges in the maps have.
    pub(super) classes: Uses<ClassId>,
    /// Classes by which addresses go to theirs.
    pub(super) detours: BTreeSet<ClassId>,
    pub(super) pods: Pods,
    pub(super) failures: BTreeMap<Subject, Failure>,
    /// There are rows that could be removed now.
    pub(super) has_leftovers: bool,
    /// The whole desired state is known.
    is_complete: bool,
    epoch: Epoch,
}

/// When what was allowed is judged again.
#[derive(Debug)]
struct Epoch {
    current: u32,
    /// Something that was allowed is not any more, or will not be when all is written.
    narrows: bool,
    /// Something that packets are judged by was written since the epoch moved.
    is_behind: bool,
}

impl<T: PolicyTables> PolicyReconciler<T> {
    /// A reconciler that starts from what the maps hold. They stay as they are until
    /// [`Self::complete`].
    pub fn new(tables: T, realized: Realized) -> Self {
        let Realized { ports, rows, ranges, peers, endpoints, epoch, is_on: _ } = realized;
        let used = endpoints.iter().flat_map(|(_, record)| record.rulesets);
        let classes = ranges.iter().map(|(_, class)| *class);
        let classes = classes.chain(peers.iter().map(|(_, class)| *class));
        Self {
            tables,
            rulesets: Uses::new(used),
            // Every address is in some class.
            classes: Uses::new(classes.chain([ClassId::NOTHING])),
            ports: Overlay::new(ports),
            rows: Overlay::new(rows),
            ranges: Overlay::new(ranges),
            peers: Overlay::new(peers),
            endpoints: endpoints.into_iter().collect(),
            detours: BTreeSet::new(),
            pods: Pods::default(),
            failures: BTreeMap::new(),
            has_leftovers: false,
            is_complete: false,
            epoch: Epoch { current: epoch, narrows: false, is_behind: false },
        }
    }

    /// The maps.
    pub fn tables(&self) -> &T {
        &self.tables
    }

    /// The maps, for what is not the reconciler's.
    pub fn tables_mut(&mut self) -> &mut T {
        &mut self.tables
    }

    /// Forgets all interfaces, because policies did not hold until now: what the maps say of them is
    /// of another time.
    pub fn forget_endpoints(&mut self, now: Instant) {
        let known: Vec<IfIndex> = self.endpoints.keys().copied().collect();
        self.remove_endpoints(&known, now);
    }

    /// Takes the first complete state: what the maps hold beside it is to go, and everything is judged
    /// again, for nobody knows what an earlier agent has left undone.
    pub fn complete(&mut self, changes: Changes, interfaces: &impl Interfaces, now: Instant) {
        self.ports.want_nothing();
        self.rows.want_nothing();
        self.ranges.want_nothing();
        self.peers.want_nothing();
        self.epoch.is_behind = true;
        self.epoch.narrows = true;
        self.note(changes, interfaces, Timing::Late);
        self.is_complete = true;
        self.settle(now);
    }

    /// Makes changes.
    pub fn apply(&mut self, changes: Changes, interfaces: &impl Interfaces, now: Instant) {
        if changes.is_empty() {
            return;
        }
        // What an earlier change wants of addresses may be what these rulesets ask for.
        let is_settled = self.peers.is_settled() && self.ranges.is_settled();
        let early = if is_settled { Timing::Early } else { Timing::Late };
        self.note(changes, interfaces, early);
        self.settle(now);
    }

    /// Tries again what failed, and does what has been waited for.
    pub fn retry(&mut self, now: Instant) {
        if self.is_complete && !self.is_settled() {
            self.settle(now);
        }
    }

    /// Looks for the pods' interfaces again.
    pub fn follow(&mut self, interfaces: &impl Interfaces, now: Instant) {
        self.pods.bind_all(interfaces, &self.endpoints);
        let is_gone = |index: &&IfIndex| interfaces.name(**index).is_none();
        let gone: Vec<IfIndex> = self.endpoints.keys().filter(is_gone).copied().collect();
        self.remove_endpoints(&gone, now);
        if self.is_complete {
            self.settle(now);
        }
    }

    /// The maps hold what they should.
    pub fn is_settled(&self) -> bool {
        self.failures.is_empty() && !self.has_pending()
    }

    /// When there is something to do that had to wait.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if !self.has_pending() {
            return None;
        }
        if self.has_leftovers {
            return Some(now);
        }
        let next = [self.rulesets.next_idle(now), self.classes.next_idle(now)];
        next.into_iter().flatten().min()
    }

    /// What is not as it should be, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&Subject, &Failure)> {
        self.failures.iter()
    }

    /// Who is behind an interface, and what is written of it.
    pub fn endpoint_at(&self, index: IfIndex) -> Option<(&ObjectName, &EndpointRecord)> {
        let (name, ..) = self.pods.records().remove(&index)?;
        Some((name, self.endpoints.get(&index)?))
    }

    /// Which pod is behind each interface, as far as that is known.
    pub fn bound(&self) -> BTreeMap<IfIndex, &ObjectName> {
        let records = self.pods.records().into_iter();
        records.map(|(index, (name, ..))| (index, name)).collect()
    }

    /// Pods that have less than their policies allow, because something could not be written.
    pub fn closed(&self) -> Vec<(&ObjectName, IfIndex)> {
        let records = self.pods.records().into_iter();
        let is_closed = |index: &IfIndex, wanted: &EndpointRecord| {
            self.endpoints.get(index).is_none_or(|real| {
                let pairs = real.rulesets.iter().zip(&wanted.rulesets);
                pairs.into_iter().any(|(real, wanted)| {
                    *real == RulesetId::CLOSED && *wanted != RulesetId::CLOSED
                })
            })
        };
        let closed = records.filter(|(index, (_, wanted, _))| is_closed(index, wanted));
        closed.map(|(index, (name, ..))| (name, index)).collect()
    }

    /// The pods that should have a ruleset.
    pub fn pods_of(&self, id: RulesetId) -> Vec<&ObjectName> {
        self.pods.of(id).collect()
    }

    /// Pods whose interface is not known.
    pub fn unbound(&self) -> impl Iterator<Item = &ObjectName> {
        self.pods.unbound()
    }

    /// An address of each pod that somebody should be asked for.
    pub fn unresolved(&self) -> impl Iterator<Item = IpAddr> {
        self.pods.unresolved()
    }

    /// What was allowed at another epoch is judged again.
    pub fn epoch(&self) -> u32 {
        self.epoch.current
    }

    fn note(&mut self, changes: Changes, interfaces: &impl Interfaces, early: Timing) {
        // What goes and comes back in one change is there.
        changes.gone_rows.iter().for_each(|key| self.rows.want(*key, None));
        changes.gone_ports.iter().for_each(|key| self.ports.want(*key, None));
        changes.gone_peers.iter().for_each(|ip| self.peers.want(*ip, None));
        changes.gone_ranges.iter().for_each(|range| self.ranges.want(*range, None));
        changes.gone_endpoints.iter().for_each(|name| self.pods.remove(name));
        changes.ports.iter().for_each(|(key, class)| self.ports.want(*key, Some(*class)));
        changes.rows.iter().for_each(|(key, row)| self.rows.want(*key, Some(*row)));
        changes.ranges.iter().for_each(|(range, class)| self.ranges.want(*range, Some(*class)));
        changes.peers.iter().for_each(|(ip, class)| self.peers.want(*ip, Some(*class)));
        let early = changes.early_endpoints.into_iter().map(|pod| (pod, early));
        let late = changes.endpoints.into_iter().map(|pod| (pod, Timing::Late));
        let mut names = Vec::new();
        for ((name, endpoint), timing) in early.chain(late) {
            self.pods.put(name.clone(), endpoint, timing);
            names.push(name);
        }
        // Whose an interface is depends on all that are known.
        names.iter().for_each(|name| self.pods.bind(name, interfaces, &self.endpoints));
        self.epoch.narrows |= changes.narrows;
    }

    /// Goes through everything that is not as it should be.
    fn settle(&mut self, now: Instant) {
        self.failures.clear();
        self.write_rules(now);
        let mut closed = self.incomplete(now);
        let moves = self.moves();
        closed.extend(self.blind_rulesets(&moves));
        self.write_endpoints(Timing::Early, &closed, now);
        self.set_out(moves, now);
        let mut closed = self.incomplete(now);
        closed.extend(self.unsafe_rulesets());
        self.write_endpoints(Timing::Late, &closed, now);
        self.arrive(now);
        self.move_epoch();
        self.remove_idle(ROWS_AT_A_TIME, now);
        self.rulesets.forget(now);
        self.classes.forget(now);
    }

    fn has_pending(&self) -> bool {
        let addresses = self.peers.is_settled() && self.ranges.is_settled();
        !(addresses && self.ports.is_settled() && self.rows.is_settled())
    }

    /// Something that packets are judged by was written.
    pub(super) fn note_written(&mut self) {
        self.epoch.is_behind = true;
    }

    /// Something allows less than it did.
    pub(super) fn note_narrower(&mut self) {
        self.epoch.narrows = true;
    }

    fn move_epoch(&mut self) {
        if self.epoch.narrows && self.epoch.is_behind {
            // 0 stands for a connection that was never judged.
            let next = self.epoch.current.checked_add(1).unwrap_or(1);
            if let Err(error) = self.tables.put_epoch(next) {
                self.failures.insert(Subject::Epoch, Failure::from(&error));
                return;
            }
            self.epoch.current = next;
        }
        self.epoch.is_behind = false;
        // What is still to come may be what allows less.
        let addresses = self.peers.is_settled() && self.ranges.is_settled();
        self.epoch.narrows &= !addresses || !self.failures.is_empty();
    }

    /// Room in a map.
    pub(super) fn room(&self, map: PolicyMap, used: usize) -> usize {
        self.tables.capacity(map).saturating_sub(used)
    }
}

/// Makes writes, and goes on behind those that fail, unless these are too many. Tells which were
/// made, and why those failed that were tried.
pub(super) fn write_all<E: Clone>(
    entries: &[E],
    mut write: impl FnMut(&[E]) -> Written,
) -> (Vec<E>, Vec<(E, Failure)>) {
    let (mut made, mut failed) = (Vec::with_capacity(entries.len()), Vec::new());
    let mut rest = entries;
    while failed.len() < PATIENCE && !rest.is_empty() {
        match write(rest) {
            Ok(()) => {
                made.extend_from_slice(rest);
                break;
            }
            Err(Stopped { made: count, error }) => {
                let Some((entry, behind)) = rest.get(count..).and_then(<[E]>::split_first) else {
                    break;
                };
                made.extend_from_slice(&rest[..count]);
                failed.push((entry.clone(), Failure::from(&error)));
                rest = behind;
            }
        }
    }
    (made, failed)
}

/// Rulesets that no pod may have now.
pub(super) type Closed = BTreeSet<RulesetId>;
