// SPDX-License-Identifier: Apache-2.0
//! What the programs know of an interface they are attached to.

use crate::abi_struct;

/// Bits of [`Device::flags`].
pub mod device_flags {
    /// Packets may be redirected past the host's stack from and to this interface.
    pub const FAST: u32 = 1 << 0;
    /// What comes from this interface is of a local pod (`detectLocalMode` by interface).
    pub const POD: u32 = 1 << 1;
    /// Its driver takes frames without a buffer of the kernel that came in at another device.
    pub const TAKES_FRAMES: u32 = 1 << 2;
}

abi_struct! {
    /// The host side of a local pod's veth, an uplink or loopback, keyed by its ifindex.
    pub struct Device = 36 {
        /// Bits of [`device_flags`].
        pub flags: u32,
        /// MTU in bytes.
        pub mtu: u32,
        /// Its own address of the family, that stands for masqueraded clients; 0 if it has none.
        pub v4: crate::addr::V4,
        /// The same for IPv6.
        pub v6: crate::addr::V6,
        /// Its link-layer address.
        pub mac: [u8; 6],
        /// Reserved; 0.
        pub pad: u16,
    }
}
