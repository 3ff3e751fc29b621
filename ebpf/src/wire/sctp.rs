// SPDX-License-Identifier: Apache-2.0
//! SCTP (RFC 9260 3). Offsets are from the start of the header.

/// Length of the common header.
pub const LEN: u32 = 12;
/// Length of the common header and of the first chunk's header: the shortest packet.
pub const MIN_LEN: u32 = 16;
/// Source port.
pub const SRC_PORT: u32 = 0;
/// Destination port.
pub const DST_PORT: u32 = 2;
/// The verification tag.
pub const TAG: u32 = 4;
/// The checksum, a CRC32c whose bytes stand in little-endian order (RFC 9260 6.8).
pub const CHECKSUM: u32 = 8;
/// Type of the first chunk; its flags and its length follow.
pub const CHUNK: u32 = 12;
/// The tag that the sender of an INIT wants to see (RFC 9260 3.3.2).
pub const INITIATE_TAG: u32 = 16;

/// Types of chunks.
pub mod chunk {
    /// Asks for an association.
    pub const INIT: u8 = 1;
    /// Answers that.
    pub const INIT_ACK: u8 = 2;
    /// Ends an association at once.
    pub const ABORT: u8 = 6;
    /// Flag of an ABORT: its tag is the one that its receiver sends (RFC 9260 8.5.1).
    pub const REFLECTED: u8 = 1;
    /// The last word of an orderly end.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}
