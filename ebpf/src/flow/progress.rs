// SPDX-License-Identifier: Apache-2.0
//! What packets leave in the entries of their connections: the states they lead to, counts, time.

use pintle_abi::{
    counter::Hook,
    flow::{Flow, seen},
};

use crate::{
    hooks::Entrance,
    kernel::now_ns,
    packet::{Headers, Packet},
    policy::End,
    wire::tcp::flag,
};

/// Notes a packet from the client, and in the alias that the main entry is told of it.
#[inline(always)]
pub fn seen_forward<A>(
    alias: &mut Flow<A>,
    main: &mut Flow<A>,
    headers: &Headers<A>,
    packet: &impl Packet,
    now: u64,
) {
    let bits = after(main.forward, headers);
    (alias.last_seen_ns, alias.forward) = (now, bits);
    if bits != main.forward {
        main.forward = bits;
    }
    // The interface of a pod changes when another pod takes its address.
    if main.client_ifindex != packet.ifindex() {
        main.client_ifindex = packet.ifindex();
    }
    touch(main, packet.len(), now);
}

/// Takes back a packet that was counted: it starts again from the headers, or goes no further.
#[inline(always)]
pub fn uncount<A>(main: &mut Flow<A>, packet: &impl Packet) {
    main.packets = main.packets.wrapping_sub(1);
    main.bytes = main.bytes.wrapping_sub(u64::from(packet.len()));
}

/// Notes a packet from the backend.
#[inline(always)]
pub fn seen_reply<A>(main: &mut Flow<A>, headers: &Headers<A>, packet: &impl Packet, now: u64) {
    let bits = after(main.reply, headers) | closes_first(main, headers);
    if bits != main.reply {
        main.reply = bits;
    }
    touch(main, packet.len(), now);
}

/// [`seen::CLOSES`] if a packet from the backend is its FIN, and the client has sent none: by
/// arithmetic, because each branch would be a state more for the verifier.
#[inline(always)]
fn closes_first<A>(main: &Flow<A>, headers: &Headers<A>) -> u8 {
    const { assert!(seen::CLOSES == flag::FIN << 4 && seen::CLOSES == seen::FIN << 2) };
    (headers.tcp_flags & flag::FIN) << 4 & !((main.forward & seen::FIN) << 2)
}

/// Notes a packet of a connection that is not translated. If both ends are pods of this node, two hooks
/// see it; it is counted by the first.
#[inline(always)]
pub fn seen_direct<E: Entrance, A>(
    flow: &mut Flow<A>,
    sender: End,
    headers: &Headers<A>,
    packet: &impl Packet,
) {
    let arrives = E::HOOK as u32 == Hook::ToPod as u32;
    let elsewhere = match sender {
        End::Client => {
            flow.forward = after(flow.forward, headers);
            flow.egress_epoch
        }
        End::Server => {
            flow.reply = after(flow.reply, headers) | closes_first(flow, headers);
            flow.ingress_epoch
        }
    };
    flow.last_seen_ns = now_ns();
    if !arrives || elsewhere == 0 {
        flow.packets += 1;
        flow.bytes += u64::from(packet.len());
    }
}

#[inline(always)]
fn touch<A>(main: &mut Flow<A>, len: u32, now: u64) {
    main.last_seen_ns = now;
    main.packets += 1;
    main.bytes += u64::from(len);
}

/// The bits of one direction after a packet. A RST counts until its sender goes on, which shows that
/// somebody else sent it.
#[inline(always)]
fn after<A>(before: u8, headers: &Headers<A>) -> u8 {
    before & !seen::RST | observed(headers)
}

#[inline(always)]
pub(super) fn observed<A>(headers: &Headers<A>) -> u8 {
    let flags = headers.tcp_flags;
    seen::ANY
        | bit(flags & flag::SYN == 0, seen::DATA)
        | bit(flags & flag::FIN != 0, seen::FIN)
        | bit(flags & flag::RST != 0, seen::RST)
}

#[inline(always)]
fn bit(condition: bool, bit: u8) -> u8 {
    if condition { bit } else { 0 }
}
