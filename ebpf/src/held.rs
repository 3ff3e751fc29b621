// SPDX-License-Identifier: Apache-2.0
//! Fragments that come before their first one: their frames are kept until it comes, then they start
//! anew from the hook, as later fragments of a known datagram.
//!
//! The places are sets of [`HELD_EACH`]; a datagram's fragments share one set. A place belongs to the
//! CPU that has turned its state to busy, so no frame is ever a mix of two.

use pintle_abi::{
    counter::Counter,
    drop_reason::DropReason,
    flow::is_expired,
    fragment::{
        FragmentKey, HELD_EACH, HELD_ENTRIES, HELD_FRAME_LEN, HELD_TIMEOUT_NS, Held, held_state,
    },
};

use crate::{
    family::{Family, Version},
    fragment,
    hooks::{Entrance, Step},
    kernel::{claim, now_ns},
    lb, maps,
    packet::{Headers, Packet, Refused, Shape},
    report,
    wire::ethernet,
};

const SETS: u32 = HELD_ENTRIES / HELD_EACH;

/// Keeps a fragment whose first one was not seen yet. It counts as dropped when there is no place
/// for it, or when its place is needed because its first one never came.
#[inline(always)]
pub fn hold<E: Entrance, F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let kept = match F::parse(packet, ethernet::LEN, Shape::Any).headers() {
        Some(headers) => keep::<E, F, P>(packet, &headers),
        None => Err(Refused),
    };
    match kept {
        Ok(()) => report::count(E::HOOK, Counter::Held),
        Err(Refused) => report::dropped(E::HOOK, DropReason::FragmentUnknown),
    }
    Step::DROP
}

#[inline(always)]
fn keep<E: Entrance, F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
) -> Result<(), Refused> {
    let key = fragment::key(headers);
    let now = now_ns();
    let set = first_place(&key);
    for place in 0..HELD_EACH {
        let (held, frame) = at::<F>(set + place).ok_or(Refused)?;
        let state = held.state;
        let waits = state == held_state::WAITING;
        let fresh = waits && !is_expired(now, held.seen_ns, HELD_TIMEOUT_NS);
        if fresh || !claim(&mut held.state, state, held_state::BUSY) {
            continue;
        }
        if waits {
            report::dropped(E::HOOK, DropReason::FragmentUnknown);
        }
        let saved = packet.save(frame);
        held.key = key;
        held.seen_ns = now;
        held.len = packet.len();
        // On x86 stores become visible in their order; elsewhere a torn frame fails its checksum.
        held.state = if saved.is_ok() { held_state::WAITING } else { held_state::FREE };
        return saved;
    }
    Err(Refused)
}

/// Sends the fragments that wait for this first one, each in its buffer, then goes on with it.
#[inline(always)]
pub fn release<E: Entrance, F: Family, P: Packet>(packet: &mut P, headers: &Headers<F>) -> Step {
    let key = fragment::key(headers);
    let set = first_place(&key);
    if !is_awaited::<F>(&key, set) {
        return Step::AGAIN;
    }
    let len = packet.len();
    let Some(first) = maps::FIRST_FRAME.get(0) else { return Step::AGAIN };
    let saved = packet.save(first);
    for place in 0..HELD_EACH {
        let Some((held, frame)) = at::<F>(set + place) else { break };
        if held.key != key || !claim(&mut held.state, held_state::WAITING, held_state::BUSY) {
            continue;
        }
        let sent =
            saved.and_then(|()| packet.replace(frame, held.len)).and_then(|()| packet.reinject());
        held.state = held_state::FREE;
        match sent {
            Ok(()) => report::count(E::HOOK, Counter::Released),
            Err(Refused) => report::dropped(E::HOOK, DropReason::FragmentUnknown),
        }
    }
    if saved.is_ok() && packet.replace(first, len).is_err() {
        report::dropped(E::HOOK, DropReason::RewriteFailed);
        return Step::DROP;
    }
    Step::AGAIN
}

#[inline(always)]
fn is_awaited<F: Family>(key: &FragmentKey<F>, set: u32) -> bool {
    let mut found = false;
    for place in 0..HELD_EACH {
        if let Some((held, _)) = at::<F>(set + place) {
            found |= held.state == held_state::WAITING && held.key == *key;
        }
    }
    found
}

/// A place and its frame.
#[inline(always)]
fn at<F: Family>(place: u32) -> Option<(&'static mut Held<F>, *mut [u8; HELD_FRAME_LEN])> {
    let held = F::held().get(place)?;
    // SAFETY: array elements live as long as the map; other CPUs respect the state.
    Some((unsafe { &mut *held }, F::held_frames().get(place)?))
}

/// The first place of a datagram's set.
#[inline(always)]
fn first_place<F: Family>(key: &FragmentKey<F>) -> u32 {
    let start = u64::from(key.id) << 8 | u64::from(key.proto);
    lb::scale(lb::mix(key.dst.mix(key.src.mix(start))), SETS) * HELD_EACH
}
