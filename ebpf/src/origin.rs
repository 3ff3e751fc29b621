// SPDX-License-Identifier: Apache-2.0
//! Whose traffic a packet is: a local pod's, as `detectLocalMode` defines it, or somebody else's.

use pintle_abi::{device::device_flags, settings::detect};

use crate::{family::Family, maps, packet::Packet};

/// Whether a packet with this source is a local pod's.
#[inline(always)]
pub fn is_pod<F: Family>(packet: &impl Packet, src: F) -> bool {
    let Some(settings) = maps::settings() else { return false };
    if settings.detect == detect::ADDRESS {
        return src.is_within(F::pods(settings)) != 0;
    }
    let Some(device) = maps::DEVICES.get(&packet.ifindex()) else { return false };
    // SAFETY: an element stays readable while the program runs (RCU).
    unsafe { (*device).flags & device_flags::POD != 0 }
}
