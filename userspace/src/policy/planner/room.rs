// SPDX-License-Identifier: Apache-2.0
//! What there is room for, decided before anything is written.
//!
//! What is in the tables stays as long as it can. A ruleset that does not fit in is closed; an
//! address that does not is one of a pod that we do not know, in a range that says so. Entries that
//! go away count until they are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Order, Planner};
use crate::{
    model::{cidr::Cidr, ip::Family},
    policy::{
        predicate::{Predicate, PredicateId},
        prefix::index,
        ruleset::{ClosedReason, Ruleset, Standing},
        table::{Changes, ClassId, RulesetId},
    },
};

/// One of so many rows is kept for classes that come to rulesets that are there.
const RESERVE: usize = 8;

/// The rulesets that get rows, and for which classes.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// Rulesets that are in the tables; they need what is fresh.
    pub staying: BTreeSet<RulesetId>,
    /// Rulesets that are not, or not whole; they need everything.
    pub entering: BTreeSet<RulesetId>,
    /// Classes that have come into use.
    pub fresh: Vec<ClassId>,
    /// All classes that may be met.
    pub needed: Vec<ClassId>,
}

/// The boundaries for which there is room.
pub(super) struct Fitting {
    pub blocks: BTreeSet<PredicateId>,
    pub pods: BTreeSet<Cidr>,
    /// The families of which not even the ranges of pods fit in.
    pub lost: Vec<Family>,
}

impl Planner {
    /// Finds out which addresses have no entry; returns those that are to be hidden in their range
    /// while the next changes are written.
    pub(super) fn place(&mut self) -> BTreeSet<IpAddr> {
        let room = self.options.room.peers;
        let most = self.placed.iter().max().copied().unwrap_or_default();
        if self.unplaced.is_empty() && most + self.dirty.addresses.len() <= room {
            return BTreeSet::new();
        }
        let (mut placed, mut unplaced) = (self.placed, self.unplaced.clone());
        for ip in &self.dirty.addresses {
            unplaced.remove(ip);
            let address = self.addresses.get(ip);
            if address.is_none_or(|one| one.class.is_some() || self.owner(one).is_none()) {
                continue;
            }
            let placed = &mut placed[index(Family::of(*ip))];
            match *placed < room {
                true => *placed += 1,
                false => drop(unplaced.insert(*ip)),
            }
        }
        // What has got room stays hidden until its entry is written.
        let hidden = &self.unplaced | &unplaced;
        self.dirty.ranges |= unplaced != self.unplaced;
        self.unplaced = unplaced;
        hidden
    }

    /// Some of what did not fit in may do so after these changes.
    pub(super) fn note_new_room(&mut self, changes: &Changes, hidden: &BTreeSet<IpAddr>) {
        if !changes.gone_peers.is_empty() {
            self.dirty.addresses.extend(&self.unplaced);
        }
        let is_short = |(_, ruleset): (RulesetId, &Ruleset)| {
            matches!(ruleset.standing, Standing::Closed(ClosedReason::NoRoomForRanges { .. }))
        };
        let gone = !changes.gone_ranges.is_empty() || !changes.gone_rows.is_empty();
        let retry = gone && (self.has_lost_ranges || self.rulesets.iter().any(is_short));
        self.dirty.ranges |= retry || hidden.len() > self.unplaced.len();
    }

