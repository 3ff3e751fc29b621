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

    /// Adds a word where there was none.
    #[inline(always)]
    pub fn word(self, word: u32) -> Self {
        Self(self.0 + u64::from(word))
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

    /// Whether the change leaves every sum as it is.
    #[inline(always)]
    pub fn is_neutral(self) -> bool {
        matches!(fold(self.0), 0 | u16::MAX)
    }

    /// A field that holds a plain sum, after the change.
    #[inline(always)]
    pub fn add_to(self, field: u16) -> u16 {
        fold(u64::from(field) + u64::from(self.wsum()))
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

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// A checksum computed from nothing, word by word (RFC 1071).
    fn full(words: &[u16]) -> u16 {
        let mut sum: u32 = words.iter().map(|word| u32::from(*word)).sum();
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn update_equals_full_recomputation(
            mut words in prop::collection::vec(any::<u16>(), 4..40),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u16>()), 1..12),
        ) {
            // A header's words are not all zero, so neither form of zero is ambiguous.
            words[0] = 0x4500;
            let before = full(&words);
            let mut difference = Difference::NONE;
            for (index, new) in changes {
                let place = 1 + index.index(words.len() - 1);
                difference = difference.word16(words[place], new);
                words[place] = new;
            }
            prop_assert_eq!(difference.apply(before), full(&words));
        }

        #[test]
        fn wide_words_equal_their_halves(old: u32, new: u32, field: u16) {
            let halves = |word: u32| [word as u16, (word >> 16) as u16];
            let ([a, b], [c, d]) = (halves(old), halves(new));
            let narrow = Difference::NONE.word16(a, c).word16(b, d);
            let wide = Difference::NONE.word32(old, new);
            prop_assert_eq!(wide.apply(field), narrow.apply(field));
            prop_assert_eq!(Difference::NONE.and(wide).apply(field), wide.apply(field));
        }

        #[test]
        fn folding_keeps_the_sum(words in prop::collection::vec(any::<u16>(), 1..100)) {
            let sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
            prop_assert_eq!(!fold(sum), full(&words.into_iter().collect::<Vec<_>>()));
        }
    }
}
