// SPDX-License-Identifier: Apache-2.0
//! What the programs are told of an interface.

use std::net::{Ipv4Addr, Ipv6Addr};

use pintle_abi::{
    addr::{V4, V6},
    device::{Device, device_flags},
};

/// An interface as the programs see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Packets may be redirected past the host's stack from and to it.
    pub fast: bool,
    /// What comes from it is of a local pod.
    pub pod: bool,
    /// Its driver takes frames from XDP at other devices, once it runs XDP itself.
    pub takes_frames: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Its link-layer address.
    pub mac: [u8; 6],
    /// The address that packets leave it with, if it has one.
    pub v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl From<&DeviceRecord> for Device {
    fn from(record: &DeviceRecord) -> Self {
        let bit = |wanted: bool, bit: u32| if wanted { bit } else { 0 };
        Self {
            flags: bit(record.fast, device_flags::FAST)
                | bit(record.pod, device_flags::POD)
                | bit(record.takes_frames, device_flags::TAKES_FRAMES),
            mtu: record.mtu,
            v4: record.v4.map(V4::from).unwrap_or_default(),
            v6: record.v6.map(V6::from).unwrap_or_default(),
            mac: record.mac,
            pad: 0,
        }
    }
}
