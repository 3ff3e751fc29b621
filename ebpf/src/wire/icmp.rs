// SPDX-License-Identifier: Apache-2.0
//! ICMP (RFC 792) and ICMPv6 (RFC 4443). Offsets are from the start of the header.

/// Length of the header of an error; the quoted packet follows.
pub const LEN: u32 = 8;
/// The type, then the code.
pub const TYPE: u32 = 0;
/// The checksum.
pub const CHECKSUM: u32 = 2;

/// ICMP types.
pub mod v4 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Code of "unreachable": port.
    pub const CODE_PORT: u8 = 3;
}

/// ICMPv6 types.
pub mod v6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Parameter problem, the last of the errors that we translate (2 packet too big, 3 time exceeded).
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Code of "unreachable": port.
    pub const CODE_PORT: u8 = 4;
}
