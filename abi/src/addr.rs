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

/// A total order of addresses, of no meaning but that everybody uses the same. Without branches: one
/// would double what the verifier has to follow from there.
pub trait Ordered: Copy + Eq {
    /// 1 if the address is below another, or equal to it and `borrow` is 1; else 0.
    fn precedes(self, other: Self, borrow: u64) -> u64;
    /// The address itself if the mask is all ones, the other if it is 0.
    fn choose(self, other: Self, mask: u64) -> Self;
}

impl Ordered for V4 {
    #[inline(always)]
    fn precedes(self, other: Self, borrow: u64) -> u64 {
        u64::from(self.0).wrapping_sub(u64::from(other.0)).wrapping_sub(borrow) >> 63
    }

    #[inline(always)]
    fn choose(self, other: Self, mask: u64) -> Self {
        Self(other.0 ^ ((self.0 ^ other.0) & mask as u32))
    }
}

impl Ordered for V6 {
    #[inline(always)]
    fn precedes(self, other: Self, borrow: u64) -> u64 {
        let half = |a: Self, i: usize| u64::from(a.0[i]) << 32 | u64::from(a.0[i + 1]);
        let low = borrowed(half(self, 2), half(other, 2), borrow);
        borrowed(half(self, 0), half(other, 0), low)
    }

    #[inline(always)]
    fn choose(self, other: Self, mask: u64) -> Self {
        let word = |i: usize| other.0[i] ^ ((self.0[i] ^ other.0[i]) & mask as u32);
        Self([word(0), word(1), word(2), word(3)])
    }
}

/// What a subtraction of wide integers borrows from the next higher limb (Hacker's Delight 2-16): 1 if
/// `a` is below `b`, or equal to it and `borrow` is 1; else 0.
#[inline(always)]
pub fn borrowed(a: u64, b: u64, borrow: u64) -> u64 {
    let difference = a.wrapping_sub(b).wrapping_sub(borrow);
    ((!a & b) | ((!a | b) & difference)) >> 63
}

impl<A: Ordered> Tuple<A> {
    /// The key of a connection for packets of both directions, and 1 if the source stands first in
    /// it, else 0.
    #[inline(always)]
    pub fn canonical(&self) -> (Self, u16) {
        let ports = borrowed(u64::from(self.dst_port), u64::from(self.src_port), 0);
        let swapped = self.dst.precedes(self.src, ports);
        // All ones if the source stands first.
        let mask = swapped.wrapping_sub(1);
        let ports = u32::from(self.src_port ^ self.dst_port);
        let first = u32::from(self.dst_port) ^ (ports & mask as u32);
        let key = Self {
            src: self.src.choose(self.dst, mask),
            dst: self.dst.choose(self.src, mask),
            src_port: first as u16,
            dst_port: (first ^ ports) as u16,
        };
        (key, 1 - swapped as u16)
    }
}

impl<A: Copy> Tuple<A> {
    /// The tuple of a packet that travels in the opposite direction.
    #[inline(always)]
    pub fn reverse(&self) -> Self {
        Self { src: self.dst, dst: self.src, src_port: self.dst_port, dst_port: self.src_port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair of endpoints of a small set, in both families.
    fn check<A: Ordered + PartialEq + core::fmt::Debug>(addresses: [A; 4]) {
        let ports = [0, 1, 80_u16, u16::MAX];
        for (src, dst) in addresses.iter().flat_map(|a| addresses.iter().map(move |b| (*a, *b))) {
            for (src_port, dst_port) in ports.iter().flat_map(|a| ports.map(move |b| (*a, b))) {
                let tuple = Tuple { src, dst, src_port, dst_port };
                let (key, first) = tuple.canonical();
                let (other, other_first) = tuple.reverse().canonical();
                assert_eq!(key, other, "both directions have one key");
                let expected = if first == 1 { tuple } else { tuple.reverse() };
                assert_eq!(key, expected, "the key is the tuple or its reverse");
                let symmetric = src == dst && src_port == dst_port;
                assert!(symmetric || first != other_first, "one of two directions stands first");
            }
        }
    }

    #[test]
    fn both_directions_of_a_connection_have_one_key() {
        check([V4(0), V4(1), V4(0x8000_0000), V4(u32::MAX)]);
        check([V6([0; 4]), V6([0, 0, 0, 1]), V6([1, 0, 0, 0]), V6([u32::MAX; 4])]);
    }
}
