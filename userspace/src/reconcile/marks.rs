// SPDX-License-Identifier: Apache-2.0
//! Which addresses are marked as having frontends, and which should be.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use super::tables::{Family, Tables, WriteError};

/// The marks of all addresses that have frontends, or had some.
#[derive(Debug, Default)]
pub struct Marks {
    marks: HashMap<IpAddr, Mark>,
    /// Addresses whose mark in the maps may not be as it should.
    due: BTreeSet<IpAddr>,
    /// How many marks there are, by family.
    counts: [usize; 2],
}

#[derive(Debug, Default)]
struct Mark {
    /// Frontends of the address.
    frontends: u32,
    /// The maps hold the mark.
    is_set: bool,
}

impl Marks {
    /// Takes over a mark that the maps hold.
    pub fn adopt(&mut self, ip: IpAddr) {
        self.mark(ip).is_set = true;
        self.due.insert(ip);
    }

    /// Counts one more frontend of an address.
    pub fn add(&mut self, ip: IpAddr) {
        let mark = self.mark(ip);
        mark.frontends += 1;
        if !mark.is_set {
            self.due.insert(ip);
        }
    }

    /// Counts one less.
    pub fn remove(&mut self, ip: IpAddr) {
        let Some(mark) = self.marks.get_mut(&ip) else { return };
        mark.frontends = mark.frontends.saturating_sub(1);
        if mark.frontends == 0 {
            self.due.insert(ip);
        }
    }

    /// Whether a mark for the address is in the maps, or has its room there.
    pub fn contains(&self, ip: &IpAddr) -> bool {
        self.marks.contains_key(ip)
    }

    /// Number of marks of a family, those included that are yet to be written or removed.
    pub fn count(&self, family: Family) -> usize {
        self.counts[family as usize]
    }

    /// Makes the maps' marks what they should be; what is refused stays due.
    pub fn settle(&mut self, tables: &mut impl Tables) -> Result<(), WriteError> {
        let mut result = Ok(());
        for ip in std::mem::take(&mut self.due) {
            let Some(mark) = self.marks.get_mut(&ip) else { continue };
            let settled = match (mark.frontends > 0, mark.is_set) {
                (true, false) => tables.put_wildcard(ip),
                (false, true) => tables.remove_wildcard(ip),
                (true, true) | (false, false) => Ok(()),
            };
            match settled {
                Ok(()) if mark.frontends > 0 => mark.is_set = true,
                Ok(()) => {
                    self.marks.remove(&ip);
                    self.counts[Family::of(ip) as usize] -= 1;
                }
                Err(error) => {
                    self.due.insert(ip);
                    result = Err(error);
                }
            }
        }
        result
    }

    fn mark(&mut self, ip: IpAddr) -> &mut Mark {
        self.marks.entry(ip).or_insert_with(|| {
            self.counts[Family::of(ip) as usize] += 1;
            Mark::default()
        })
    }
}
