// SPDX-License-Identifier: Apache-2.0
//! IPv4 (RFC 791 3.1). Offsets are from the start of the header.

/// Shortest header.
pub const MIN_LEN: u32 = 20;
/// Longest header.
pub const MAX_LEN: u32 = 60;
/// Version and header length.
pub const VERSION_IHL: u32 = 0;
/// Value of [`VERSION_IHL`] in a header without options.
pub const PLAIN: u8 = 0x45;
/// Total length.
pub const TOTAL_LEN: u32 = 2;
/// Identification.
pub const ID: u32 = 4;
/// Flags and fragment offset.
pub const FRAGMENT: u32 = 6;
/// Time to live; with [`PROTOCOL`] one 16-bit word of the checksum.
pub const TTL: u32 = 8;
/// Protocol of the payload.
pub const PROTOCOL: u32 = 9;
/// Header checksum.
pub const CHECKSUM: u32 = 10;
/// Source address.
pub const SRC: u32 = 12;
/// Destination address.
pub const DST: u32 = 16;

/// Mask of the fragment offset, host byte order.
pub const OFFSET_MASK: u16 = 0x1fff;
/// "More fragments", host byte order.
pub const MORE: u16 = 1 << MORE_SHIFT;
/// Place of that bit.
pub const MORE_SHIFT: u32 = 13;
