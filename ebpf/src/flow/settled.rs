// SPDX-License-Identifier: Apache-2.0
//! Packets of which a connection's main entry need not be told.
//!
//! A client's packet finds the alias, which knows where it goes. The main entry knows whether the connection
//! goes on, and that it is in use; it is a look-up more. So once it was told of a packet in the midst of a
//! connection, others like it do without until the end of a period, and leave their counts in the alias.

use pintle_abi::flow::{Flow, SETTLED_SHIFT, seen};

use super::{overflowed_at, progress::observed};
use crate::{
    family::Family,
    lb,
    packet::{Headers, Packet},
};

/// What is seen of a client in the midst of a connection.
const GOES_ON: u8 = seen::ANY | seen::DATA;

/// Whether the main entry has been told of a packet like this one, in this period.
#[inline(always)]
pub fn is_settled<F: Family>(
    alias: &Flow<F>,
    headers: &Headers<F>,
    packet: &impl Packet,
    now: u64,
) -> bool {
    alias.last_seen_ns >> SETTLED_SHIFT == now >> SETTLED_SHIFT
        && alias.forward == GOES_ON
        && observed(headers) == GOES_ON
        && alias.client_ifindex == packet.ifindex()
        // It may have been evicted since: that must show at once.
        && overflowed_at() < alias.last_seen_ns
        // The next datagram goes to a backend that is there.
        && lb::backend::<F>(alias.backend)
            .is_some_and(|backend| backend.generation == alias.generation)
}

/// Counts a packet of which it is not told.
#[inline(always)]
pub fn seen_settled<A>(alias: &mut Flow<A>, packet: &impl Packet) {
    alias.packets += 1;
    alias.bytes += u64::from(packet.len());
}

/// Leaves the alias' counts to the main entry, with a packet of which it is told. Like all counts of flows
/// they are as good as the network's order: two CPUs that have a client's packets at once may err.
#[inline(always)]
pub fn settle<A>(alias: &mut Flow<A>, main: &mut Flow<A>, packet: &impl Packet) {
    main.packets += alias.packets;
    main.bytes += alias.bytes;
    (alias.packets, alias.bytes) = (0, 0);
    alias.client_ifindex = packet.ifindex();
}
