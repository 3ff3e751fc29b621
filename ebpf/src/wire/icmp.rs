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
    /// Answers: of echo, timestamp, information and address mask, each behind its question.
    pub const ANSWERS: [u8; 4] = [0, 14, 16, 18];
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
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// First and last message of multicast listener discovery (RFC 2710), which neighbour discovery
    /// needs on a bridge that listens to it.
    pub const LISTENER_QUERY: u8 = 130;
    /// See above.
    pub const LISTENER_DONE: u8 = 132;
    /// Its second version's report (RFC 3810).
    pub const LISTENER_REPORT: u8 = 143;
    /// First and last message of neighbour discovery (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// See above.
    pub const REDIRECT: u8 = 137;
}
