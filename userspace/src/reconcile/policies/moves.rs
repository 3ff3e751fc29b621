// SPDX-License-Identifier: Apache-2.0
//! Addresses and ranges on their way from class to class.
//!
//! An address has the class of its own entry, or of the longest range. New and changed entries come
//! first, then ranges (the longest first), then ranges that go (the shortest first), then entries
//! that go: so no address passes through a class that is neither its old nor its new one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use super::{
    failure::{Failure, Subject},
    overlay::Overlay,
    reconciler::{Closed, PolicyReconciler, write_all},
    tables::{PolicyMap, PolicyTables},
};
use crate::{
    model::{cidr::Cidr, ip::Family},
    policy::{ClassId, RulesetId},
};

/// The class that addresses have, and the one that they should have.
pub(super) type Move = (ClassId, ClassId);

impl<T: PolicyTables> PolicyReconciler<T> {
    /// Gives addresses and ranges their classes, as far as every ruleset in use can judge these.
    pub(super) fn move_addresses(&mut self, now: Instant) {
        let blocked = self.unjudged();
        self.put_peers(&blocked, now);
        for family in Family::ALL {
            if self.move_ranges(family, &blocked, now) {
                let is_own = |ip: &IpAddr| Family::of(*ip) == family;
                let gone: Vec<IpAddr> = self.peers.gone().filter(is_own).collect();
                self.remove_peers(&gone, now);
            }
        }
        self.fall_back(&blocked, now);
    }

    fn put_peers(&mut self, blocked: &BTreeSet<ClassId>, now: Instant) {
        let may_move = |(_, class): &(IpAddr, ClassId)| !blocked.contains(class);
        let mut entries: Vec<(IpAddr, ClassId)> = self.peers.puts().filter(may_move).collect();
        // The families are written one after the other.
        entries.sort_unstable_by_key(|(ip, _)| *ip);
        for family in Family::ALL {
            self.refuse_peers_beyond_room(family, &mut entries);
        }
        self.write_peers(&entries, now);
    }

    /// Writes classes of addresses.
    pub(super) fn write_peers(&mut self, entries: &[(IpAddr, ClassId)], now: Instant) {
        let (made, failed) = write_all(entries, |rest| self.tables.put_peers(rest));
        for (ip, class) in made {
            let old = self.peers.made(ip, Some(class));
            self.moved(old, Some(class), now);
        }
        let failed = failed.into_iter();
        self.failures.extend(failed.map(|((ip, _), failure)| (Subject::Address(ip), failure)));
    }

    pub(super) fn refuse_peers_beyond_room(
        &mut self,
        family: Family,
        entries: &mut Vec<(IpAddr, ClassId)>,
    ) {
        let is_own = |ip: &IpAddr| Family::of(*ip) == family;
        let is_new = |ip: &IpAddr| is_own(ip) && self.peers.is_new(ip);
        let wanted = entries.iter().filter(|(ip, _)| is_new(ip)).count();
        // Without counting where there is room for everything.
        let map = PolicyMap::Peers(family);
        if self.peers.entries().len() + wanted <= self.tables.capacity(map) {
            return;
        }
        let used = self.peers.entries().keys().filter(|ip| is_own(ip)).count();
        let mut room = self.room(map, used);
        if wanted <= room {
            return;
        }
        let full = Failure::Full { map, wanted, room };
        let failures = &mut self.failures;
        entries.retain(|(ip, _)| {
            if !is_new(ip) {
                return true;
            }
            if room == 0 {
                failures.insert(Subject::Address(*ip), full.clone());
                return false;
            }
            room -= 1;
            true
        });
    }

    /// Brings the ranges of a family up to date, all or from the first failure on none; whether all
    /// are.
    fn move_ranges(&mut self, family: Family, blocked: &BTreeSet<ClassId>, now: Instant) -> bool {
        let is_own = |range: &Cidr| range.family() == family;
        let mut puts: Vec<(Cidr, ClassId)> =
            self.ranges.puts().filter(|(range, _)| is_own(range)).collect();
        puts.sort_by_key(|(range, _)| (Reverse(range.prefix()), *range));
        let mut gone: Vec<Cidr> = self.ranges.gone().filter(is_own).collect();
        gone.sort_by_key(|range| range.prefix());
        let is_blocked = |(_, class): &(Cidr, ClassId)| blocked.contains(class);
        if let Some((range, _)) = puts.iter().find(|put| is_blocked(put)) {
            self.failures.insert(Subject::Range(*range), Failure::Waits);
            return false;
        }
        self.write_ranges(family, &puts, now) && self.remove_ranges(&gone, now)
    }

