// SPDX-License-Identifier: Apache-2.0
//! The wildcard entries of addresses: which there are, and which there should be.
//!
//! An address is marked while it has frontends, or is one of the node's own; what the mark says is
//! the planner's. A mark outlives the wish for it as long as frontends of its address are there.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use pintle_abi::service::wildcard_flags;

use super::tables::{Family, Tables, WriteError};

/// The marks of all addresses that have frontends, had some, or are the node's.
#[derive(Debug, Default)]
pub struct Marks {
    marks: HashMap<IpAddr, Mark>,
    /// Addresses whose mark in the maps may not be as it should.
    due: BTreeSet<IpAddr>,
    /// How many marks are in the maps or have their room there, by family.
    counts: [usize; 2],
    /// The maps hold an earlier agent's marks, and what is wanted is not known yet.
    is_adopting: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// Frontends of the address.
    frontends: u32,
    /// Flags that the planner wants.
    wanted: Option<u32>,
    /// Flags that the maps hold.
    written: Option<u32>,
}

impl Mark {
    /// The flags that the maps should hold now.
    fn due(&self) -> Option<u32> {
        match (self.wanted, self.frontends) {
            (Some(flags), 0) => Some(flags & wildcard_flags::NODE).filter(|flags| *flags != 0),
            (None, 0) => None,
            // Frontends that could not be removed keep what they have.
            (None, _) => Some(self.written.unwrap_or_default()),
            (Some(flags), _) => Some(flags),
        }
    }

    fn has_room(&self) -> bool {
        self.written.is_some() || self.due().is_some()
    }
}

impl Marks {
    /// Takes over a mark that the maps hold.
    pub fn adopt(&mut self, ip: IpAddr, flags: u32) {
        self.is_adopting = true;
        self.change(ip, |mark| mark.written = Some(flags));
    }

    /// What is wanted is known from now on, of each address that is wanted.
    pub fn complete(&mut self) {
        self.is_adopting = false;
    }

    /// Sets the flags that an address should have, or that it should have none.
    pub fn want(&mut self, ip: IpAddr, flags: Option<u32>) {
        self.change(ip, |mark| mark.wanted = flags);
    }

    /// Counts one more frontend of an address.
    pub fn add(&mut self, ip: IpAddr) {
        self.change(ip, |mark| mark.frontends += 1);
    }

    /// Counts one less.
    pub fn remove(&mut self, ip: IpAddr) {
        self.change(ip, |mark| mark.frontends = mark.frontends.saturating_sub(1));
    }

    /// How many entries a new frontend of an address takes for its mark.
    pub fn missing(&self, ip: &IpAddr) -> usize {
        let has_room = self.marks.get(ip).is_some_and(Mark::has_room);
        usize::from(!has_room && !ip.is_unspecified())
    }

    /// Number of marks of a family, those included that are yet to be written or removed.
    pub fn count(&self, family: Family) -> usize {
        self.counts[family as usize]
    }

    /// Makes the maps' marks what they should be; what is refused stays due.
    pub fn settle(&mut self, tables: &mut impl Tables) -> Result<(), WriteError> {
        let mut result = Ok(());
        if self.is_adopting {
            return result;
        }
        for ip in std::mem::take(&mut self.due) {
            let Some(mark) = self.marks.get(&ip).copied() else { continue };
            let due = mark.due();
            let settled = match (due, mark.written) {
                (due, written) if due == written => Ok(()),
                (Some(flags), _) => tables.put_wildcard(ip, flags),
                (None, _) => tables.remove_wildcard(ip),
            };
            match settled {
                Ok(()) => {
                    self.change(ip, |mark| mark.written = due);
                    self.due.remove(&ip);
                }
                Err(error) => {
                    self.due.insert(ip);
                    result = Err(error);
                }
            }
        }
        result
    }

    /// The unspecified address stands for node ports, and is nobody's: it has no mark.
    fn change(&mut self, ip: IpAddr, change: impl FnOnce(&mut Mark)) {
        if ip.is_unspecified() {
            return;
        }
        let mark = self.marks.entry(ip).or_default();
        let had_room = mark.has_room();
        change(mark);
        let count = &mut self.counts[Family::of(ip) as usize];
        *count += usize::from(mark.has_room());
        *count -= usize::from(had_room);
        if mark.due() != mark.written || self.is_adopting {
            self.due.insert(ip);
        }
        if mark.frontends == 0 && mark.wanted.is_none() && mark.written.is_none() {
            self.marks.remove(&ip);
        }
    }
}
