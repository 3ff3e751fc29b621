// SPDX-License-Identifier: Apache-2.0
//! What happens at the hooks where connections begin: `from_pod`, `from_net` and `to_net`.
//!
//! Packets to a service address are translated to a backend, replies back to the service address,
//! each on the way that [`super::way`] finds.

use pintle_abi::{
    addr::proto,
    counter::{Counter, Hook},
    drop_reason::DropReason,
    flow::Flow,
    service::backend_state,
    socket::socket_scope,
};

use super::{
    Entrance, Step,
    early::is_early,
    way::{self, Way, backend_ifindex},
};
use crate::{
    connect::{self, Attempt, Created},
    family::{Family, Version},
    flow::{self, Found, Resumed},
    fragment, held, icmp,
    kernel::now_ns,
    lb, maps,
    packet::{Fragmentation, Headers, Packet, Parsed, Shape},
    policy::{self, End, standing},
    reject, report,
    wire::ethernet,
};

/// A packet at the hook.
#[inline(always)]
pub fn handle<E: Entrance, F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    // What a switch floods, or a promiscuous device overhears, is for another node to translate.
    if E::HOOK as u32 == Hook::FromNet as u32 && !packet.is_for_host() {
        return pass::<E>();
    }
    let parsed = F::parse(packet, ethernet::LEN, Shape::Plain);
    let standing = match &parsed {
        Parsed::Headers(headers) => policy::standing::<E, F>(packet, headers.tuple.src),
        Parsed::Unusual | Parsed::Foreign => standing::FREE,
    };
    match parsed {
        Parsed::Headers(_) if standing == standing::DOUBTFUL => Step::JUDGE,
        Parsed::Headers(headers) if headers.proto == F::ICMP => Step::ICMP,
        Parsed::Headers(headers) if headers.proto == proto::SCTP => Step::SCTP,
        Parsed::Headers(headers) => {
            conclude::<E>(match known::<E, F, P>(packet, &headers, Shape::Plain) {
                Some(result) => result,
                None => dial::<E, F, P>(packet, &headers, standing),
            })
        }
        Parsed::Unusual => Step::UNUSUAL,
        Parsed::Foreign => pass::<E>(),
    }
}

/// The same for fragments, IP options and extension headers; new connections are a step of their
/// own. The argument of the step that led here is 0 if the packet may be a fragment that is not noted yet.
#[inline(always)]
pub fn unusual<E: Entrance, F: Family, P: Packet>(packet: &mut P, again: u32) -> Step {
    let Some(headers) = F::parse(packet, ethernet::LEN, Shape::Any).headers() else {
        return pass::<E>();
    };
    if again == 0 && policy::standing::<E, F>(packet, headers.tuple.src) == standing::DOUBTFUL {
        return Step::JUDGE;
    }
    if headers.proto == F::ICMP {
        return Step::ICMP;
    }
    if headers.proto == proto::SCTP {
        return Step::SCTP;
    }
    if !headers.fragmentation.is_whole() && (again == 0 || headers.fragmentation.is_later()) {
        // The other step has noted the ports of a first fragment, and deals with the later ones.
        return Step::RELEASE;
    }
    match known::<E, F, P>(packet, &headers, Shape::Any) {
        Some(result) => conclude::<E>(result),
        None if is_passing::<E>(packet) => pass::<E>(),
        None => Step::CONNECT,
    }
}

/// A fragment: a first one leaves its ports to the later ones, and those that came before it go on.
#[inline(always)]
pub fn release<E: Entrance, F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let Some(mut headers) = F::parse(packet, ethernet::LEN, Shape::Any).headers() else {
        return pass::<E>();
    };
    let resolved = fragment::resolve(&mut headers);
    let passing = is_passing::<E>(packet);
    if !resolved {
        // The stack sends fragments in their order; what it sends without its first one is not ours.
        return if is_leaving::<E>() { pass::<E>() } else { Step::CONNECT };
    }
    if headers.fragmentation.is_later() {
        return match known::<E, F, P>(packet, &headers, Shape::Any) {
            Some(result) => conclude::<E>(result),
            None if passing => pass::<E>(),
            None => Step::CONNECT,
        };
    }
    if is_leaving::<E>() { Step::AGAIN } else { held::release::<E, F, P>(packet, &headers) }
}

