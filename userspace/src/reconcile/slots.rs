// SPDX-License-Identifier: Apache-2.0
//! Which slots are free: ranges of an array, given out first fit and merged when they come back.

use std::{collections::BTreeMap, ops::Range};

/// The free ranges of a slot array.
#[derive(Debug)]
pub struct Slots {
    /// Start → end, neither adjacent nor overlapping.
    free: BTreeMap<u32, u32>,
}

impl Slots {
    /// All slots of an array are free.
    pub fn new(capacity: u32) -> Self {
        Self { free: BTreeMap::from([(0, capacity)]) }
    }

    /// Takes the first free range of a length; `None` if there is none.
    pub fn take(&mut self, len: u32) -> Option<Range<u32>> {
        let (&start, &end) = self.free.iter().find(|(start, end)| *end - *start >= len)?;
        self.free.remove(&start);
        if start + len < end {
            self.free.insert(start + len, end);
        }
        Some(start..start + len)
    }

    /// Takes a range that the maps use already; `false` if it is not free as a whole.
    pub fn adopt(&mut self, range: Range<u32>) -> bool {
        if range.is_empty() {
            return true;
        }
        let Some((&start, &end)) = self.free.range(..=range.start).next_back() else {
            return false;
        };
        if range.end > end {
            return false;
        }
        self.free.remove(&start);
        if start < range.start {
            self.free.insert(start, range.start);
        }
        if range.end < end {
            self.free.insert(range.end, end);
        }
        true
    }

    /// Gives a range back.
    pub fn give_back(&mut self, range: Range<u32>) {
        if range.is_empty() {
            return;
        }
        let mut merged = range;
        if let Some((&start, &end)) = self.free.range(..merged.start).next_back()
            && end == merged.start
        {
            self.free.remove(&start);
            merged.start = start;
        }
        if let Some(end) = self.free.remove(&merged.end) {
            merged.end = end;
        }
        self.free.insert(merged.start, merged.end);
    }

    /// Number of free slots.
    pub fn free(&self) -> u32 {
        self.free.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_returned_range_merges_with_its_neighbours() {
        let mut slots = Slots::new(10);
        let ranges: Vec<_> = (0..5).filter_map(|_| slots.take(2)).collect();
        assert_eq!(slots.take(1), None);
        for index in [1, 3, 2, 0, 4] {
            slots.give_back(ranges[index].clone());
        }
        assert_eq!(slots.take(10), Some(0..10));
    }

    #[test]
    fn a_range_in_use_is_adopted_once() {
        let mut slots = Slots::new(10);
        assert!(slots.adopt(3..5));
        assert!(!slots.adopt(4..6));
        assert!(!slots.adopt(9..11));
        assert_eq!(slots.take(4), Some(5..9));
        assert_eq!(slots.free(), 4);
    }

    proptest! {
        #[test]
        fn ranges_in_use_never_overlap(steps in proptest::collection::vec((1u32..9, any::<bool>()), 1..200)) {
            let mut slots = Slots::new(64);
            let mut used: Vec<Range<u32>> = Vec::new();
            for (len, give_back) in steps {
                if give_back && !used.is_empty() {
                    slots.give_back(used.swap_remove(len as usize % used.len()));
                } else if let Some(range) = slots.take(len) {
                    prop_assert!(used.iter().all(|other| range.end <= other.start || other.end <= range.start));
                    used.push(range);
                }
                let in_use: u32 = used.iter().map(|range| range.end - range.start).sum();
                prop_assert_eq!(slots.free() + in_use, 64);
            }
        }
    }
}
