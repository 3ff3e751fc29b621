// SPDX-License-Identifier: Apache-2.0
//! Addresses and the tuple of a connection, both in network byte order.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::{abi_struct, plain::Plain};

/// IP protocol numbers (IANA "Assigned Internet Protocol Numbers").
pub mod proto {
    /// Internet Control Message Protocol, RFC 792.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol, RFC 9293.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol, RFC 768.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// Stream Control Transmission Protocol, RFC 9260.
    pub const SCTP: u8 = 132;
}

/// An IPv4 address: the four bytes as they stand in a packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V4(pub u32);

/// An IPv6 address: the sixteen bytes as they stand in a packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V6(pub [u32; 4]);

// SAFETY: a transparent wrapper of integers.
#[cfg(feature = "user")]
unsafe impl aya::Pod for V4 {}
// SAFETY: a transparent wrapper of integers.
#[cfg(feature = "user")]
unsafe impl aya::Pod for V6 {}
// SAFETY: a transparent wrapper of integers.
unsafe impl Plain for V4 {}
// SAFETY: a transparent wrapper of integers.
unsafe impl Plain for V6 {}

impl From<Ipv4Addr> for V4 {
    fn from(addr: Ipv4Addr) -> Self {
        Self(u32::from_ne_bytes(addr.octets()))
    }
}

impl From<V4> for Ipv4Addr {
    fn from(addr: V4) -> Self {
        Self::from(addr.0.to_ne_bytes())
    }
}

impl From<Ipv6Addr> for V6 {
    fn from(addr: Ipv6Addr) -> Self {
        let octets = addr.octets();
        let word =
            |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Self([word(0), word(4), word(8), word(12)])
    }
}

impl From<V6> for Ipv6Addr {
    fn from(addr: V6) -> Self {
        let mut octets = [0; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip(addr.0) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        Self::from(octets)
    }
}

abi_struct! {
    /// Source and destination of a packet. The protocol is implied by the map that is keyed by it.
    pub struct Tuple<A> = (12, 36) {
        /// Source address.
        pub src: A,
        /// Destination address.
        pub dst: A,
        /// Source port, network byte order.
        pub src_port: u16,
        /// Destination port, network byte order.
        pub dst_port: u16,
    }
}

/// A total order of addresses, of no meaning but that everybody uses the same.
pub trait Ordered: Copy + Eq {
    /// Whether this address stands first.
    fn precedes(self, other: Self) -> bool;
}

impl Ordered for V4 {
    #[inline(always)]
    fn precedes(self, other: Self) -> bool {
        self.0 < other.0
    }
}

impl Ordered for V6 {
    #[inline(always)]
    fn precedes(self, other: Self) -> bool {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        pair(a, b) < pair(e, f) || (pair(a, b) == pair(e, f) && pair(c, d) < pair(g, h))
    }
}

impl<A: Ordered> Tuple<A> {
    /// The key of a connection for packets of both directions, and whether the source stands first.
    #[inline(always)]
    pub fn canonical(&self) -> (Self, bool) {
        let first =
            self.src.precedes(self.dst) || (self.src == self.dst && self.src_port <= self.dst_port);
        (if first { *self } else { self.reverse() }, first)
    }
}

impl<A: Copy> Tuple<A> {
    /// The tuple of a packet that travels in the opposite direction.
    #[inline(always)]
    pub fn reverse(&self) -> Self {
        Self { src: self.dst, dst: self.src, src_port: self.dst_port, dst_port: self.src_port }
    }
}
