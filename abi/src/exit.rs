// SPDX-License-Identifier: Apache-2.0
//! Where the node's routes lead, as it was found a moment ago.

use crate::abi_struct;

abi_struct! {
    /// How packets leave without the kernel's help.
    pub struct Exit = 24 {
        /// The device by which they leave; 0 if they cannot.
        pub ifindex: u32,
        /// Longest packet that may, in bytes.
        pub mtu: u16,
        /// The link-layer address with which they come in: that of the device.
        pub host: [u16; 3],
        /// Link-layer addresses with which they leave, as a frame has them: who it is for, then who it is from.
        pub macs: [u16; 6],
    }
}

abi_struct! {
    /// A question to the kernel's forwarding table, and its answer.
    pub struct KnownExit<A> = (40, 64) {
        /// Source address.
        pub from: A,
        /// Destination address.
        pub to: A,
        /// The device at which packets come in.
        pub arrived_at: u32,
        /// When it was asked, in periods of [`EXIT_SHIFT`].
        pub period: u32,
        /// The answer.
        pub exit: Exit,
    }
}

/// An answer holds to the end of its period: 2^27 ns, about an eighth of a second.
pub const EXIT_SHIFT: u32 = 27;

/// Once in so many periods (8, about a second) a packet takes the way of tc: there the kernel sees that the
/// neighbour is in use, and finds out whether it still is where it was.
pub const NEIGHBOUR_SHIFT: u32 = 3;