    /// Writes classes of ranges, if there is room for all of them, up to the first failure; whether
    /// there was none.
    pub(super) fn write_ranges(
        &mut self,
        family: Family,
        puts: &[(Cidr, ClassId)],
        now: Instant,
    ) -> bool {
        let Some((first, _)) = puts.first() else { return true };
        let map = PolicyMap::Ranges(family);
        let wanted = puts.iter().filter(|(range, _)| self.ranges.is_new(range)).count();
        let known = self.ranges.entries().keys();
        let room = self.room(map, known.filter(|range| range.family() == family).count());
        if wanted > room {
            let failure = Failure::Full { map, wanted, room };
            self.failures.insert(Subject::Range(*first), failure);
            return false;
        }
        let written = self.tables.put_ranges(puts);
        let made = written.as_ref().map_or_else(|stopped| stopped.made, |()| puts.len());
        for (range, class) in &puts[..made] {
            let old = self.ranges.made(*range, Some(*class));
            self.moved(old, Some(*class), now);
        }
        if let (Err(stopped), Some((range, _))) = (written, puts.get(made)) {
            self.failures.insert(Subject::Range(*range), Failure::from(&stopped.error));
            return false;
        }
        true
    }

    fn remove_ranges(&mut self, gone: &[Cidr], now: Instant) -> bool {
        let written = self.tables.remove_ranges(gone);
        let made = written.as_ref().map_or_else(|stopped| stopped.made, |()| gone.len());
        for range in &gone[..made] {
            let old = self.ranges.made(*range, None);
            self.moved(old, None, now);
        }
        if let (Err(stopped), Some(range)) = (written, gone.get(made)) {
            self.failures.insert(Subject::Range(*range), Failure::from(&stopped.error));
            return false;
        }
        true
    }

    fn remove_peers(&mut self, gone: &[IpAddr], now: Instant) {
        let (made, failed) = write_all(gone, |rest| self.tables.remove_peers(rest));
        for ip in made {
            let old = self.peers.made(ip, None);
            self.moved(old, None, now);
        }
        let failed = failed.into_iter();
        self.failures.extend(failed.map(|(ip, failure)| (Subject::Address(ip), failure)));
    }

    /// An address that cannot have its class falls back to its range, if it could do more than it
    /// should as what it was, and cannot as one of the range.
    fn fall_back(&mut self, blocked: &BTreeSet<ClassId>, now: Instant) {
        if self.peers.is_settled() {
            return;
        }
        let rulesets = self.wanted_rulesets();
        let ranges = Ranges::new(&self.ranges);
        let may_be =
            |is: ClassId, class: ClassId| rulesets.iter().all(|id| self.is_safe(*id, is, class));
        // Rulesets that are about to go are asked until they have.
        let lets_no_more = |from: ClassId, to: ClassId| {
            let going = self.rulesets.iter().filter(|id| !rulesets.contains(id));
            going.into_iter().all(|id| {
                let (from, to) = (self.rows.real(&(id, from)), self.rows.real(&(id, to)));
                from.zip(to).is_none_or(|(from, to)| !to.is_narrowed_by(from))
            })
        };
        let falls = |(ip, class): &(IpAddr, ClassId)| {
            let Some(is) = self.peers.real(ip).copied() else { return false };
            let range = ranges.real(*ip);
            !may_be(is, *class) && may_be(range, *class) && lets_no_more(is, range)
        };
        let falling: Vec<IpAddr> = self.peers.puts().filter(falls).map(|(ip, _)| ip).collect();
        self.remove_peers(&falling, now);
        for (ip, class) in self.peers.puts().collect::<Vec<_>>() {
            let is_blocked = blocked.contains(&class);
            let subject = if is_blocked { Subject::Class(class) } else { Subject::Address(ip) };
            self.failures.entry(subject).or_insert(Failure::Waits);
        }
    }

    /// Classes that addresses should have and some ruleset in the maps has no row for.
    fn unjudged(&self) -> BTreeSet<ClassId> {
        let peers = self.peers.puts().map(|(_, class)| class);
        let wanted: BTreeSet<ClassId> =
            peers.chain(self.ranges.puts().map(|(_, class)| class)).collect();
        let rulesets: Vec<RulesetId> = self.rulesets.iter().filter(has_rows).collect();
        let lacks_row =
            |class: &ClassId| rulesets.iter().any(|id| self.rows.is_new(&(*id, *class)));
        wanted.into_iter().filter(lacks_row).collect()
    }

    /// Rulesets that pods should have and that cannot judge some address as long as it is not in its
    /// class.
    pub(super) fn blind_rulesets(&self) -> Closed {
        let is: BTreeSet<ClassId> = self.moves().into_iter().map(|(is, _)| is).collect();
        let is_blind = |id: &RulesetId| is.iter().any(|class| self.rows.is_new(&(*id, *class)));
        self.wanted_rulesets().into_iter().filter(is_blind).collect()
    }

