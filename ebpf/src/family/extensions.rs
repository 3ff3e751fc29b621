// SPDX-License-Identifier: Apache-2.0
//! The way through IPv6 extension headers (RFC 8200 4) to the transport header.

use crate::{
    packet::{Fragmentation, Packet, at, ensure, field},
    wire::ipv6::{
        self,
        extension::{self, is_extension},
    },
};

/// Farthest place of a transport header; what lies behind counts as malformed.
const FARTHEST: u32 = 4096;

/// Where the extension headers lead, packed into the one integer that a function of the kernel can
/// return: such a function is verified once, where inlined code would multiply with all that follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked(u64);

/// Covers a header's longest length behind the farthest place.
const PLACE_MASK: u32 = 0x1fff;
const _: () = assert!(FARTHEST + 256 * 8 <= PLACE_MASK);

const PROTO_SHIFT: u32 = 16;
const LATER_SHIFT: u32 = 24;
const LATER: u64 = 1 << LATER_SHIFT;
const FIRST_SHIFT: u32 = 25;
const FIRST: u64 = 1 << FIRST_SHIFT;
const MALFORMED: u64 = 1 << 26;
const ID_SHIFT: u32 = 32;

impl Walked {
    /// No step from a header at `offset` of a type `proto`.
    #[inline(always)]
    pub fn nowhere(offset: u32, proto: u8) -> Self {
        Self(u64::from(offset & 0xffff) | u64::from(proto) << PROTO_SHIFT)
    }

    /// Unpacks the result of a function call.
    #[inline(always)]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Packs it for one.
    #[inline(always)]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Start of the transport header, from the start of the frame.
    #[inline(always)]
    pub fn transport(self) -> u32 {
        // The walk ends before; the mask is for the verifier, to which a comparison would be one more
        // state.
        self.0 as u32 & PLACE_MASK
    }

    /// Protocol of the payload; the extension itself if the chain is longer than we walk.
    #[inline(always)]
    pub fn proto(self) -> u8 {
        (self.0 >> PROTO_SHIFT) as u8
    }

    /// What the fragment header says.
    #[inline(always)]
    pub fn fragmentation(self) -> Fragmentation {
        Fragmentation::new((self.0 >> LATER_SHIFT) as u16 & 1, (self.0 >> FIRST_SHIFT) as u32 & 1)
    }

    /// Identification in the fragment header.
    #[inline(always)]
    pub fn id(self) -> u32 {
        (self.0 >> ID_SHIFT) as u32
    }

    /// An extension header is cut off, or leads nowhere.
    #[inline(always)]
    pub fn is_malformed(self) -> bool {
        self.0 & MALFORMED != 0
    }
}

/// Walks from the extension header at `offset`, whose type is `proto`.
#[inline(always)]
pub fn walk<P: Packet>(packet: &mut P, offset: u32, proto: u8) -> Walked {
    let mut place = offset;
    let mut proto = proto;
    let mut seen = 0;
    for _ in 0..extension::MAX {
        if !is_extension(proto) || seen & LATER != 0 {
            break;
        }
        if place > FARTHEST {
            seen |= MALFORMED;
            break;
        }
        ensure(packet, place + extension::FRAGMENT_LEN);
        let Some(header) = at::<[u8; extension::FRAGMENT_LEN as usize]>(packet, place) else {
            seen |= MALFORMED;
            break;
        };
        let header = header.cast::<u8>();
        let length = u32::from(field::<u8>(header, 1));
        place += match proto {
            extension::FRAGMENT => {
                seen |= fragment_bits(header);
                extension::FRAGMENT_LEN
            }
            extension::AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        proto = field(header, 0);
    }
    Walked(Walked::nowhere(place, proto).0 | seen)
}

#[inline(always)]
fn fragment_bits(header: *const u8) -> u64 {
    let offset = u16::from_be(field(header, 2));
    let id = u64::from(field::<u32>(header, 4)) << ID_SHIFT;
    if offset & ipv6::OFFSET_MASK != 0 {
        id | LATER
    } else if offset & ipv6::MORE != 0 {
        id | FIRST
    } else {
        0
    }
}
