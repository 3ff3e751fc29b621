// SPDX-License-Identifier: Apache-2.0
//! The step in which policies are asked: of first packets, after a change, and of what looks wrong.
//!
//! What is allowed of a translated connection is noted in its entry, and the packet starts again from
//! the headers; of others it passes here. What is denied is dropped and asked again next time.

use pintle_abi::{
    addr::proto,
    counter::{Counter, Hook},
    drop_reason::DropReason,
    flow::{Flow, flow_flags},
};

use super::{
    Entrance, Next, Step, ToPod,
    way::{self, Way, backend_ifindex},
};
use crate::{
    family::{Family, Transport, Version},
    flow::{self, Found, Resumed},
    fragment,
    kernel::now_ns,
    packet::{Headers, Packet, Shape},
    policy::{
        self, End, Occasion, ask, direct, endpoint, epoch,
        other::{self, Kind},
        renew, standing,
    },
    report, sctp,
    wire::ethernet,
};

/// A packet of a translated connection, or with a doubtful source, at a hook where connections begin.
#[inline(always)]
pub fn entrance<E: Entrance, F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let Some((headers, resolved)) = read::<F, P>(packet) else { return Step::PASS };
    report::count(E::HOOK, Counter::Judged);
    if policy::standing::<E, F>(packet, headers.tuple.src) == standing::DOUBTFUL {
        return conclude::<E>(doubtful::<E, F, P>(packet, &headers, resolved));
    }
    conclude::<E>(match tracked(&headers, resolved) {
        Some(transport) => translated::<E, F, P>(packet, &headers, transport),
        None => Ok(otherwise::<E>()),
    })
}

/// A packet of a translated connection that is about to enter a pod.
#[inline(always)]
pub fn to_pod<F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let Some((headers, resolved)) = read::<F, P>(packet) else { return Step::PASS };
    report::count(Hook::ToPod, Counter::Judged);
    if let Some(transport) = tracked(&headers, resolved)
        && let Some((flow, sender)) = flow::look_up(transport, &headers.tuple)
    {
        return conclude::<ToPod>(delivered(packet, &headers, flow, sender));
    }
    Step::DIRECT
}

/// A packet that is not translated, at a pod's interface.
#[inline(always)]
pub fn direct<E: Entrance, F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    if epoch() == 0 {
        report::count(E::HOOK, Counter::Passed);
        return Step::PASS;
    }
    let Some((headers, resolved)) = read::<F, P>(packet) else { return Step::PASS };
    report::count(E::HOOK, Counter::Judged);
    conclude::<E>(untranslated::<E, F, P>(packet, &headers, resolved))
}

/// What becomes of a packet whose connection was forgotten on the way to this step.
#[inline(always)]
fn otherwise<E: Entrance>() -> Step {
    if policy::is_at_pod::<E>() { Step::DIRECT } else { Step::PASS }
}

/// The headers, and whether the ports are known if the packet is a fragment.
#[inline(always)]
fn read<F: Family, P: Packet>(packet: &mut P) -> Option<(Headers<F>, bool)> {
    let mut headers = F::parse(packet, ethernet::LEN, Shape::Any).headers()?;
    if headers.proto == proto::SCTP {
        sctp::complete(packet, &mut headers);
    }
    let resolved = fragment::resolve(&mut headers);
    Some((headers, resolved))
}

/// The transport of a packet that may be of a tracked connection.
#[inline(always)]
fn tracked<F>(headers: &Headers<F>, resolved: bool) -> Option<Transport> {
    Transport::of(headers.proto).filter(|_| resolved && !headers.malformed)
}

/// A packet that goes on from its headers: its connection is allowed.
#[inline(always)]
fn again<F>(headers: &Headers<F>) -> Step {
    let next = if headers.proto == proto::SCTP { Next::Sctp } else { Next::Unusual };
    Step { next, ..Step::AGAIN }
}