/// A packet of a tracked connection; `None` if it is none.
#[inline(always)]
pub(super) fn known<E: Entrance, F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    shape: Shape,
) -> Option<Result<Step, DropReason>> {
    let transport = E::transport(headers.proto).filter(|_| !headers.malformed)?;
    match flow::find(transport, &headers.tuple) {
        Found::FromBackend(main) => Some(reply::<E, F, P>(packet, headers, main)),
        Found::FromClient(alias) => {
            if is_passing::<E>(packet) {
                return None;
            }
            let now = now_ns();
            let main = match flow::resume::<E, F>(transport, headers, alias, now) {
                Resumed::Main(main) => main,
                Resumed::Over => return None,
                Resumed::Lost => return Some(Ok(Step::RESTORE)),
            };
            let server = alias.other;
            flow::seen_forward(alias, main, headers, packet, now);
            let ifindex = backend_ifindex(packet, main);
            let way = way::to_backend::<E>(headers.ttl, main.flags, ifindex).taken::<E>(packet);
            if policy::is_stale::<E, F>(main, End::Client, &way) {
                return Some(Ok(Step::JUDGE));
            }
            let translated = E::rewrite(packet, headers, &server, way.hop);
            report::count(E::HOOK, Counter::Forward);
            Some(translated.map(|()| way.step))
        }
        Found::Kernel(_) => Some(Ok(Step::RESTORE)),
        Found::Direct(flow, sender) => direct::<E, F, P>(packet, headers, flow, sender, shape),
        Found::Nothing => None,
    }
}

/// A packet of a connection that is not translated; `None` if it may begin another. One of an unusual
/// shape is left to the step for such connections.
#[inline(always)]
fn direct<E: Entrance, F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
    flow: &mut Flow<F>,
    sender: End,
    shape: Shape,
) -> Option<Result<Step, DropReason>> {
    if !is_from_pod::<E>() || flow::is_first_segment(headers) {
        return None;
    }
    if shape == Shape::Any {
        return Some(Ok(Step::DIRECT));
    }
    if policy::is_stale::<E, F>(flow, sender, &Way::PASS) {
        return Some(Ok(Step::DIRECT));
    }
    flow::seen_direct::<E, F>(flow, sender, headers, packet);
    Some(Ok(pass::<E>()))
}

/// A connection whose main entry was lost, or one of the kernel's own connection tracking.
#[inline(always)]
pub fn restore<E: Entrance, F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let headers = F::parse(packet, ethernet::LEN, Shape::Any).headers();
    let Some(mut headers) = headers.filter(|headers| !headers.malformed) else {
        return Step::CONNECT;
    };
    let resolved = fragment::resolve(&mut headers);
    let Some(transport) = E::transport(headers.proto).filter(|_| resolved) else {
        return Step::CONNECT;
    };
    if let Found::Kernel(flow) = flow::find(transport, &headers.tuple) {
        let stays = flow::stays_with_kernel(flow, &headers);
        return if stays { pass::<E>() } else { Step::CONNECT };
    }
    if flow::restore::<E, F>(transport, &headers) { Step::AGAIN } else { Step::CONNECT }
}

