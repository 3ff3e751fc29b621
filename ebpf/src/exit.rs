// SPDX-License-Identifier: Apache-2.0
//! How packets leave without the kernel's help. Its forwarding table takes longer to answer than all the rest
//! that XDP does, so what it says is used again for a moment; and as the kernel does not see these packets,
//! one in each second shows it that their neighbour is in use.

use pintle_abi::{
    addr::Tuple,
    exit::{EXIT_SHIFT, Exit, ExitKey, NEIGHBOUR_SHIFT},
};

use crate::{
    family::Family,
    kernel::{IfPresent, now_ns},
    packet::Packet,
};

/// Finds how a packet of `len` bytes leaves with this tuple, and notes it there; `false` if it is to take the
/// way of tc.
#[inline(always)]
pub fn find<F: Family, P: Packet>(packet: &mut P, tuple: &Tuple<F>, len: u32) -> bool {
    let period = (now_ns() >> EXIT_SHIFT) as u32;
    let key = ExitKey { from: tuple.src, to: tuple.dst, ifindex: packet.ifindex() };
    let Some(known) = F::exits().get(&key) else {
        let found = ask(packet, tuple, len, period);
        // Without room the next packet takes the way of tc, too.
        let _ = F::exits().insert(&key, &found, IfPresent::Replace);
        return false;
    };
    // SAFETY: an element stays readable and writable while the program runs (RCU). It is written in place,
    // with what other CPUs write, too: a replaced one would be used for another key at once.
    let known = unsafe { &mut *known };
    if known.period != period {
        let is_shown = known.period >> NEIGHBOUR_SHIFT == period >> NEIGHBOUR_SHIFT;
        *known = ask(packet, tuple, len, period);
        if !is_shown {
            return false;
        }
    }
    known.ifindex != 0 && len <= known.mtu && packet.take_exit(known)
}

/// What the forwarding table says now.
#[inline(always)]
fn ask<F: Family>(packet: &impl Packet, tuple: &Tuple<F>, len: u32, period: u32) -> Exit {
    let found = packet.find_exit(tuple.src, tuple.dst, len).unwrap_or_default();
    Exit { period, ..found }
}
