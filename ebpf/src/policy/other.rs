// SPDX-License-Identifier: Apache-2.0
//! Protocols without ports, ICMP among them: they follow the rules that name no port.

use pintle_abi::{
    drop_reason::DropReason,
    flow::{flow_flags, is_expired},
    policy::{ICMP_TIMEOUT_NS, OTHER_TIMEOUT_NS, OtherFlow, OtherKey},
};

use super::{
    End, Occasion, epoch,
    own::{ask_own, is_from_node, own_end},
};
use crate::{
    family::Family,
    hooks::Entrance,
    icmp,
    kernel::{IfPresent, now_ns},
    packet::{Headers, Packet, read},
    wire::icmp::TYPE,
};

/// What a packet of such a protocol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It asks for an answer, or nobody knows.
    Question,
    /// It answers.
    Answer,
    /// It is an error about another packet.
    Error,
    /// Without it no address on the link can be found.
    Neighbour,
}

/// What a packet is; `None` if it is too short to say.
#[inline(always)]
pub fn kind<F: Family, P: Packet>(packet: &P, headers: &Headers<F>) -> Option<Kind> {
    if headers.proto != F::ICMP {
        return Some(Kind::Question);
    }
    let [icmp_type, _code] = read::<[u8; 2]>(packet, headers.transport + TYPE)?;
    Some(F::kind(icmp_type))
}

/// Judges a packet of a protocol without ports.
#[inline(always)]
pub fn judge<E: Entrance, F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
) -> Result<(), DropReason> {
    if headers.fragmentation.is_later() {
        return follow::<E, F, P>(packet, headers);
    }
    let kind = kind::<F, P>(packet, headers).ok_or(DropReason::Malformed)?;
    if kind == Kind::Neighbour || kind == Kind::Error && icmp::is_about_tracked(packet, headers) {
        return Ok(());
    }
    let icmp = headers.proto == F::ICMP;
    if kind == Kind::Answer || !icmp {
        match known::<F>(headers, End::Server) {
            Some(flow) => return allow::<E, F, P>(packet, headers, flow, End::Server),
            None if kind == Kind::Answer && !is_from_node::<E>(packet) => {
                return ask_own::<E, F>(packet, headers, End::Server, Occasion::Again);
            }
            None => {}
        }
    }
    let from_node = is_from_node::<E>(packet);
    if !from_node {
        ask_own::<E, F>(packet, headers, End::Client, Occasion::Again)?;
    }
    if kind == Kind::Question {
        remember::<E, F>(headers, if from_node { flow_flags::HOST } else { 0 });
    }
    Ok(())
}

/// Whether a packet answers what this node has asked; it may leave a pod that nothing is known of.
#[inline(always)]
pub fn answers_node<F: Family>(headers: &Headers<F>) -> bool {
    known::<F>(headers, End::Server)
        .is_some_and(|flow| flow.flags & u32::from(flow_flags::HOST) != 0)
}

/// A later fragment: it shares the fate of its first, which has left an entry if it was allowed.
#[inline(always)]
fn follow<E: Entrance, F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
) -> Result<(), DropReason> {
    for sender in [End::Client, End::Server] {
        if let Some(flow) = known::<F>(headers, sender) {
            return allow::<E, F, P>(packet, headers, flow, sender);
        }
    }
    if is_from_node::<E>(packet) { Ok(()) } else { Err(DropReason::FragmentUnknown) }
}

#[inline(always)]
fn key<F: Family>(headers: &Headers<F>, sender: End) -> OtherKey<F> {
    let (src, dst) = (headers.tuple.src, headers.tuple.dst);
    let (client, server) = match sender {
        End::Client => (src, dst),
        End::Server => (dst, src),
    };
    OtherKey { client, server, proto: u32::from(headers.proto) }
}

/// What is known of the conversation of a packet that this end sends.
#[inline(always)]
fn known<F: Family>(headers: &Headers<F>, sender: End) -> Option<&'static mut OtherFlow> {
    let flow = F::other_flows().get(&key(headers, sender))?;
    // SAFETY: an element stays readable and writable while the program runs (RCU).
    let flow = unsafe { &mut *flow };
    let timeout = if headers.proto == F::ICMP { ICMP_TIMEOUT_NS } else { OTHER_TIMEOUT_NS };
    (!is_expired(now_ns(), flow.last_seen_ns, timeout)).then_some(flow)
}

/// A packet of a known conversation: its pod is asked once for each epoch.
#[inline(always)]
fn allow<E: Entrance, F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
    flow: &mut OtherFlow,
    sender: End,
) -> Result<(), DropReason> {
    let epoch = epoch();
    let end = own_end::<E>(sender);
    let admitted = end == End::Server && flow.flags & u32::from(flow_flags::HOST) != 0;
    let judged = match end {
        End::Client => &mut flow.egress_epoch,
        End::Server => &mut flow.ingress_epoch,
    };
    if *judged != epoch {
        if !admitted {
            ask_own::<E, F>(packet, headers, sender, Occasion::Again)?;
        }
        *judged = epoch;
    }
    flow.last_seen_ns = now_ns();
    Ok(())
}

/// Remembers who began a conversation, so that its answers pass.
#[inline(always)]
fn remember<E: Entrance, F: Family>(headers: &Headers<F>, flags: u16) {
    let (epoch, now) = (epoch(), now_ns());
    let client = own_end::<E>(End::Client) == End::Client;
    let key = key(headers, End::Client);
    if let Some(flow) = F::other_flows().get(&key) {
        // SAFETY: an element stays readable and writable while the program runs (RCU).
        let flow = unsafe { &mut *flow };
        flow.last_seen_ns = now;
        if client {
            flow.egress_epoch = epoch;
        } else {
            flow.ingress_epoch = epoch;
            flow.flags = u32::from(flags);
        }
        return;
    }
    let flow = OtherFlow {
        last_seen_ns: now,
        egress_epoch: if client { epoch } else { 0 },
        ingress_epoch: if client { 0 } else { epoch },
        flags: u32::from(flags),
        pad: 0,
    };
    // An LRU map always has room, unless the kernel is out of memory; then answers are judged alone.
    let _ = F::other_flows().insert(&key, &flow, IfPresent::Replace);
}
