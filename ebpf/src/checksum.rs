// SPDX-License-Identifier: Apache-2.0
//! One's complement arithmetic (RFC 1071) and incremental update (RFC 1624). Pure.
//!
//! Words are taken as they stand in memory: the sum does not depend on byte order (RFC 1071 2.B).

/// A sum of differences between new and old words, not yet folded to 16 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference(u64);

impl Difference {
    /// Nothing changed.
    pub const NONE: Self = Self(0);

    /// Replaces a 32-bit word.
    #[inline(always)]
    pub fn word32(self, old: u32, new: u32) -> Self {
        Self(self.0 + u64::from(!old) + u64::from(new))
    }

    /// Replaces a 16-bit word.
    #[inline(always)]
    pub fn word16(self, old: u16, new: u16) -> Self {
        Self(self.0 + u64::from(!old) + u64::from(new))
    }

    /// Both changes.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Folded to the 32 bits that the kernel's helpers take (`__wsum`).
    #[inline(always)]
    pub fn wsum(self) -> u32 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((sum & 0xffff_ffff) + (sum >> 32)) as u32
    }

    /// A checksum field after the change (RFC 1624, equation 3).
    #[inline(always)]
    pub fn apply(self, field: u16) -> u16 {
        !fold(u64::from(!field) + u64::from(self.wsum()))
    }
}

/// Folds a sum of words to 16 bits.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
