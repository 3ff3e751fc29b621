// SPDX-License-Identifier: Apache-2.0
//! Who leads to a ruleset or a class, and since when nobody does.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::reconcile::reconciler::GRACE;

/// Uses of ids.
#[derive(Debug)]
pub(super) struct Uses<I> {
    counts: BTreeMap<I, usize>,
    left: BTreeMap<I, Instant>,
}

impl<I: Ord + Copy> Uses<I> {
    /// These are in use, some more than once.
    pub fn new(used: impl IntoIterator<Item = I>) -> Self {
        let mut uses = Self { counts: BTreeMap::new(), left: BTreeMap::new() };
        used.into_iter().for_each(|id| uses.take(id));
        uses
    }

    /// One use more.
    pub fn take(&mut self, id: I) {
        *self.counts.entry(id).or_default() += 1;
        self.left.remove(&id);
    }

    /// One use less.
    pub fn leave(&mut self, id: I, now: Instant) {
        let Some(count) = self.counts.get_mut(&id) else { return };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&id);
            self.left.insert(id, now);
        }
    }

    /// Something leads to it.
    pub fn has(&self, id: &I) -> bool {
        self.counts.contains_key(id)
    }

    /// Nothing leads to it, and no program can still be on its way there.
    pub fn is_idle(&self, id: &I, now: Instant) -> bool {
        !self.has(id) && self.left.get(id).is_none_or(|left| now >= *left + GRACE)
    }

    /// What is in use.
    pub fn iter(&self) -> impl Iterator<Item = I> {
        self.counts.keys().copied()
    }

    /// When the next id will be idle that is not yet.
    pub fn next_idle(&self, now: Instant) -> Option<Instant> {
        let due = self.left.values().map(|left| *left + GRACE);
        due.filter(|due| *due > now).min()
    }

    /// Forgets when ids were left of which that does not matter any more.
    pub fn forget(&mut self, now: Instant) {
        self.left.retain(|_, left| now.saturating_duration_since(*left) < GRACE + SLACK);
    }
}

/// Longer than what happens between two readings of the clock.
const SLACK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_idle_some_time_after_its_last_use() {
        let start = Instant::now();
        let mut uses = Uses::new([7, 7]);
        uses.leave(7, start);
        assert!(uses.has(&7) && !uses.is_idle(&7, start + GRACE));
        uses.leave(7, start);
        assert!(!uses.has(&7) && !uses.is_idle(&7, start));
        assert_eq!(uses.next_idle(start), Some(start + GRACE));
        assert!(uses.is_idle(&7, start + GRACE));
        assert!(uses.is_idle(&8, start), "it never had a use");
        uses.take(7);
        assert!(!uses.is_idle(&7, start + GRACE));
    }
}
