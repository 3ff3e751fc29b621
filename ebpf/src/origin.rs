// SPDX-License-Identifier: Apache-2.0
//! Whose traffic a packet is: a local pod's, as `detectLocalMode` defines it, or somebody else's.

use pintle_abi::{device::device_flags, settings::detect};

use crate::{family::Family, maps, packet::Packet};

/// Whether a packet with this source is a local pod's.
#[inline(always)]
pub fn is_pod<F: Family>(packet: &impl Packet, src: F) -> bool {
    let Some(settings) = maps::settings() else { return false };
    // Both answers are computed, and neither is branched for: see `Ordered`.
    let by_address = src.is_within(F::pods(settings)) as u32;
    let device = maps::DEVICES.get(&packet.ifindex());
    // SAFETY: an element stays readable while the program runs (RCU).
    let flags = device.map_or(0, |device| unsafe { (*device).flags });
    let by_interface = (flags & device_flags::POD) / device_flags::POD;
    let is_by_address = u32::from(settings.detect == detect::ADDRESS);
    packet.veil(by_address * is_by_address + by_interface * (1 - is_by_address)) != 0
}
