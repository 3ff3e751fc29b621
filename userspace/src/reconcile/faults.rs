// SPDX-License-Identifier: Apache-2.0
//! Which writes to maps in memory fail, for tests.

use super::tables::WriteError;

/// None fails, until a test says so.
#[derive(Debug)]
pub struct Faults {
    /// Number of writes that were tried.
    pub writes: usize,
    /// Every write fails after this many more.
    pub dies_after: Option<usize>,
    /// Writes that fail, in percent.
    pub percent: u32,
    /// Maps of which every write fails.
    pub broken: Vec<&'static str>,
    random: u64,
}

impl Faults {
    pub fn new() -> Self {
        let random = 0x9e37_79b9_7f4a_7c15;
        Self { writes: 0, dies_after: None, percent: 0, broken: Vec::new(), random }
    }

    /// One more write is tried.
    pub fn attempt(&mut self, map: &'static str) -> Result<(), WriteError> {
        self.writes += 1;
        match self.fails(map) {
            true => Err(WriteError { map, source: "injected".into() }),
            false => Ok(()),
        }
    }

    fn fails(&mut self, map: &str) -> bool {
        if let Some(left) = &mut self.dies_after {
            let is_dead = *left == 0;
            *left = left.saturating_sub(1);
            return is_dead;
        }
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.broken.contains(&map) || self.random % 100 < u64::from(self.percent)
    }
}