/// A new connection that is not of the common kind.
///
/// Its source port has to move if another has the same tuple on the backend's side (one client port,
/// two services, one backend; or two masqueraded clients). Each run of the step tries one port; it is
/// repeated, up to the kernel's limit of tail calls, until one is free. Then the packet belongs to a
/// known connection. The argument of the step that led here is a number of [`Attempt`].
#[inline(always)]
pub fn connect<E: Entrance, F: Family, P: Packet>(packet: &mut P, attempt: u32) -> Step {
    let Some(mut headers) = F::parse(packet, ethernet::LEN, Shape::Any).headers() else {
        return pass::<E>();
    };
    // Once its first one was seen a later fragment is a packet like any other: of a datagram to a
    // port that is no service's nothing may be missing.
    if headers.fragmentation.is_later() && fragment::resolve(&mut headers) {
        headers.fragmentation = Fragmentation::WHOLE;
    }
    conclude::<E>(dial_thoroughly::<E, F, P>(packet, &headers, Attempt::of(attempt)))
}

/// A new connection of the common kind; any other is a step of its own.
#[inline(always)]
fn dial<E: Entrance, F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    standing: u32,
) -> Result<Step, DropReason> {
    if is_passing::<E>(packet) {
        return Ok(pass::<E>());
    }
    let Some(found) = lb::find_frontend::<E, F>(headers) else {
        return match dialled_by_socket::<E, F, P>(packet, headers) {
            Some(new) => begin::<E, F, P>(packet, headers, &new),
            None if standing == standing::FREE => Ok(pass::<E>()),
            None => Ok(Step::DIRECT),
        };
    };
    let frontend = found?.frontend;
    let Some(transport) = E::transport(headers.proto) else {
        return Err(DropReason::UnsupportedProtocol);
    };
    // What a client outside dials is mostly masqueraded, and so never of the common kind.
    if !is_from_pod::<E>() || !lb::is_plain(frontend) || is_taken_over() {
        return Ok(Step::CONNECT);
    }
    let choice = lb::select(&headers.tuple, frontend)?;
    let Some(new) = connect::create::<E, F, P>(transport, headers, packet, &choice)? else {
        return Ok(Step::CONNECT);
    };
    begin::<E, F, P>(packet, headers, &new)
}

/// The first packet of a new connection.
#[inline(always)]
fn begin<E: Entrance, F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    new: &Created<F>,
) -> Result<Step, DropReason> {
    let (flags, ifindex) = (packet.veil(new.flags.into()) as u16, packet.veil(new.ifindex));
    let way = way::to_backend::<E>(headers.ttl, flags, ifindex).taken::<E>(packet);
    if policy::current_epoch() != new.allowed_at {
        return Ok(Step::JUDGE);
    }
    E::rewrite(packet, headers, &new.server, way.hop)?;
    report::count(E::HOOK, Counter::Forward);
    Ok(way.step)
}

/// A connection that dials no service because its pod's socket was translated when it did.
#[inline(always)]
fn dialled_by_socket<E: Entrance, F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
) -> Option<Created<F>> {
    let begins = headers.proto == proto::UDP || flow::is_first_segment(headers);
    if !(is_from_pod::<E>() && begins && is_socket_of_pods_translated()) || headers.malformed {
        return None;
    }
    connect::adopt::<E, F, P>(E::transport(headers.proto)?, headers, packet)
}

#[inline(always)]
fn is_socket_of_pods_translated() -> bool {
    maps::settings().is_some_and(|settings| settings.socket_scope == socket_scope::ALL)
}

#[inline(always)]
pub(super) fn dial_thoroughly<E: Entrance, F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    attempt: Attempt,
) -> Result<Step, DropReason> {
    let Some(found) = lb::find_frontend::<E, F>(headers) else { return Ok(leave::<E>(packet)) };
    let found = found?;
    let Some(transport) = E::transport(headers.proto) else {
        return Err(DropReason::UnsupportedProtocol);
    };
    // Kube-proxy may have opened it: then the kernel's own connection tracking knows it.
    if is_taken_over() && headers.proto != proto::UDP && !flow::is_first_segment(headers) {
        return Ok(pass::<E>());
    }
    let frontend = lb::for_client::<E, F>(packet, headers, found)?;
    let choice = lb::choose(headers, frontend)?;
    if is_early::<E>() && choice.backend.state == backend_state::LOCAL {
        return Ok(pass::<E>());
    }
    connect::create_thoroughly::<E, F, P>(transport, headers, packet, &choice, attempt)?;
    Ok(Step::dialled(packet.veil(attempt as u32)))
}

