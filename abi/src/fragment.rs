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

abi_struct! {
    /// A place for a fragment that came before its first one; the frame lies at the same index of
    /// the map of frames.
    pub struct Held<A> = (40, 64) {
        /// One of [`held_state`].
        pub state: u64,
        /// When it came, `CLOCK_MONOTONIC` in ns.
        pub seen_ns: u64,
        /// Its datagram.
        pub key: crate::fragment::FragmentKey<A>,
        /// Length of the frame in bytes.
        pub len: u32,
        /// Reserved; 0.
        pub pad: u32,
    }
}

/// Values of [`Held::state`].
pub mod held_state {
    /// Nothing is held here.
    pub const FREE: u64 = 0;
    /// A CPU is filling or emptying the place.
    pub const BUSY: u64 = 1;
    /// A fragment waits for its first one.
    pub const WAITING: u64 = 2;
}

/// How many fragments of a family are held at most. Their maps are not pinned: they go with the
/// programs, which hold nothing for longer than [`HELD_TIMEOUT_NS`].
pub const HELD_ENTRIES: u32 = 64;

/// Longest frame that is held.
pub const HELD_FRAME_LEN: usize = 2048;

/// How many fragments of one datagram are held at most.
pub const HELD_EACH: u32 = 8;

/// How long a fragment waits for its first one, in ns. Both were sent at once.
pub const HELD_TIMEOUT_NS: u64 = 1_000_000_000;