    fn moved(&mut self, old: Option<ClassId>, new: Option<ClassId>, now: Instant) {
        new.into_iter().for_each(|class| self.classes.take(class));
        old.into_iter().for_each(|class| self.classes.leave(class, now));
        self.note_written();
    }

    /// Rulesets that would let an address do more than it should, because it is not in its class.
    pub(super) fn unsafe_rulesets(&mut self) -> Closed {
        let moves = self.moves();
        if moves.is_empty() {
            return Closed::new();
        }
        let is_unsafe =
            |id: &RulesetId| moves.iter().any(|(is, class)| !self.is_safe(*id, *is, *class));
        let found: Closed = self.wanted_rulesets().into_iter().filter(is_unsafe).collect();
        for id in &found {
            self.failures.entry(Subject::Ruleset(*id)).or_insert(Failure::Waits);
        }
        found
    }

    pub(super) fn wanted_rulesets(&self) -> BTreeSet<RulesetId> {
        self.pods.rulesets().filter(has_rows).collect()
    }

    /// The ruleset lets addresses that are in one class do no more than they should as of the other.
    fn is_safe(&self, id: RulesetId, is: ClassId, class: ClassId) -> bool {
        let real = self.rows.real(&(id, is));
        let wanted = self.rows.wanted(&(id, class));
        match (real, wanted) {
            (Some(real), Some(wanted)) => is == class || !real.is_narrowed_by(wanted),
            _ => false,
        }
    }

    /// From which class to which addresses should go that are not in theirs.
    pub(super) fn moves(&self) -> BTreeSet<Move> {
        let peers = self.peer_moves().into_values();
        peers.chain(self.range_moves().into_values()).collect()
    }

    /// Addresses of which something is to be written and which have another class after that.
    pub(super) fn peer_moves(&self) -> BTreeMap<IpAddr, Move> {
        let mut found = BTreeMap::new();
        if self.peers.is_settled() {
            return found;
        }
        let ranges = Ranges::new(&self.ranges);
        for (ip, class) in self.peers.pending() {
            let is = self.peers.real(&ip).copied().unwrap_or_else(|| ranges.real(ip));
            found.insert(ip, (is, class.unwrap_or_else(|| ranges.wanted(ip))));
        }
        found.retain(|_, (is, class)| is != class);
        found
    }

    /// The same of ranges. Of the range that an address is in and that in which it should be, the
    /// longer one is among them.
    pub(super) fn range_moves(&self) -> BTreeMap<Cidr, Move> {
        let mut found = BTreeMap::new();
        if self.ranges.is_settled() {
            return found;
        }
        let ranges = Ranges::new(&self.ranges);
        for (range, _) in self.ranges.pending() {
            let (is, class) = (ranges.real_covering(range), ranges.wanted_covering(range));
            found.insert(range, (is, class));
        }
        found.retain(|_, (is, class)| is != class);
        found
    }
}

/// It is neither open nor closed.
pub(super) fn has_rows(id: &RulesetId) -> bool {
    *id != RulesetId::OPEN && *id != RulesetId::CLOSED
}

/// Longest matches among ranges.
struct Ranges<'a> {
    ranges: &'a Overlay<Cidr, ClassId>,
    /// The lengths that occur, the longest first.
    lengths: [Vec<u8>; 2],
}

impl<'a> Ranges<'a> {
    fn new(ranges: &'a Overlay<Cidr, ClassId>) -> Self {
        let pending = || ranges.pending().map(|(range, _)| range);
        let known = || ranges.entries().keys().copied().chain(pending());
        let lengths = Family::ALL.map(|family| {
            let own = known().filter(|range| range.family() == family);
            let lengths: BTreeSet<u8> = own.map(|range| range.prefix()).collect();
            lengths.into_iter().rev().collect()
        });
        Self { ranges, lengths }
    }

    fn longest(
        &self,
        ip: IpAddr,
        most: u8,
        find: impl Fn(&Cidr) -> Option<&'a ClassId>,
    ) -> ClassId {
        let lengths = self.lengths[Family::of(ip) as usize].iter();
        let mut ranges =
            lengths.filter(|length| **length <= most).filter_map(|length| Cidr::new(ip, *length));
        ranges.find_map(|range| find(&range)).copied().unwrap_or(ClassId::NOTHING)
    }

    fn real(&self, ip: IpAddr) -> ClassId {
        self.longest(ip, u8::MAX, |range| self.ranges.real(range))
    }

    fn wanted(&self, ip: IpAddr) -> ClassId {
        self.longest(ip, u8::MAX, |range| self.ranges.wanted(range))
    }

    fn real_covering(&self, range: Cidr) -> ClassId {
        self.longest(range.address(), range.prefix(), |range| self.ranges.real(range))
    }

    fn wanted_covering(&self, range: Cidr) -> ClassId {
        self.longest(range.address(), range.prefix(), |range| self.ranges.wanted(range))
    }
}
