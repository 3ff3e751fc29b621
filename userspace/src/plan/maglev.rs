// SPDX-License-Identifier: Apache-2.0
//! Maglev's lookup tables: the same on every node for the same backends, and little moved when one
//! comes or goes.
//!
//! Each backend prefers the slots of a table in an order of its own; they take turns, each takes the
//! best that is left ("Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section
//! 3.4). A table depends on addresses and weights only: not on its former content, not on the node.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::Serialize;
use siphasher::sip128::SipHasher13;

use crate::model::addr::BackendAddr;

/// Keys of the backends' preferences. They are part of what nodes agree on: never change them.
const KEYS: [u64; 2] = [0x7069_6e74_6c65_2e64, 0x6576_2f6d_6167_6c76];

/// Number of slots in a table: a prime, so that any step leads to every slot.
///
/// With a hundred slots for each backend shares differ by 1 %. Of the connections
/// to 100 backends that stay at most 2 % move when one goes in 16,381 slots, and 1 % in 65,521.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TableSize(u32);

impl TableSize {
    /// Those that can be chosen.
    pub const ALL: [Self; 10] = [
        Self(251),
        Self(509),
        Self(1_021),
        Self(2_039),
        Self(4_093),
        Self(8_191),
        Self(16_381),
        Self(32_749),
        Self(65_521),
        Self(131_071),
    ];

    /// The size with this number of slots.
    pub fn of(slots: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.0 == slots)
    }

    /// Number of slots.
    pub fn slots(self) -> u32 {
        self.0
    }
}

/// For 100 backends; who has more, or is to move less, takes more.
impl Default for TableSize {
    fn default() -> Self {
        Self(16_381)
    }
}

impl fmt::Display for TableSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TableSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().ok().and_then(Self::of).ok_or_else(|| {
            let all = Self::ALL.map(|size| size.to_string());
            format!("give one of {}", all.join(", "))
        })
    }
}

/// For each slot the index of its backend; empty if there is none.
///
/// Backends must be in an order that every node has them in. With weights, of which there is one for each
/// or none at all, a backend takes its turn in as many rounds as its weight says: in all of them if it is the
/// heaviest, and always in the first.
pub fn table(backends: &[BackendAddr], weights: &[u8], size: TableSize) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    if backends.is_empty() {
        return Vec::new();
    }
    let mut table = vec![FREE; size.0 as usize];
    let heaviest = weights.iter().copied().max().unwrap_or(1).into();
    let weight = |index: usize| weights.get(index).map_or(heaviest, |weight| (*weight).into());
    let new = |(index, backend)| Turn::new(backend, weight(index), size);
    let mut turns: Vec<Turn> = backends.iter().enumerate().map(new).collect();
    let mut free = table.len();
    loop {
        for (turn, index) in turns.iter_mut().zip(0..) {
            if !turn.is_in_round(heaviest) {
                continue;
            }
            while table[turn.slot as usize] != FREE {
                turn.skip(size);
            }
            table[turn.slot as usize] = index;
            free -= 1;
            if free == 0 {
                return table;
            }
        }
    }
}

/// A backend's way through the slots.
struct Turn {
    slot: u32,
    step: u32,
    weight: u32,
    /// What it has had too much of when the round begins, in shares of the heaviest.
    debt: u32,
}

impl Turn {
    fn new(backend: &BackendAddr, weight: u32, TableSize(slots): TableSize) -> Self {
        let mut bytes = [0; 18];
        let end = match backend.ip {
            IpAddr::V4(ip) => {
                bytes[..4].copy_from_slice(&ip.octets());
                4
            }
            IpAddr::V6(ip) => {
                bytes[..16].copy_from_slice(&ip.octets());
                16
            }
        };
        bytes[end..end + 2].copy_from_slice(&backend.port.to_be_bytes());
        let hash = SipHasher13::new_with_keys(KEYS[0], KEYS[1]).hash(&bytes[..end + 2]);
        let below = |hash: u64, end: u32| (hash % u64::from(end)) as u32;
        let (slot, step) = (below(hash.h1, slots), 1 + below(hash.h2, slots - 1));
        Self { slot, step, weight, debt: 0 }
    }

    /// Whether it takes a slot in the next round: in the first one, and of any `heaviest` that follow each other in
    /// as many as its weight says.
    fn is_in_round(&mut self, heaviest: u32) -> bool {
        let takes = self.debt < self.weight;
        if takes {
            self.debt += heaviest - self.weight;
        } else {
            self.debt -= self.weight;
        }
        takes
    }

    fn skip(&mut self, TableSize(slots): TableSize) {
        self.slot += self.step;
        if self.slot >= slots {
            self.slot -= slots;
        }
    }
}

#[cfg(test)]
#[path = "maglev_tests.rs"]
mod tests;