    /// Finds the boundaries of ranges for which there is room, and closes the rulesets that ask for
    /// others.
    pub(super) fn fitting_ranges(&mut self) -> Fitting {
        let mut taken = Taken::new(self.options.room.ranges, self.ranges.entries().keys());
        let nodes = self.nodes.values().flat_map(|known| known.node.pod_cidrs.iter());
        let mut pods: BTreeSet<Cidr> =
            self.options.pod_cidrs.iter().chain(nodes).copied().collect();
        let mut lost = Vec::new();
        for family in Family::ALL {
            let own = pods.iter().filter(|cidr| cidr.family() == family).copied();
            if taken.add(own.collect()).is_err() {
                lost.push(family);
                pods.retain(|cidr| cidr.family() != family);
                pods.insert(Cidr::all(family));
            }
        }
        self.has_lost_ranges = !lost.is_empty();
        let mut blocks = BTreeSet::new();
        let mut standings = BTreeMap::new();
        let mut admitted = 0;
        for id in self.rulesets.by_standing() {
            let Some(ruleset) = self.rulesets.get(id) else { continue };
            let (asked, boundaries) = self.blocks_of(ruleset);
            let room = self.room_for_ranges(ruleset.standing, admitted);
            let is_short = match ruleset.standing {
                Standing::Closed(ClosedReason::TooManyPortClasses(_)) => continue,
                Standing::Closed(ClosedReason::NoRoomForRanges { .. }) => true,
                Standing::Closed(_) | Standing::Waiting | Standing::Whole => false,
            };
            match taken.add_within(boundaries, room) {
                Ok(()) => {
                    admitted += 1;
                    blocks.extend(asked);
                    if is_short {
                        // Its blocks are new to the classes.
                        self.dirty.questions = true;
                        standings.insert(id, Standing::Waiting);
                    }
                }
                Err(needed) => {
                    let reason = ClosedReason::NoRoomForRanges { needed, room };
                    standings.insert(id, Standing::Closed(reason));
                }
            }
        }
        self.set_standings(standings);
        Fitting { blocks, pods, lost }
    }

    /// How many ranges there may be with a ruleset, behind so many others. One that is not in the tables
    /// yet brings no more than there will be rows for: almost every range is a class of its own, of
    /// which every ruleset needs a row, and the rulesets that are there need them first.
    fn room_for_ranges(&self, standing: Standing, others: usize) -> usize {
        let room = self.options.room;
        match standing {
            Standing::Whole => room.ranges,
            Standing::Waiting | Standing::Closed(_) => room.ranges.min(room.rows / (others + 1)),
        }
    }

    /// The blocks that a ruleset asks for, and their boundaries.
    fn blocks_of(&self, ruleset: &Ruleset) -> (Vec<PredicateId>, BTreeSet<Cidr>) {
        let (mut ids, mut boundaries) = (Vec::new(), BTreeSet::new());
        for id in ruleset.content.predicates() {
            if let Some(Predicate::Block(block)) = self.predicates.get(id) {
                ids.push(id);
                boundaries.insert(block.cidr());
                boundaries.extend(block.except());
            }
        }
        (ids, boundaries)
    }

    /// Decides which rulesets get the rows that are missing, and closes the others.
    pub(super) fn admit(&mut self, changes: &Changes, order: Order) -> Admitted {
        let (fresh, retired) = self.classes.take_changed();
        let is_settled = |(id, one): (RulesetId, &Ruleset)| match one.standing {
            Standing::Whole | Standing::Closed(ClosedReason::TooManyPortClasses(_)) => true,
            Standing::Waiting | Standing::Closed(_) => !self.rulesets.is_in_use(id),
        };
        if fresh.is_empty() && self.rulesets.iter().all(is_settled) {
            return Admitted::default();
        }
        // Late endpoints meet no class of before.
        let before = retired.into_iter().filter(|_| order == Order::Early);
        let needed = self.classes.in_use().chain(before).collect();
        let mut admitted = Admitted { fresh, needed, ..Admitted::default() };
        let (ports, rows) = self.rulesets.entries();
        let mut used =
            Used { ports: ports + changes.gone_ports.len(), rows: rows + changes.gone_rows.len() };
        let met: BTreeSet<RulesetId> =
            self.endpoints.values().flat_map(|endpoint| endpoint.rulesets()).collect();
        let mut standings = BTreeMap::new();
        for id in self.rulesets.by_standing() {
            let Some(ruleset) = self.rulesets.get(id) else { continue };
            let is_met = self.rulesets.is_in_use(id) || met.contains(&id);
            match ruleset.standing {
                Standing::Closed(
                    ClosedReason::TooManyPortClasses(_) | ClosedReason::NoRoomForRanges { .. },
                ) => continue,
                Standing::Whole if admitted.fresh.is_empty() => continue,
                Standing::Whole if !is_met => {
                    standings.insert(id, Standing::Waiting);
                    continue;
                }
                Standing::Waiting | Standing::Closed(_) if !is_met => continue,
                Standing::Whole | Standing::Waiting | Standing::Closed(_) => {}
            }
            standings.insert(id, self.admit_one(id, ruleset, &mut admitted, &mut used));
        }
        self.set_standings(standings);
        admitted
    }