#[inline(always)]
fn conclude<E: Entrance>(result: Result<Step, DropReason>) -> Step {
    match result {
        Ok(step) => {
            if step == Step::PASS {
                report::count(E::HOOK, Counter::Passed);
            }
            step
        }
        Err(reason) => Step::dropped::<E>(reason),
    }
}

/// A packet that is not translated, at a pod's interface.
#[inline(always)]
fn untranslated<E: Entrance, F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    resolved: bool,
) -> Result<Step, DropReason> {
    if headers.malformed {
        return Err(DropReason::Malformed);
    }
    if !resolved {
        return Err(DropReason::FragmentUnknown);
    }
    match Transport::of(headers.proto) {
        Some(transport) => direct::judge::<E, F, P>(packet, headers, transport)?,
        None => other::judge::<E, F, P>(packet, headers)?,
    }
    Ok(Step::PASS)
}

/// A packet from a pod that nothing is known of, or with a source that is not the pod's.
#[inline(always)]
fn doubtful<E: Entrance, F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    resolved: bool,
) -> Result<Step, DropReason> {
    let unknown = endpoint(packet.ifindex()).is_none();
    let neighbour = !headers.fragmentation.is_later()
        && other::kind::<F, P>(packet, headers) == Some(Kind::Neighbour);
    if neighbour && (unknown || headers.tuple.src.is_on_link_only()) {
        return Ok(Step::PASS);
    }
    if unknown
        && resolved
        && !headers.malformed
        && let Some(step) = answer_to_node::<E, F, P>(packet, headers)
    {
        return Ok(step);
    }
    // Of a source that is not the pod's, the source itself is what tells most.
    let tuple = &headers.tuple;
    let peer = if unknown { tuple.dst } else { tuple.src };
    let (pod, what) = ((End::Client, packet.ifindex()), (headers.proto, tuple.dst_port));
    ask::<E, F>(pod, peer, what, Occasion::Doubt).map(|()| Step::PASS)
}

/// A packet from a pod that nothing is known of, if it is an answer to its own node: the node may reach
/// every pod at any time.
#[inline(always)]
fn answer_to_node<E: Entrance, F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
) -> Option<Step> {
    let Some(transport) = Transport::of(headers.proto) else {
        return other::answers_node::<F>(headers).then_some(Step::PASS);
    };
    match flow::look_up(transport, &headers.tuple) {
        Some((flow, End::Server)) if flow.flags & flow_flags::HOST != 0 => {
            flow.ingress_epoch = epoch();
            if flow.flags & flow_flags::DIRECT == 0 {
                return Some(again(headers));
            }
            flow::seen_direct::<E, F>(flow, End::Server, headers, packet);
            Some(Step::PASS)
        }
        _ => None,
    }
}

/// A connection as policies see it: without what stands between its ends.
struct Ends<F> {
    client: F,
    server: F,
    port: u16,
    /// Where the client's pod is, 0 if that is not asked for.
    egress_at: u32,
    /// Where the server's pod is, 0 if that is not asked for.
    ingress_at: u32,
}

/// A packet of a translated connection.
#[inline(always)]
fn translated<E: Entrance, F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    transport: Transport,
) -> Result<Step, DropReason> {
    let own = if E::HOOK as u32 == Hook::FromPod as u32 { packet.ifindex() } else { 0 };
    match flow::find(transport, &headers.tuple) {
        Found::FromClient(alias) => {
            let now = now_ns();
            let Resumed::Main(main) = flow::resume::<E, F>(transport, headers, alias, now) else {
                return Ok(again(headers));
            };
            flow::uncount(main, packet);
            let backend = backend_ifindex(packet, main);
            let way = way::to_backend::<E>(headers.ttl, main.flags, backend).not_taken::<E>();
            let ends = Ends {
                client: headers.tuple.src,
                server: alias.other.dst,
                port: alias.other.dst_port,
                egress_at: own,
                ingress_at: if_delivered(&way, backend),
            };
            judge_ends::<E, F>(headers, main, &ends)
        }
        Found::FromBackend(main) => {
            let way = way::to_client::<E>(packet, headers.ttl, main.flags, main.client_ifindex);
            let way = way.not_taken::<E>();
            let ends = Ends {
                client: main.other.src,
                server: headers.tuple.src,
                port: headers.tuple.src_port,
                egress_at: if_delivered(&way, main.client_ifindex),
                ingress_at: own,
            };
            judge_ends::<E, F>(headers, main, &ends)
        }
        Found::Kernel(_) => Ok(again(headers)),
        Found::Direct(..) | Found::Nothing => Ok(otherwise::<E>()),
    }
}

