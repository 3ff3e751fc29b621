// SPDX-License-Identifier: Apache-2.0
//! How packets leave without the kernel's help. Its forwarding table takes longer to answer than all the rest
//! that XDP does, so what it says is used again for a moment.

use pintle_abi::{
    addr::Tuple,
    exit::{EXIT_SHIFT, Exit, ExitKey},
};

use crate::{
    family::Family,
    kernel::{IfPresent, now_ns},
    packet::Packet,
};

/// A connection is busy if packets follow each other within so many ns (2^24, 17 ms): then the next one
/// will use the answer, which it costs something to keep.
const BUSY_SHIFT: u32 = 24;

/// Finds how a packet of `len` bytes leaves with this tuple, and notes it there; `false` if it cannot.
/// `passed` has the bits in which now differs from when the connection was last seen.
#[inline(always)]
pub fn find<F: Family, P: Packet>(packet: &mut P, tuple: &Tuple<F>, len: u32, passed: u64) -> bool {
    let period = (now_ns() >> EXIT_SHIFT) as u32;
    let key = ExitKey { from: tuple.src, to: tuple.dst, ifindex: packet.ifindex() };
    if let Some(known) = F::exits().get(&key) {
        // SAFETY: an element stays readable while the program runs (RCU).
        let known = unsafe { &*known };
        if known.period == period && len <= known.mtu {
            return packet.take_exit(known);
        }
    }
    let Some(found) = packet.find_exit(tuple.src, tuple.dst, len) else { return false };
    if passed >> BUSY_SHIFT == 0 {
        // Without room the next packet asks again.
        let _ = F::exits().insert(&key, &Exit { period, ..found }, IfPresent::Replace);
    }
    packet.take_exit(&found)
}
