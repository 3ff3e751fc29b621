// SPDX-License-Identifier: Apache-2.0
//! The cluster's service addresses in the maps: an array of a few ranges for each family.

use super::tables::{Family, Tables, WriteError};
use crate::model::cidr::Cidr;

/// Number of ranges in the maps.
pub const ROOM: usize = pintle_abi::source_range::CLUSTER_RANGES as usize;

/// The ranges of one family, as the maps hold them and as they should be.
#[derive(Debug, Default)]
pub struct ClusterRanges {
    written: [Option<Cidr>; ROOM],
    /// `None` until it is known.
    wanted: Option<Vec<Cidr>>,
}

impl ClusterRanges {
    /// Takes over what the maps hold.
    pub fn adopt(&mut self, index: usize, range: Cidr) {
        if let Some(place) = self.written.get_mut(index) {
            *place = Some(range);
        }
    }

    /// Sets what the maps should hold.
    pub fn want(&mut self, ranges: &[Cidr]) {
        self.wanted = Some(ranges.to_vec());
    }

    /// Makes the maps what they should be. A range keeps its place, and a new one is written before
    /// an old one goes, where there is room.
    pub fn settle(&mut self, family: Family, tables: &mut impl Tables) -> Result<(), WriteError> {
        let Some(wanted) = &self.wanted else { return Ok(()) };
        let is_wanted = |place: &Option<Cidr>| place.is_none_or(|range| wanted.contains(&range));
        let mut missing = wanted.iter().filter(|range| !self.written.contains(&Some(**range)));
        let missing: Vec<Cidr> = missing.by_ref().copied().collect();
        let mut result = Ok(());
        let mut missing = missing.into_iter();
        // Free places first, then those of ranges that are to go.
        let free = (0..ROOM).filter(|index| self.written[*index].is_none());
        let stale = (0..ROOM).filter(|index| !is_wanted(&self.written[*index]));
        for index in free.chain(stale).collect::<Vec<_>>() {
            let range = missing.next();
            if range == self.written[index] {
                continue;
            }
            match tables.put_cluster_range(family, index as u32, range) {
                Ok(()) => self.written[index] = range,
                Err(error) => result = Err(error),
            }
        }
        result
    }
}