/// The interface of the other pod, if its own hook will not see the packet.
#[inline(always)]
fn if_delivered(way: &Way, ifindex: u32) -> u32 {
    if way.step.next == Next::Deliver { ifindex } else { 0 }
}

#[inline(always)]
fn judge_ends<E: Entrance, F: Family>(
    headers: &Headers<F>,
    main: &mut Flow<F>,
    ends: &Ends<F>,
) -> Result<Step, DropReason> {
    let what = (headers.proto, ends.port);
    if ends.egress_at != 0 {
        let pod = (End::Client, ends.egress_at);
        renew::<E, F>(&mut main.egress_epoch, pod, ends.server, what)?;
    }
    if ends.ingress_at != 0 {
        let pod = (End::Server, ends.ingress_at);
        let_in::<E, F>(main, pod, ends.client, what)?;
    }
    Ok(again(headers))
}

/// A packet of a translated connection that is about to enter a pod.
#[inline(always)]
fn delivered<F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
    flow: &mut Flow<F>,
    sender: End,
) -> Result<Step, DropReason> {
    if flow.flags & flow_flags::DIRECT != 0 {
        return Ok(Step::DIRECT);
    }
    if flow.flags & flow_flags::KERNEL != 0 {
        return Ok(Step::PASS);
    }
    let alias = flow.flags & flow_flags::ALIAS != 0;
    match (alias, sender) {
        // Not the packet that its entry speaks of.
        (true, End::Client) => Ok(Step::DIRECT),
        // Translated already.
        (true, End::Server) => {
            let server = (flow.other.dst, flow.other.dst_port);
            answer::<F, P>(packet, headers, flow, server).map(|()| Step::PASS)
        }
        (false, End::Server) => {
            let server = (headers.tuple.src, headers.tuple.src_port);
            answer::<F, P>(packet, headers, flow, server).map(|()| again(headers))
        }
        (false, End::Client) => request::<F, P>(packet, headers, flow),
    }
}

/// To the client, which must still be allowed to talk to the server.
#[inline(always)]
fn answer<F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
    flow: &mut Flow<F>,
    (server, port): (F, u16),
) -> Result<(), DropReason> {
    let (pod, what) = ((End::Client, packet.ifindex()), (headers.proto, port));
    renew::<ToPod, F>(&mut flow.egress_epoch, pod, server, what)
}

/// To the backend, from a client whose own address is known even if the backend does not see it.
#[inline(always)]
fn request<F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
    main: &mut Flow<F>,
) -> Result<Step, DropReason> {
    let (pod, client) = ((End::Server, packet.ifindex()), main.other.src);
    let_in::<ToPod, F>(main, pod, client, (headers.proto, headers.tuple.dst_port))?;
    Ok(Step::PASS)
}

/// Asks the server's side of a translated connection, which has to let in its own node.
#[inline(always)]
fn let_in<E: Entrance, F: Family>(
    main: &mut Flow<F>,
    pod: (End, u32),
    client: F,
    what: (u8, u16),
) -> Result<(), DropReason> {
    if main.flags & flow_flags::HOST != 0 {
        main.ingress_epoch = epoch();
        return Ok(());
    }
    renew::<E, F>(&mut main.ingress_epoch, pod, client, what)
}
