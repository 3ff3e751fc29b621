// SPDX-License-Identifier: Apache-2.0
//! How packets leave without the kernel's help. Its forwarding table takes longer to answer than all the rest
//! that XDP does, so what it says is used again for a moment; and as the kernel does not see these packets,
//! one in each second shows it that their neighbour is in use.

use pintle_abi::{
    addr::Tuple,
    exit::{EXIT_SHIFT, Exit, KnownExit, NEIGHBOUR_SHIFT},
    map,
};

use crate::{family::Family, lb, packet::Packet};

/// Finds how a packet of `len` bytes leaves with this tuple, and notes it there; `false` if it is to take the
/// way of tc.
#[inline(always)]
pub fn find<F: Family, P: Packet>(packet: &mut P, tuple: &Tuple<F>, len: u32, now: u64) -> bool {
    let (from, to, arrived_at) = (tuple.src, tuple.dst, packet.ifindex());
    let Some(known) = F::exits().get(place(from, to, arrived_at)) else { return false };
    // SAFETY: the element is this CPU's own, and lives as long as the map.
    let known = unsafe { &mut *known };
    let period = (now >> EXIT_SHIFT) as u32;
    let is_same = known.from == from && known.to == to && known.arrived_at == arrived_at;
    if !is_same || known.period != period {
        // What a switch floods is for another node, and says nothing about ours.
        if !packet.is_for_host() {
            return false;
        }
        let is_shown = is_shown(known.period, period, is_same);
        let exit = packet.find_exit(from, to, len).unwrap_or_default();
        *known = KnownExit { from, to, arrived_at, period, exit };
        if !is_shown {
            return false;
        }
    }
    let Exit { ifindex, mtu, .. } = known.exit;
    ifindex != 0 && len <= mtu.into() && packet.take_exit(&known.exit)
}

/// Whether the kernel has seen a packet in this second. Of others whose place it is, too, that is not known:
/// they are all shown in the second's first period.
#[inline(always)]
fn is_shown(before: u32, period: u32, is_same: bool) -> bool {
    const IN_SECOND: u32 = (1 << NEIGHBOUR_SHIFT) - 1;
    before >> NEIGHBOUR_SHIFT == period >> NEIGHBOUR_SHIFT && (is_same || period & IN_SECOND != 0)
}

/// Where the answer is kept.
#[inline(always)]
fn place<F: Family>(from: F, to: F, arrived_at: u32) -> u32 {
    const { assert!(map::EXITS_V4.entries.is_power_of_two()) };
    const { assert!(map::EXITS_V4.entries == map::EXITS_V6.entries) };
    let fold = |address: F| address.words().into_iter().fold(0, |all, word| all ^ word);
    let both = u64::from(fold(from)) << 32 | u64::from(fold(to));
    lb::mix(both ^ u64::from(arrived_at)) as u32 & (map::EXITS_V4.entries - 1)
}
