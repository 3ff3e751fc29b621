// SPDX-License-Identifier: Apache-2.0
//! `to_pod`: traffic that reaches a local pod through the host's stack.
//!
//! Replies of a backend get the service address back; so do the packets quoted in ICMP errors.

use pintle_abi::{
    addr::proto,
    counter::{Counter, Hook},
    drop_reason::DropReason,
    flow::{Flow, flow_flags},
};

use super::{Step, ToPod};
use crate::{
    family::{Family, Transport, Version},
    flow::{self, Found},
    fragment,
    hooks::sctp::is_tracked,
    icmp,
    kernel::now_ns,
    nat::{self, Hop},
    packet::{Headers, Packet, Parsed, Shape},
    policy::{self, End, standing},
    report, sctp,
    wire::ethernet,
};

/// A packet that is about to enter a pod.
#[inline(always)]
pub fn handle<F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    begin::<F, P>(packet, Shape::Plain)
}

/// The same for fragments, IP options and extension headers.
#[inline(always)]
pub fn unusual<F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    begin::<F, P>(packet, Shape::Any)
}

#[inline(always)]
fn begin<F: Family, P: Packet>(packet: &mut P, shape: Shape) -> Step {
    match F::parse(packet, ethernet::LEN, shape) {
        Parsed::Headers(headers) if headers.proto == F::ICMP => Step::ICMP,
        Parsed::Headers(headers) if headers.proto == proto::SCTP => Step::SCTP,
        Parsed::Headers(mut headers) => conclude(translate(packet, &mut headers)),
        Parsed::Unusual => Step::UNUSUAL,
        Parsed::Foreign => pass(),
    }
}

#[inline(always)]
fn translate<F: Family, P: Packet>(
    packet: &mut P,
    headers: &mut Headers<F>,
) -> Result<Step, DropReason> {
    let Some(transport) = Transport::common(headers.proto) else { return Ok(leave(packet)) };
    if headers.malformed || !fragment::resolve(headers) {
        return Ok(leave(packet));
    }
    reply(packet, transport, headers)
}

/// SCTP that is about to enter a pod. A fragment cannot be translated, see [`super::sctp`].
#[inline(always)]
pub fn sctp<F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let Some(headers) = sctp::parse::<F, P>(packet).filter(|headers| !headers.malformed) else {
        return leave(packet);
    };
    conclude(if headers.fragmentation.is_whole() || !is_tracked(&headers) {
        reply(packet, Transport::Sctp, &headers)
    } else {
        Err(DropReason::FragmentUnknown)
    })
}

#[inline(always)]
fn reply<F: Family, P: Packet>(
    packet: &mut P,
    transport: Transport,
    headers: &Headers<F>,
) -> Result<Step, DropReason> {
    if policy::epoch() != 0 {
        return judged(packet, transport, headers);
    }
    match flow::find(transport, &headers.tuple) {
        Found::FromBackend(main) => translate_reply(packet, transport, headers, main),
        _ => Ok(pass()),
    }
}

/// The same while policies hold.
#[inline(always)]
fn judged<F: Family, P: Packet>(
    packet: &mut P,
    transport: Transport,
    headers: &Headers<F>,
) -> Result<Step, DropReason> {
    let Some((flow, sender)) = flow::look_up(transport, &headers.tuple) else {
        return Ok(leave(packet));
    };
    let direct = flow.flags & flow_flags::DIRECT != 0;
    if flow.flags & flow_flags::KERNEL != 0 {
        return Ok(pass());
    }
    let epoch = match sender {
        End::Client => flow.ingress_epoch,
        End::Server => flow.egress_epoch,
    };
    if epoch != policy::epoch() || direct && flow::is_first_segment(headers) {
        return Ok(if direct { Step::DIRECT } else { Step::JUDGE });
    }
    if direct {
        flow::seen_direct::<ToPod, F>(flow, sender, headers, packet);
    } else if flow.flags & flow_flags::ALIAS == 0 && sender == End::Server {
        return translate_reply(packet, transport, headers, flow);
    }
    Ok(pass())
}

#[inline(always)]
fn translate_reply<F: Family, P: Packet>(
    packet: &mut P,
    transport: Transport,
    headers: &Headers<F>,
    main: &mut Flow<F>,
) -> Result<Step, DropReason> {
    let client = main.other.reverse();
    flow::seen_reply(main, headers, packet, now_ns());
    match transport {
        Transport::Sctp => nat::rewrite_sctp(packet, headers, &client, Hop::InStack)?,
        Transport::Tcp | Transport::Udp => nat::rewrite(packet, headers, &client, Hop::InStack)?,
    }
    report::count(Hook::ToPod, Counter::Reply);
    Ok(Step::PASS)
}

/// ICMP that is about to enter a pod.
#[inline(always)]
pub fn icmp<F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let Some(headers) = F::parse(packet, ethernet::LEN, Shape::Any).headers() else {
        return pass();
    };
    let done = icmp::to_pod(packet, &headers);
    conclude(done.map(|done| if done { Step::PASS } else { leave(packet) }))
}

#[inline(always)]
fn conclude(result: Result<Step, DropReason>) -> Step {
    result.unwrap_or_else(Step::dropped::<ToPod>)
}

/// A packet that is not to be translated: into the pod, unless policies have to be asked.
#[inline(always)]
fn leave(packet: &impl Packet) -> Step {
    let free = policy::pod_standing(packet.ifindex()) == standing::FREE;
    if free { pass() } else { Step::DIRECT }
}

#[inline(always)]
fn pass() -> Step {
    report::count(Hook::ToPod, Counter::Passed);
    Step::PASS
}
