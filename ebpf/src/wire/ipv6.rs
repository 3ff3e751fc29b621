// SPDX-License-Identifier: Apache-2.0
//! IPv6 (RFC 8200 3 and 4). Offsets are from the start of the header.

/// Length of the fixed header.
pub const LEN: u32 = 40;
/// Version, traffic class, flow label.
pub const VERSION: u32 = 0;
/// Payload length.
pub const PAYLOAD_LEN: u32 = 4;
/// Next header.
pub const NEXT_HEADER: u32 = 6;
/// Hop limit.
pub const HOP_LIMIT: u32 = 7;
/// Source address.
pub const SRC: u32 = 8;
/// Destination address.
pub const DST: u32 = 24;

/// Extension headers that may precede the payload.
pub mod extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Authentication (RFC 4302): its length is in words of 4 bytes, not 8.
    pub const AUTHENTICATION: u8 = 51;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
    /// How many of them we walk.
    pub const MAX: u32 = 8;
    /// Length of a fragment header, and the shortest of any.
    pub const FRAGMENT_LEN: u32 = 8;

    /// Whether a "next header" is one of them.
    #[inline(always)]
    pub fn is_extension(next_header: u8) -> bool {
        matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
    }
}

/// Mask of the fragment offset in the fragment header, host byte order.
pub const OFFSET_MASK: u16 = 0xfff8;
/// "More fragments" in the fragment header, host byte order.
pub const MORE: u16 = 0x0001;
