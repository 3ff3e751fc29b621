// SPDX-License-Identifier: Apache-2.0
//! Refusals: a client of a service without backends, or of a port it does not have, is told at once,
//! by a TCP reset, an SCTP ABORT or with "port unreachable" (RFC 792, RFC 4443 3.1).

use pintle_abi::{addr::proto, counter::Hook, drop_reason::DropReason};

use crate::{
    abort,
    checksum::Difference,
    family::Family,
    hooks::{Entrance, Step},
    icmp::is_error,
    kernel::now_ns,
    maps::REFUSALS,
    packet::{Headers, Packet, Refused, Shape, at, field, set_at},
    report, reset,
    wire::{ethernet, icmp, udp},
};

/// Length of a window of the budget: 2^27 ns, about an eighth of a second.
const WINDOW_SHIFT: u32 = 27;
/// Answers for each CPU and window; beyond it the client times out, as on any router (RFC 1812 4.3.2.8).
const ANSWERS: u64 = 1_000;
/// How much transport header an answer quotes (RFC 792).
const QUOTED_TRANSPORT: u32 = udp::LEN;
/// Longest quote, in words of 4 bytes: what bounds the loop over it.
const MAX_QUOTED_WORDS: u32 = 32;

/// Whether the client is told that its packet was dropped for this reason.
#[inline(always)]
pub fn is_answered(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::Refused | DropReason::UnknownPort | DropReason::UnsupportedProtocol
    )
}

/// The reason behind the number in [`Step::argument`].
#[inline(always)]
fn answered(reason: u32) -> DropReason {
    const UNKNOWN_PORT: u32 = DropReason::UnknownPort as u32;
    const UNSUPPORTED: u32 = DropReason::UnsupportedProtocol as u32;
    match reason {
        UNKNOWN_PORT => DropReason::UnknownPort,
        UNSUPPORTED => DropReason::UnsupportedProtocol,
        _ => DropReason::Refused,
    }
}

/// Answers a packet that is dropped for a reason, if the budget allows. The reason is the argument
/// of the step that led here.
#[inline(always)]
pub fn refuse<E: Entrance, F: Family, P: Packet>(packet: &mut P, reason: u32) -> Step {
    let reason = answered(reason);
    let answered = F::parse(packet, ethernet::LEN, Shape::Any)
        .headers()
        .ok_or(Refused)
        .and_then(|headers| answer(packet, &headers));
    let (reason, action) = match answered {
        Ok(()) => (reason, back::<E>(packet)),
        Err(Refused) => (DropReason::RefusedSilently, Step::DROP),
    };
    report::dropped(E::HOOK, reason);
    action
}

/// Where the answer goes: to where the packet came from.
#[inline(always)]
fn back<E: Entrance>(packet: &impl Packet) -> Step {
    match E::HOOK {
        Hook::FromPod | Hook::ToPod => Step::deliver(packet.ifindex()),
        Hook::FromNet | Hook::Xdp => Step::send(packet.ifindex()),
        Hook::ToNet => Step::receive(packet.ifindex()),
    }
}

/// Turns the packet into the answer to it.
#[inline(always)]
fn answer<F: Family, P: Packet>(packet: &mut P, headers: &Headers<F>) -> Result<(), Refused> {
    if headers.fragmentation.is_later() || !within_budget() {
        return Err(Refused);
    }
    // An error about an error would never end (RFC 1122 3.2.2).
    if headers.proto == F::ICMP && is_error(packet, headers) {
        return Err(Refused);
    }
    if headers.proto == proto::TCP {
        return reset::answer(packet, headers);
    }
    if headers.proto == proto::SCTP {
        return abort::answer(packet, headers);
    }
    let end = headers.transport + QUOTED_TRANSPORT;
    let quoted = end - ethernet::LEN;
    if packet.len() < end || quoted > MAX_QUOTED_WORDS * 4 {
        return Err(Refused);
    }
    packet.truncate(end)?;
    packet.grow(F::MIN_HEADER_LEN + icmp::LEN)?;
    packet.pull(end + F::MIN_HEADER_LEN + icmp::LEN)?;
    let pseudo =
        F::write_answer_header(packet, headers.tuple.dst, headers.tuple.src, icmp::LEN + quoted)?;
    let start = ethernet::LEN + F::MIN_HEADER_LEN;
    let (kind, code) = F::port_unreachable();
    let type_code = u16::from_ne_bytes([kind, code]);
    set_at(packet, start, type_code)?;
    set_at(packet, start + icmp::CHECKSUM, 0_u16)?;
    set_at(packet, start + 4, 0_u32)?;
    let sum = pseudo.word(u32::from(type_code)).and(sum_quote(packet, start + icmp::LEN, quoted));
    // The checksum of a field that is all ones before the change: a sum from nothing.
    set_at(packet, start + icmp::CHECKSUM, sum.apply(u16::MAX))
}

/// Sum of the quoted packet, whose length is a multiple of 4 as every header's is.
#[inline(always)]
fn sum_quote(packet: &impl Packet, start: u32, len: u32) -> Difference {
    let mut sum = Difference::NONE;
    let mut offset = 0;
    for _ in 0..MAX_QUOTED_WORDS {
        if offset >= len {
            break;
        }
        let Some(word) = at::<u32>(packet, start + offset) else { break };
        sum = sum.word(field(word.cast(), 0));
        offset += 4;
    }
    sum
}

/// Takes one answer from this CPU's budget.
#[inline(always)]
fn within_budget() -> bool {
    let Some(state) = REFUSALS.get(0) else { return false };
    // SAFETY: the element is this CPU's own, and lives as long as the map.
    let [window, used] = unsafe { &mut *state };
    let current = now_ns() >> WINDOW_SHIFT;
    if *window != current {
        *window = current;
        *used = 0;
    }
    *used += 1;
    *used <= ANSWERS
}
