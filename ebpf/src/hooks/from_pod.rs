// SPDX-License-Identifier: Apache-2.0
//! `from_pod`: traffic that leaves a local pod.
//!
//! Packets to a service address are translated to a backend, replies of a local backend back to the
//! service address. Both go straight to the other pod when the whole flow may skip the host's stack.

use pintle_abi::{
    addr::Tuple,
    counter::{Counter, Hook},
    drop_reason::DropReason,
    flow::{Flow, flow_flags},
};

use super::Step;
use crate::{
    family::{Family, Transport, Version},
    flow::{self, Attempt, Found, Resumed},
    fragment, held, icmp,
    kernel::now_ns,
    lb, maps,
    nat::{self, Hop},
    packet::{Headers, Packet, Parsed, Shape},
    reject, report,
    wire::ethernet,
};

/// A packet that leaves a pod.
#[inline(always)]
pub fn handle<F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    match F::parse(packet, ethernet::LEN, Shape::Plain) {
        Parsed::Headers(headers) if headers.proto == F::ICMP => Step::ICMP,
        Parsed::Headers(headers) => conclude(match known(packet, &headers) {
            Some(result) => result,
            None => dial(packet, &headers, Attempt::Common),
        }),
        Parsed::Unusual => Step::UNUSUAL,
        Parsed::Foreign => pass(),
    }
}

/// The same for fragments, IP options and extension headers; new connections are a step of their
/// own. The argument of the step that led here is 0 if the packet may be a fragment that is not noted yet.
#[inline(always)]
pub fn unusual<F: Family, P: Packet>(packet: &mut P, again: u32) -> Step {
    let Some(headers) = F::parse(packet, ethernet::LEN, Shape::Any).headers() else {
        return pass();
    };
    if headers.proto == F::ICMP {
        return Step::ICMP;
    }
    // The other step has noted the ports of a first fragment, and deals with the later ones.
    if !headers.fragmentation.is_whole() && (again == 0 || headers.fragmentation.is_later()) {
        return Step::RELEASE;
    }
    known(packet, &headers).map_or(Step::CONNECT, conclude)
}

/// A fragment: a first one leaves its ports to the later ones, and those that came before it go on.
#[inline(always)]
pub fn release<F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let Some(mut headers) = F::parse(packet, ethernet::LEN, Shape::Any).headers() else {
        return pass();
    };
    if !fragment::resolve(&mut headers) {
        return Step::CONNECT;
    }
    if headers.fragmentation.is_later() {
        return known(packet, &headers).map_or(Step::CONNECT, conclude);
    }
    held::release(packet, &headers)
}

/// A packet of a tracked connection; `None` if it is none.
#[inline(always)]
fn known<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
) -> Option<Result<Step, DropReason>> {
    let transport = Transport::of(headers.proto).filter(|_| !headers.malformed)?;
    match flow::find(transport, &headers.tuple) {
        Found::FromBackend(main) => Some(reply(packet, headers, main)),
        Found::FromClient(alias) => {
            let now = now_ns();
            let main = match flow::resume(transport, headers, alias, now) {
                Resumed::Main(main) => main,
                Resumed::Over => return None,
                Resumed::Lost => return Some(Ok(Step::CONNECT)),
            };
            flow::seen_forward(main, headers, packet, now);
            let ifindex = backend_ifindex(packet, main);
            Some(forward(packet, headers, main.flags, ifindex, &alias.other))
        }
        Found::Nothing => None,
    }
}

/// A new connection that is not of the common kind, or one whose main entry was lost. Its source port has to move if another of the same
/// client has the same tuple on the backend's side (one client port, two services, one backend).
/// Tries one port at random; the step is repeated, up to the kernel's limit of tail calls, until one
/// is free. Then the packet belongs to a known connection. The argument of the step that led here is a number of [`Attempt`].
#[inline(always)]
pub fn connect<F: Family, P: Packet>(packet: &mut P, attempt: u32) -> Step {
    let Some(headers) = F::parse(packet, ethernet::LEN, Shape::Any).headers() else {
        return pass();
    };
    let attempt = match attempt == Attempt::Moved as u32 {
        true => Attempt::Moved,
        false => Attempt::Thorough,
    };
    let lost = attempt == Attempt::Thorough && !headers.malformed;
    if let Some(transport) = Transport::of(headers.proto).filter(|_| lost)
        && flow::restore(transport, &headers)
    {
        return Step::AGAIN;
    }
    conclude(dial(packet, &headers, attempt))
}

