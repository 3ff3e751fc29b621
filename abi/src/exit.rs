// SPDX-License-Identifier: Apache-2.0
//! Where the node's routes lead, as it was found a moment ago.

use crate::abi_struct;

abi_struct! {
    /// A question to the kernel's forwarding table.
    pub struct ExitKey<A> = (12, 36) {
        /// Source address.
        pub from: A,
        /// Destination address.
        pub to: A,
        /// The device at which packets come in.
        pub ifindex: u32,
    }
}

abi_struct! {
    /// Its answer.
    pub struct Exit = 24 {
        /// The device by which packets leave; 0 if they cannot without the kernel's help.
        pub ifindex: u32,
        /// Longest packet that may, in bytes.
        pub mtu: u32,
        /// When it was given, in periods of [`EXIT_SHIFT`].
        pub period: u32,
        /// Link-layer addresses as a frame has them: who it is for, then who it is from.
        pub macs: [u16; 6],
    }
}

/// An answer holds to the end of its period: 2^27 ns, about an eighth of a second.
pub const EXIT_SHIFT: u32 = 27;

/// Once in so many periods (8, about a second) a packet takes the way of tc: there the kernel sees that the
/// neighbour is in use, and finds out whether it still is where it was.
pub const NEIGHBOUR_SHIFT: u32 = 3;
