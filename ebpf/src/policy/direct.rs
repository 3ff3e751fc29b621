// SPDX-License-Identifier: Apache-2.0
//! Connections that are not translated, at a pod's interface: judged, and tracked so that their replies
//! pass.

use pintle_abi::{
    addr::proto,
    counter::Counter,
    drop_reason::DropReason,
    flow::{Flow, flow_flags},
};

use super::{
    End, Occasion, epoch,
    orientation::{Sender, sender},
    own::{ask_own, is_from_node, own_end, own_epoch},
};
use crate::{
    family::{Family, Transport},
    flow,
    hooks::Entrance,
    kernel::{IfPresent, now_ns},
    packet::{Headers, Packet},
    report,
};

/// Judges a packet of a connection that is not translated.
#[inline(always)]
pub fn judge<E: Entrance, F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
    transport: Transport,
) -> Result<(), DropReason> {
    let place = match flow::look_up(transport, &headers.tuple) {
        None => Place::Free,
        Some((flow, _)) if flow.flags & flow_flags::KERNEL != 0 => return Ok(()),
        Some((flow, sender)) if flow.flags & flow_flags::DIRECT == 0 => {
            // A service that is gone has left its alias; a main entry is another connection's.
            let left = flow.flags & flow_flags::ALIAS != 0 && sender == End::Client;
            if left { Place::Free } else { Place::Taken }
        }
        Some((flow, sender)) => {
            let first = flow::is_first_segment(headers);
            if !(first && flow::is_over(flow, headers.proto, now_ns())) {
                match proceed::<E, F, P>(packet, headers, flow, sender) {
                    Err(reason) if !may_begin::<E, F>(headers, flow, sender) => return Err(reason),
                    Ok(()) => return Ok(()),
                    Err(_) => {}
                }
            }
            Place::Free
        }
    };
    // From here on the verifier does not tell what there was before.
    let free = packet.veil(u32::from(place == Place::Free)) != 0;
    let place = if free { Place::Free } else { Place::Taken };
    begin::<E, F, P>(packet, headers, transport, place)
}

/// Whether a denied packet of a connection may be the first of another: its sender was never allowed to
/// be the server of this one.
#[inline(always)]
fn may_begin<E: Entrance, F: Family>(headers: &Headers<F>, flow: &Flow<F>, sender: End) -> bool {
    sender == End::Server
        && own_epoch::<E>(sender, flow.egress_epoch, flow.ingress_epoch) == 0
        && (flow::is_first_segment(headers) || headers.proto == proto::UDP)
}

/// A packet of a known connection.
#[inline(always)]
fn proceed<E: Entrance, F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
    flow: &mut Flow<F>,
    sender: End,
) -> Result<(), DropReason> {
    let epoch = epoch();
    let admitted = flow.flags & flow_flags::HOST != 0 && own_end::<E>(sender) == End::Server;
    if !admitted {
        let judged = own_epoch::<E>(sender, flow.egress_epoch, flow.ingress_epoch);
        let occasion = match Occasion::of(judged) {
            Occasion::New if may_begin::<E, F>(headers, flow, sender) => Occasion::Guess,
            occasion => occasion,
        };
        ask_own::<E, F>(packet, headers, sender, occasion)?;
    }
    match own_end::<E>(sender) {
        End::Client => flow.egress_epoch = epoch,
        End::Server => flow.ingress_epoch = epoch,
    }
    flow::seen_direct::<E, F>(flow, sender, headers, packet);
    Ok(())
}

/// Whether a connection may have the entry of its tuple.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    Taken,
}

/// A packet of a connection that is not tracked yet.
#[inline(always)]
fn begin<E: Entrance, F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
    transport: Transport,
    place: Place,
) -> Result<(), DropReason> {
    let guess = sender(headers);
    // Before the maps are read: what changes meanwhile is judged again.
    let epoch = epoch();
    if is_from_node::<E>(packet) {
        if guess == Sender::Client && place == Place::Free {
            track::<E, F, P>(packet, headers, transport, (End::Client, flow_flags::HOST, epoch));
        }
        return Ok(());
    }
    let datagram = headers.proto == proto::UDP;
    let likely = if guess == Sender::Server { End::Server } else { End::Client };
    // What looks like an answer may be a datagram that nobody has asked for.
    let is_clear = guess == Sender::Client || guess == Sender::Server && !datagram;
    let occasion = if is_clear { Occasion::New } else { Occasion::Guess };
    let sender = match ask_own::<E, F>(packet, headers, likely, occasion) {
        Ok(()) => likely,
        Err(reason) if is_clear => return Err(reason),
        Err(_) => {
            let other = if datagram { End::Client } else { End::Server };
            ask_own::<E, F>(packet, headers, other, Occasion::New)?;
            if datagram {
                // Tracked, it would let in what its pod does not allow.
                return Ok(());
            }
            other
        }
    };
    if place == Place::Free {
        track::<E, F, P>(packet, headers, transport, (sender, 0, epoch));
    }
    Ok(())
}

/// Writes the entry of a connection whose first packet this end sends, allowed at an epoch.
#[inline(always)]
fn track<E: Entrance, F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
    transport: Transport,
    (sender, flags, epoch): (End, u16, u32),
) {
    let (key, source_first) = headers.tuple.canonical();
    let (other, client_first) = match sender {
        End::Client => (headers.tuple, source_first),
        End::Server => (headers.tuple.reverse(), 1 - source_first),
    };
    let client = own_end::<E>(sender) == End::Client;
    let mut flow = Flow {
        last_seen_ns: 0,
        packets: 0,
        bytes: 0,
        other,
        service: 0,
        backend: 0,
        generation: 0,
        client_ifindex: if client { packet.ifindex() } else { 0 },
        flags: flow_flags::DIRECT | flags | flow::first_flag(client_first),
        forward: 0,
        reply: 0,
        egress_epoch: if client { epoch } else { 0 },
        ingress_epoch: if client { 0 } else { epoch },
    };
    flow::seen_direct::<E, F>(&mut flow, sender, headers, packet);
    let attempt = crate::connect::Attempt::Thorough;
    let written = flow::insert::<E, F>(transport, &key, &flow, IfPresent::Replace, attempt).is_ok();
    report::count(E::HOOK, if written { Counter::NewFlow } else { Counter::Untracked });
}