#[inline(always)]
fn dial<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    attempt: Attempt,
) -> Result<Step, DropReason> {
    let Some(frontend) = lb::find_frontend(headers) else { return Ok(pass()) };
    let frontend = frontend?;
    let Some(transport) = Transport::of(headers.proto) else {
        return Err(DropReason::UnsupportedProtocol);
    };
    let choice = lb::select(&headers.tuple, frontend)?;
    match flow::create(transport, headers, packet, &choice, attempt)? {
        Some(new) if attempt == Attempt::Common => {
            forward(packet, headers, new.flags, new.ifindex, &new.server)
        }
        Some(_) => Ok(Step::AGAIN),
        None if attempt == Attempt::Common => Ok(Step::CONNECT),
        None => Ok(Step::MOVE_PORT),
    }
}

/// ICMP that leaves a pod: an error about a tracked connection, or anything else.
#[inline(always)]
pub fn icmp<F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let Some(headers) = F::parse(packet, ethernet::LEN, Shape::Any).headers() else {
        return pass();
    };
    let handled = icmp::from_pod(packet, &headers).and_then(|action| match action {
        Some(action) => Ok(action),
        None => match lb::find_frontend(&headers) {
            None => Ok(pass()),
            Some(_) if icmp::is_error(packet, &headers) => Err(DropReason::IcmpUnknownFlow),
            Some(_) => Err(DropReason::UnsupportedProtocol),
        },
    });
    conclude(handled)
}

#[inline(always)]
fn conclude(result: Result<Step, DropReason>) -> Step {
    match result {
        Ok(step) => step,
        Err(DropReason::FragmentUnknown) => Step::HOLD,
        Err(reason) if reject::is_answered(reason) => Step::refuse(reason),
        Err(reason) => {
            report::dropped(Hook::FromPod, reason);
            Step::DROP
        }
    }
}

/// From the client to the backend.
#[inline(always)]
fn forward<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    flags: u16,
    ifindex: u32,
    server: &Tuple<F>,
) -> Result<Step, DropReason> {
    let (action, hop) = route(headers, flags, ifindex);
    nat::rewrite(packet, headers, server, hop)?;
    report::count(Hook::FromPod, Counter::Forward);
    Ok(action)
}

/// From the backend to the client. Through the stack it stays as it is until `to_pod`: the stack's
/// own conntrack would not recognize an answer from the service address.
#[inline(always)]
fn reply<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    main: &mut Flow<F>,
) -> Result<Step, DropReason> {
    let (action, hop) = route(headers, main.flags, main.client_ifindex);
    if action == Step::PASS {
        return Ok(pass());
    }
    let client = main.other.reverse();
    flow::seen_reply(main, headers, packet);
    nat::rewrite(packet, headers, &client, hop)?;
    report::count(Hook::FromPod, Counter::Reply);
    Ok(action)
}

/// Where a translated packet goes: past the stack if the flow may, through it otherwise.
///
/// A packet at the end of its life goes through the stack, which tells its sender.
#[inline(always)]
pub fn route<F: Family>(headers: &Headers<F>, flags: u16, ifindex: u32) -> (Step, Hop) {
    let fast = flags & flow_flags::HAIRPIN != 0
        || (flags & flow_flags::FAST != 0
            && headers.ttl > 1
            && maps::settings().is_some_and(|settings| settings.fast_path != 0));
    if !fast || ifindex == 0 {
        return (Step::PASS, Hop::InStack);
    }
    report::count(Hook::FromPod, Counter::Redirected);
    (Step::deliver(ifindex), Hop::Here)
}

/// The interface of a flow's backend; 0 if it has none or is gone.
#[inline(always)]
pub fn backend_ifindex<F: Family>(packet: &impl Packet, flow: &Flow<F>) -> u32 {
    if flow.flags & flow_flags::HAIRPIN != 0 {
        return packet.ifindex();
    }
    lb::backend::<F>(flow.backend)
        .filter(|backend| backend.generation == flow.generation)
        .map_or(0, |backend| backend.ifindex)
}

#[inline(always)]
fn pass() -> Step {
    report::count(Hook::FromPod, Counter::Passed);
    Step::PASS
}
