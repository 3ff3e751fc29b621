// SPDX-License-Identifier: Apache-2.0
//! Ethernet II (IEEE 802.3). A tag that the device took off is not in the frame.

/// Length of the header.
pub const LEN: u32 = 14;
/// Place of the EtherType.
pub const ETHERTYPE: u32 = 12;

/// EtherTypes, in network byte order as they stand in memory.
pub mod ethertype {
    /// IPv4, RFC 894.
    pub const IPV4: u16 = 0x0800_u16.to_be();
    /// IPv6, RFC 2464.
    pub const IPV6: u16 = 0x86dd_u16.to_be();
}
