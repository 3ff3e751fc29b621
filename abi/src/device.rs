// SPDX-License-Identifier: Apache-2.0
//! What the programs know of an interface they are attached to.

use crate::abi_struct;

/// Bits of [`Device::flags`].
pub mod device_flags {
    /// Packets may be redirected past the host's stack from and to this interface.
    pub const FAST: u32 = 1 << 0;
}

abi_struct! {
    /// The host side of a local pod's veth, keyed by its ifindex.
    pub struct Device = 8 {
        /// Bits of [`device_flags`].
        pub flags: u32,
        /// MTU in bytes.
        pub mtu: u32,
    }
}
