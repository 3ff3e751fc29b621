// SPDX-License-Identifier: Apache-2.0
//! What the first fragment of a datagram leaves behind for the others, which carry no ports.

use crate::abi_struct;

abi_struct! {
    /// A fragmented datagram, as every one of its fragments names it (RFC 791, RFC 8200 4.5).
    pub struct FragmentKey<A> = (16, 40) {
        /// Source address.
        pub src: A,
        /// Destination address.
        pub dst: A,
        /// Identification; the IPv4 field is zero-extended. Network byte order.
        pub id: u32,
        /// IP protocol number.
        pub proto: u8,
        /// Reserved; 0.
        pub pad: [u8; 3],
    }
}

abi_struct! {
    /// The ports of the datagram, with which its other fragments find the flow.
    pub struct Fragment = 16 {
        /// When the first fragment was seen, `CLOCK_MONOTONIC` in ns.
        pub seen_ns: u64,
        /// Source port, network byte order.
        pub src_port: u16,
        /// Destination port, network byte order.
        pub dst_port: u16,
        /// Reserved; 0.
        pub pad: u32,
    }
}

/// How long later fragments may follow their first one: Linux's `ipfrag_time`, in ns.
pub const FRAGMENT_TIMEOUT_NS: u64 = 30_000_000_000;
