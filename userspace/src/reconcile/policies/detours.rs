// SPDX-License-Identifier: Apache-2.0
//! From an earlier agent's rulesets to ours, when addresses get other classes on the way.
//!
//! What only the earlier agent knew has no rows for our classes, and our rulesets have none for its
//! own. So each address goes by a class of the pair (from, to): the old rulesets see it as what it
//! was, ours as what it is to be. Then the pods get our rulesets, and the addresses their classes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use super::{
    moves::{Move, has_rows},
    reconciler::{Closed, PolicyReconciler},
    tables::{PolicyMap, PolicyTables},
};
use crate::{
    model::{cidr::Cidr, ip::Family},
    policy::{ClassId, Row, RowKey, RulesetId},
};

/// Classes for the time in which a pod has an old ruleset.
type Detours = BTreeMap<Move, ClassId>;

impl<T: PolicyTables> PolicyReconciler<T> {
    /// Gives addresses their classes. Where an old ruleset is in the way, they go by others first;
    /// where there is no room for these, the pods that have it are closed.
    pub(super) fn set_out(&mut self, now: Instant) {
        let old: Vec<RulesetId> = self.old_rulesets().collect();
        let moves = self.moves();
        if old.is_empty() || moves.is_empty() {
            return self.move_addresses(now);
        }
        if !self.detours.is_empty() {
            // Some pod could not be given its ruleset yet.
            return;
        }
        match self.open_detours(&old, moves) {
            Some(detours) => self.take(&detours, now),
            None => {
                self.close(&old.into_iter().collect::<Closed>(), now);
                self.move_addresses(now);
            }
        }
    }

    /// From where they are by now, addresses go to their classes, once no pod has an old ruleset.
    pub(super) fn arrive(&mut self, now: Instant) {
        if self.detours.is_empty() || self.old_rulesets().next().is_some() {
            return;
        }
        self.move_addresses(now);
        self.detours.retain(|class| self.classes.has(class));
    }

    /// Rulesets in the maps that are no pod's any more, as far as we know.
    fn old_rulesets(&self) -> impl Iterator<Item = RulesetId> {
        self.rulesets.iter().filter(|id| has_rows(id) && !self.is_wanted(*id))
    }

    /// Writes the rows of a class for each pair, if there is room; `None` if not all are written.
    fn open_detours(&mut self, old: &[RulesetId], moves: BTreeSet<Move>) -> Option<Detours> {
        let detours: Detours = moves.into_iter().zip(self.free_classes()).collect();
        let used = self.rulesets.iter().filter(has_rows).filter(|id| !old.contains(id));
        let ours: BTreeSet<RulesetId> = used.chain(self.wanted_rulesets()).collect();
        let mut rows: Vec<(RowKey, Row)> = Vec::new();
        for ((from, to), class) in &detours {
            let before = |id: &RulesetId| self.rows.real(&(*id, *from)).copied();
            let after = |id: &RulesetId| self.rows.wanted(&(*id, *to)).copied();
            let row = |id: &RulesetId, row: Option<Row>| ((*id, *class), row.unwrap_or_default());
            rows.extend(old.iter().map(|id| row(id, before(id))));
            rows.extend(ours.iter().map(|id| row(id, after(id))));
        }
        if rows.len() > self.room(PolicyMap::Rows, self.rows.entries().len()) {
            return None;
        }
        self.put_rows(&rows);
        rows.iter().all(|(key, _)| !self.rows.is_new(key)).then_some(detours)
    }

    /// Numbers of classes that nobody has; ours come from hashes, so any will do.
    fn free_classes(&self) -> impl Iterator<Item = ClassId> + use<T> {
        let known = self.rows.entries().keys().copied();
        let known = known.chain(self.rows.pending().map(|(key, _)| key));
        let known: BTreeSet<ClassId> = known.map(|(_, class)| class).collect();
        (0..=u32::MAX).rev().map(ClassId).filter(move |class| !known.contains(class))
    }

    /// Nothing goes yet: what should is in the class of its pair, too.
    fn take(&mut self, detours: &Detours, now: Instant) {
        self.detours = detours.values().copied().collect();
        let peers = self.peer_moves().into_iter();
        let mut peers: Vec<(IpAddr, ClassId)> =
            peers.filter_map(|(ip, pair)| Some((ip, *detours.get(&pair)?))).collect();
        let ranges = self.range_moves().into_iter();
        let mut ranges: Vec<(Cidr, ClassId)> =
            ranges.filter_map(|(range, pair)| Some((range, *detours.get(&pair)?))).collect();
        ranges.sort_by_key(|(range, _)| Reverse(range.prefix()));
        for family in Family::ALL {
            self.refuse_peers_beyond_room(family, &mut peers);
        }
        self.write_peers(&peers, now);
        for family in Family::ALL {
            let own = ranges.iter().filter(|(range, _)| range.family() == family);
            let own: Vec<(Cidr, ClassId)> = own.copied().collect();
            self.write_ranges(family, &own, now);
        }
    }
}
