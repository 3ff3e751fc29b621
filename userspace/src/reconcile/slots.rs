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
        if len == 0 {
            return Some(0..0);
        }
        let (&start, _) = self.free.iter().find(|(start, end)| *end - *start >= len)?;
        self.cut(start..start + len);
        Some(start..start + len)
    }

    /// Takes what is free of a range that the maps use already: all of it, unless others use it too.
    pub fn adopt(&mut self, range: Range<u32>) -> Vec<Range<u32>> {
        if range.is_empty() {
            return Vec::new();
        }
        let parts: Vec<_> = self
            .free
            .range(..range.end)
            .map(|(start, end)| range.start.max(*start)..range.end.min(*end))
            .filter(|part| !part.is_empty())
            .collect();
        parts.iter().for_each(|part| self.cut(part.clone()));
        parts
    }

    /// Takes a range that lies in one that is free.
    fn cut(&mut self, range: Range<u32>) {
        let Some((&start, &end)) = self.free.range(..=range.start).next_back() else { return };
        self.free.remove(&start);
        if start < range.start {
            self.free.insert(start, range.start);
        }
        if range.end < end {
            self.free.insert(range.end, end);
        }
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

    /// Length of the longest free range.
    pub fn longest(&self) -> u32 {
        self.free.iter().map(|(start, end)| end - start).max().unwrap_or_default()
    }

    /// Number of free slots.
    #[cfg(test)]
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
    fn of_a_range_in_use_only_what_is_free_is_adopted() {
        let mut slots = Slots::new(10);
        assert_eq!(slots.adopt(3..5), vec![3..5; 1]);
        assert_eq!(slots.adopt(2..6), [2..3, 5..6]);
        assert_eq!(slots.adopt(9..11), vec![9..10; 1]);
        assert_eq!(slots.adopt(7..7), []);
        assert_eq!(slots.take(3), Some(6..9));
        assert_eq!(slots.free(), 2);
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
