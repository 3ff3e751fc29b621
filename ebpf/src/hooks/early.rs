// SPDX-License-Identifier: Apache-2.0
//! `xdp`: what comes from the network and leaves for it again, before the kernel has a buffer for it.
//!
//! Packets of connections to other nodes' backends, and of their answers, are what they are for
//! [`super::entrance`], but nothing of them may be changed before it is sure that they leave from here.
//! Whatever else there is (local backends, ICMP, SCTP, fragments, options, ends of life, packets that are
//! too long, neighbours that are not known) is left to `from_net`, untouched: its flows are the same, so a
//! connection may go now this way, now that.

use pintle_abi::{
    addr::Tuple,
    counter::{Counter, Hook},
    drop_reason::DropReason,
    flow::Flow,
};

use super::{
    Entrance, Next, Step, Xdp, entrance,
    way::{self, Way, backend_ifindex},
};
use crate::{
    clock::now_ns,
    connect::Attempt,
    exit,
    family::{Family, Transport, Version},
    flow::{self, Found, Resumed},
    lb,
    nat::{self, Hop},
    packet::{Headers, Packet, Shape, read},
    report,
    wire::ethernet,
};

/// Whether a hook comes before the kernel has a buffer for the packet.
#[inline(always)]
pub fn is_early<E: Entrance>() -> bool {
    E::HOOK as u32 == Hook::Xdp as u32
}

/// A packet at the hook.
#[inline(always)]
pub fn handle<F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let parsed = F::parse(packet, ethernet::LEN, Shape::Plain).headers();
    let Some(headers) = parsed.filter(|headers| !headers.malformed) else { return pass() };
    let Some(transport) = Xdp::transport(headers.proto) else { return pass() };
    match known(packet, &headers, transport) {
        Some(result) => entrance::conclude::<Xdp>(result),
        // What a switch floods, or a promiscuous device overhears, is for another node to translate.
        None if lb::find_frontend::<Xdp, F>(&headers).is_some() && packet.is_for_host() => {
            Step::CONNECT
        }
        None => pass(),
    }
}

/// A packet of a tracked connection; `None` if it is none.
#[inline(always)]
fn known<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    transport: Transport,
) -> Option<Result<Step, DropReason>> {
    match flow::find(transport, &headers.tuple) {
        Found::FromBackend(main) => Some(reply(packet, headers, main)),
        Found::FromClient(alias) => {
            let now = now_ns();
            let main = if flow::is_settled(alias, headers, packet, now) {
                None
            } else {
                match flow::resume::<Xdp, F>(transport, headers, alias, now) {
                    Resumed::Main(main) => Some(main),
                    Resumed::Over => return None,
                    Resumed::Lost => return Some(Ok(pass())),
                }
            };
            Some(forward(packet, headers, alias, main, now))
        }
        Found::Kernel(_) => Some(Ok(pass())),
        Found::Direct(..) | Found::Nothing => None,
    }
}

/// A packet from the client to the backend; the main entry, if it has to be told.
#[inline(always)]
fn forward<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    alias: &mut Flow<F>,
    main: Option<&mut Flow<F>>,
    now: u64,
) -> Result<Step, DropReason> {
    let ifindex = backend_ifindex(packet, alias);
    let way = way::to_backend::<Xdp>(headers.ttl, alias.flags, ifindex);
    let server = alias.other;
    if !takes(packet, headers, &way, &server, now) {
        return Ok(pass());
    }
    match main {
        Some(main) => {
            flow::seen_forward(alias, main, headers, packet, now);
            flow::settle(alias, main, packet);
        }
        None => flow::seen_settled(alias, packet),
    }
    leave(packet, headers, &server, Counter::Forward)
}

/// A packet from the backend to the client.
#[inline(always)]
fn reply<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    main: &mut Flow<F>,
) -> Result<Step, DropReason> {
    let way = way::to_client::<Xdp>(packet, headers.ttl, main.flags, main.client_ifindex);
    let (client, now) = (main.other.reverse(), now_ns());
    if !takes(packet, headers, &way, &client, now) {
        return Ok(pass());
    }
    flow::seen_reply(main, headers, packet, now);
    leave(packet, headers, &client, Counter::Reply)
}

/// Whether a packet goes its way from here, with this tuple; if not, it must stay as it is.
#[inline(always)]
fn takes<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    way: &Way,
    to: &Tuple<F>,
    now: u64,
) -> bool {
    way.step.next == Next::Send
        && !may_be_partial(packet, headers)
        && exit::find(packet, to, headers.end.wrapping_sub(ethernet::LEN), now)
}

#[inline(always)]
fn leave<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    to: &Tuple<F>,
    counter: Counter,
) -> Result<Step, DropReason> {
    Xdp::rewrite(packet, headers, to, Hop::Here)?;
    report::count(Hook::Xdp, Counter::Redirected);
    report::count(Hook::Xdp, counter);
    Ok(Step::send(0))
}

/// Whether the checksum may be one that a device was to complete, of a sender on this machine. Only the
/// kernel knows; but then it is the sum of the pseudo-header, as one in 65,536 of the others is.
#[inline(always)]
fn may_be_partial<F: Family>(packet: &impl Packet, headers: &Headers<F>) -> bool {
    let (offset, _) = nat::checksum_field(packet, headers);
    let Some(field) = read::<u16>(packet, offset) else { return true };
    let (src, dst) = (headers.tuple.src, headers.tuple.dst);
    let length = headers.end.wrapping_sub(headers.transport);
    F::pseudo_header(src, dst, length, headers.proto).add_to(0) == field
}

/// What is left to do after a step of XDP: nothing for which it has no program. That is left to tc.
#[inline(always)]
pub fn narrowed(step: Step) -> Step {
    const THOROUGH: u32 = Attempt::Thorough as u32;
    match step.next {
        Next::Pass | Next::Drop | Next::Send | Next::Refuse => step,
        Next::Connect if step.argument == THOROUGH => step,
        // The connection is known by now; without an argument it is a packet of unusual shape.
        Next::Unusual if step.argument != 0 => step,
        _ => pass(),
    }
}

#[inline(always)]
fn pass() -> Step {
    entrance::pass::<Xdp>()
}
