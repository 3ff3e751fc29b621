// SPDX-License-Identifier: Apache-2.0
//! UDP (RFC 768). Offsets are from the start of the header.

/// Length of the header.
pub const LEN: u32 = 8;
/// The checksum; 0 means none in IPv4.
pub const CHECKSUM: u32 = 6;
