// SPDX-License-Identifier: Apache-2.0
//! Source ranges of service ports: written before a frontend asks for them, removed when none does.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::tables::{Family, Tables, WriteError};
use crate::model::cidr::Cidr;

/// The source ranges of one family.
#[derive(Debug, Default)]
pub struct Sources {
    by_service: HashMap<u32, BTreeMap<Cidr, Range>>,
    /// Ranges in the maps, and those that have their room there.
    count: usize,
    /// Ranges that may have to be written or removed.
    due: BTreeSet<(u32, Cidr)>,
    /// The maps hold an earlier agent's ranges, and what is wanted is not known yet.
    is_adopting: bool,
}

#[derive(Debug, Default)]
struct Range {
    /// Frontends that ask for it.
    uses: u32,
    is_written: bool,
}

impl Sources {
    /// Takes over a range that the maps hold; nobody asks for it yet.
    pub fn adopt(&mut self, service: u32, range: Cidr) {
        self.is_adopting = true;
        self.count += 1;
        let ranges = self.by_service.entry(service).or_default();
        ranges.insert(range, Range { uses: 0, is_written: true });
        self.due.insert((service, range));
    }

    /// Counts a use of all ranges that the maps hold for a service port.
    pub fn adopt_use(&mut self, service: u32) -> Box<[Cidr]> {
        let Some(ranges) = self.by_service.get_mut(&service) else { return Box::default() };
        ranges.values_mut().for_each(|range| range.uses += 1);
        ranges.keys().copied().collect()
    }

    /// What is wanted is known from now on.
    pub fn complete(&mut self) {
        self.is_adopting = false;
    }

    /// How many of these a service port does not have; `None` is one without a number.
    pub fn missing(&self, service: Option<u32>, ranges: &[Cidr]) -> usize {
        let known = service.and_then(|service| self.by_service.get(&service));
        let is_known = |range: &&Cidr| known.is_some_and(|known| known.contains_key(range));
        ranges.iter().filter(|range| !is_known(range)).count()
    }

    /// Number of ranges, those included that are yet to be written or removed.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Counts one more use of each range and writes what the maps do not hold; on failure nothing
    /// is counted.
    pub fn acquire(
        &mut self,
        family: Family,
        service: u32,
        ranges: &[Cidr],
        tables: &mut impl Tables,
    ) -> Result<(), WriteError> {
        let mut result = Ok(());
        for (index, cidr) in ranges.iter().enumerate() {
            let known = self.by_service.entry(service).or_default();
            let range = known.entry(*cidr).or_insert_with(|| {
                self.count += 1;
                Range::default()
            });
            range.uses += 1;
            if !range.is_written {
                result = tables.put_source_range(family, service, *cidr);
                range.is_written = result.is_ok();
            }
            if result.is_err() {
                self.release(service, &ranges[..=index]);
                break;
            }
        }
        result
    }

    /// Counts one use of each range less; those that nobody asks for are due to be removed.
    pub fn release(&mut self, service: u32, ranges: &[Cidr]) {
        let Some(known) = self.by_service.get_mut(&service) else { return };
        for cidr in ranges {
            let Some(range) = known.get_mut(cidr) else { continue };
            range.uses = range.uses.saturating_sub(1);
            if range.uses == 0 {
                self.due.insert((service, *cidr));
            }
        }
    }

    /// Removes what nobody asks for; what is refused stays due.
    pub fn settle(&mut self, family: Family, tables: &mut impl Tables) -> Result<(), WriteError> {
        let mut result = Ok(());
        if self.is_adopting {
            return result;
        }
        for (service, cidr) in std::mem::take(&mut self.due) {
            let Some(ranges) = self.by_service.get_mut(&service) else { continue };
            let Some(range) = ranges.get(&cidr).filter(|range| range.uses == 0) else { continue };
            if range.is_written
                && let Err(error) = tables.remove_source_range(family, service, cidr)
            {
                self.due.insert((service, cidr));
                result = Err(error);
                continue;
            }
            ranges.remove(&cidr);
            self.count -= 1;
            if ranges.is_empty() {
                self.by_service.remove(&service);
            }
        }
        result
    }
}