    fn admit_one(
        &self,
        id: RulesetId,
        ruleset: &Ruleset,
        admitted: &mut Admitted,
        used: &mut Used,
    ) -> Standing {
        let room = self.options.room;
        let (classes, most, list) = match ruleset.standing {
            Standing::Whole => (&admitted.fresh, room.rows, &mut admitted.staying),
            Standing::Waiting | Standing::Closed(_) => {
                (&admitted.needed, room.rows - room.rows / RESERVE, &mut admitted.entering)
            }
        };
        let ports = used.ports + if ruleset.has_ports { 0 } else { ruleset.ports.len() };
        if ports > room.ports {
            let (needed, room) = (ports, room.ports);
            return Standing::Closed(ClosedReason::NoRoomForPorts { needed, room });
        }
        let mut rows = used.rows + classes.len();
        if rows > most && !ruleset.rows.is_empty() {
            let missing = classes.iter().filter(|class| !ruleset.rows.contains_key(class));
            rows = used.rows + missing.count();
        }
        if rows > most {
            return Standing::Closed(ClosedReason::NoRoomForRows { needed: rows, room: most });
        }
        *used = Used { ports, rows };
        list.insert(id);
        Standing::Whole
    }

    fn set_standings(&mut self, standings: BTreeMap<RulesetId, Standing>) {
        let mut changed = BTreeSet::new();
        for (id, standing) in standings {
            let Some(ruleset) = self.rulesets.get_mut(id) else { continue };
            let old = std::mem::replace(&mut ruleset.standing, standing);
            let is_closed = |standing| matches!(standing, Standing::Closed(_));
            if is_closed(old) != is_closed(standing) {
                changed.insert(id);
            }
        }
        if changed.is_empty() {
            return;
        }
        let local = self.profiles.iter().filter(|(_, profile)| !profile.local.is_empty());
        let applied = local.filter(|(_, profile)| {
            profile
                .rulesets
                .is_some_and(|applied| applied.ids().iter().any(|id| changed.contains(id)))
        });
        let pods = applied.flat_map(|(_, profile)| profile.local.iter().cloned());
        self.dirty.endpoints.extend(pods);
        // Those that are about to have another ruleset have this one still.
        let met = self
            .endpoints
            .iter()
            .filter(|(_, endpoint)| endpoint.rulesets().iter().any(|id| changed.contains(id)));
        self.dirty.endpoints.extend(met.map(|(name, _)| name.clone()));
    }
}

#[derive(Clone, Copy)]
struct Used {
    ports: usize,
    rows: usize,
}

/// Boundaries that are taken, with those that are in the tables now.
struct Taken {
    cidrs: BTreeSet<Cidr>,
    counts: [usize; 2],
    room: usize,
}

impl Taken {
    fn new<'a>(room: usize, written: impl Iterator<Item = &'a Cidr>) -> Self {
        // One is kept for the range of everything, where peers hide that have no entry.
        let mut taken =
            Self { cidrs: BTreeSet::new(), counts: [0; 2], room: room.saturating_sub(1) };
        written.for_each(|cidr| taken.insert(*cidr));
        taken
    }

    fn insert(&mut self, cidr: Cidr) {
        if self.cidrs.insert(cidr) {
            self.counts[index(cidr.family())] += 1;
        }
    }

    /// Takes all of them, or says how many there would be.
    fn add(&mut self, cidrs: BTreeSet<Cidr>) -> Result<(), usize> {
        self.add_within(cidrs, self.room)
    }

    /// The same with this much room, if that is less.
    fn add_within(&mut self, cidrs: BTreeSet<Cidr>, room: usize) -> Result<(), usize> {
        let mut counts = self.counts;
        for cidr in cidrs.difference(&self.cidrs) {
            counts[index(cidr.family())] += 1;
        }
        let needed = counts.into_iter().max().unwrap_or_default();
        let is_new = counts != self.counts;
        if is_new && needed > room.min(self.room) {
            return Err(needed);
        }
        cidrs.into_iter().for_each(|cidr| self.insert(cidr));
        Ok(())
    }
}
