// SPDX-License-Identifier: Apache-2.0
//! Numbers made of content: the same in every run, so that an agent that starts again finds the ids
//! that it left in the maps.

use std::hash::{Hash, Hasher};

/// FNV-1a with a mixing step at the end. Not made to withstand an adversary: whoever uses it
/// compares contents, too.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        mixed(self.0)
    }
}

/// The hash of a value.
pub(super) fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    value.hash(&mut hasher);
    hasher.finish()
}

/// Spreads the bits of a number.
pub(super) fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

/// The first id of a content that is not reserved and that nobody else has.
pub(super) fn id_of(content: u64, reserved: u32, is_taken: impl Fn(u32) -> bool) -> u32 {
    let mut bits = content;
    loop {
        let id = (bits >> 32) as u32 ^ bits as u32;
        if id >= reserved && !is_taken(id) {
            return id;
        }
        bits = mixed(bits.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_taken_or_reserved_is_passed_over() {
        let first = id_of(7, 2, |_| false);
        assert_eq!(first, 7);
        let second = id_of(7, 2, |id| id == first);
        assert_ne!(first, second);
        assert!(id_of(1, 2, |_| false) >= 2);
    }

    #[test]
    fn a_hash_is_the_same_in_every_run() {
        assert_eq!(
            hash_of(&7_u8),
            mixed((0xcbf2_9ce4_8422_2325_u64 ^ 7).wrapping_mul(0x100_0000_01b3))
        );
    }
}
