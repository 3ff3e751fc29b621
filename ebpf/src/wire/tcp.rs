// SPDX-License-Identifier: Apache-2.0
//! TCP (RFC 9293 3.1). Offsets are from the start of the header.

/// Shortest header.
pub const MIN_LEN: u32 = 20;
/// Source port.
pub const SRC_PORT: u32 = 0;
/// Destination port.
pub const DST_PORT: u32 = 2;
/// Sequence number.
pub const SEQUENCE: u32 = 4;
/// Acknowledgment number.
pub const ACKNOWLEDGMENT: u32 = 8;
/// Length of the header in words of 4 bytes, in the upper half; the flags follow.
pub const OFFSET: u32 = 12;
/// The flags.
pub const FLAGS: u32 = 13;
/// The window.
pub const WINDOW: u32 = 14;
/// The checksum; the urgent pointer follows.
pub const CHECKSUM: u32 = 16;

/// Bits of the flags byte.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}