/// ICMP at the hook: an error about a tracked connection, or anything else.
#[inline(always)]
pub fn icmp<E: Entrance, F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let Some(headers) = F::parse(packet, ethernet::LEN, Shape::Any).headers() else {
        return pass::<E>();
    };
    let handled = icmp::translate::<E, F, P>(packet, &headers).and_then(|step| match step {
        Some(step) => Ok(step),
        None if is_passing::<E>(packet) => Ok(pass::<E>()),
        None => match lb::find_frontend::<E, F>(&headers) {
            Some(_) if icmp::is_error(packet, &headers) => Err(DropReason::IcmpUnknownFlow),
            Some(found) => found.and(Err(DropReason::UnsupportedProtocol)),
            None => Ok(leave::<E>(packet)),
        },
    });
    conclude::<E>(handled)
}

#[inline(always)]
pub(super) fn conclude<E: Entrance>(result: Result<Step, DropReason>) -> Step {
    match result {
        Ok(step) => step,
        Err(DropReason::FragmentUnknown) if !is_leaving::<E>() => Step::HOLD,
        Err(DropReason::NoSourcePort) => Step::MOVE_PORT,
        Err(DropReason::NoMasqueradePort) => Step::MOVE_MASQUERADE,
        Err(reason) if reject::is_answered(reason) => Step::refuse(reason),
        Err(reason) => Step::dropped::<E>(reason),
    }
}

/// From the backend to the client.
#[inline(always)]
fn reply<E: Entrance, F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    main: &mut Flow<F>,
) -> Result<Step, DropReason> {
    let way = way::to_client::<E>(packet, headers.ttl, main.flags, main.client_ifindex);
    if !way.translated {
        let stale = policy::is_stale::<E, F>(main, End::Server, &way);
        return Ok(if stale { Step::JUDGE } else { pass::<E>() });
    }
    let way = way.taken::<E>(packet);
    if policy::is_stale::<E, F>(main, End::Server, &way) {
        return Ok(Step::JUDGE);
    }
    let client = main.other.reverse();
    flow::seen_reply(main, headers, packet, now_ns());
    E::rewrite(packet, headers, &client, way.hop)?;
    report::count(E::HOOK, Counter::Reply);
    Ok(way.step)
}

/// Whether packets come from a local pod here.
#[inline(always)]
fn is_from_pod<E: Entrance>() -> bool {
    E::HOOK as u32 == Hook::FromPod as u32
}

/// Whether packets leave the node here.
#[inline(always)]
fn is_leaving<E: Entrance>() -> bool {
    E::HOOK as u32 == Hook::ToNet as u32
}

/// Whether a packet leaves the node and is not its own: it was dealt with where it came in.
#[inline(always)]
pub(super) fn is_passing<E: Entrance>(packet: &impl Packet) -> bool {
    is_leaving::<E>() && !packet.is_from_host()
}

#[inline(always)]
fn is_taken_over() -> bool {
    maps::settings().is_some_and(|settings| settings.take_over != 0)
}

/// A packet that is not to be translated: on to the next program, unless policies have to be asked.
#[inline(always)]
pub(super) fn leave<E: Entrance>(packet: &impl Packet) -> Step {
    if is_from_pod::<E>() && policy::pod_standing(packet.ifindex()) != standing::FREE {
        return Step::DIRECT;
    }
    pass::<E>()
}

#[inline(always)]
pub(super) fn pass<E: Entrance>() -> Step {
    report::count(E::HOOK, Counter::Passed);
    Step::PASS
}
