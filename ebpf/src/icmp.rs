// SPDX-License-Identifier: Apache-2.0
//! ICMP errors: the packet they quote is translated like the connection it belongs to, so path MTU
//! discovery and "port unreachable" work through a service (RFC 5508 describes this for NATs).

use pintle_abi::{
    addr::{Tuple, proto},
    counter::{Counter, Hook},
    drop_reason::DropReason,
    flow::{Flow, flow_flags},
};

use crate::{
    checksum::Difference,
    family::{Family, Transport, read_quoted_ports},
    flow::{self, Found},
    hooks::{
        Entrance, Step,
        way::{self, backend_ifindex},
    },
    nat::Hop,
    packet::{ChecksumKind, Covered, Headers, Packet, Refused, Shape, ensure, read, set_at},
    report,
    wire::{ethernet, icmp, tcp, udp},
};

/// How much of the quoted packet is made readable: its longest header and the start of transport.
const QUOTE_LEN: u32 = 60 + tcp::MIN_LEN;

/// What an error becomes.
struct Translation<A> {
    /// Addresses of the error itself.
    src: A,
    dst: A,
    /// Tuple of the quoted packet.
    quoted: Tuple<A>,
}

/// An error at a hook where connections begin. `None` if it is none about a tracked connection.
#[inline(always)]
pub fn translate<E: Entrance, F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
) -> Result<Option<Step>, DropReason> {
    let Some((quoted, found)) = find(packet, headers) else { return Ok(None) };
    let (way, to) = match found {
        // About a reply, from the client or a router before it.
        Found::FromBackend(alias) => {
            let server = alias.other;
            const OURS: u16 = flow_flags::HAIRPIN | flow_flags::MASQUERADED;
            let keeps_source = alias.flags & OURS == 0;
            let src = if keeps_source { headers.tuple.src } else { server.src };
            let to = Translation { src, dst: server.dst, quoted: server.reverse() };
            let ifindex = backend_ifindex(packet, alias);
            (way::to_backend::<E>(headers.ttl, alias.flags, ifindex), to)
        }
        // About a request, from the backend or a router before it.
        Found::FromClient(main) => {
            let to = towards_client(headers, &quoted, main);
            (way::to_client::<E>(packet, headers.ttl, main.flags, main.client_ifindex), to)
        }
        Found::Kernel(_) => return Ok(Some(pass::<E>())),
        Found::Direct(..) => return Ok(Some(pass::<E>())),
        Found::Nothing => return Ok(None),
    };
    if !way.translated {
        return Ok(Some(pass::<E>()));
    }
    let way = way.taken::<E>(packet);
    rewrite(packet, headers, &quoted, &to, way.hop)?;
    report::count(E::HOOK, Counter::IcmpError);
    Ok(Some(way.step))
}

#[inline(always)]
fn pass<E: Entrance>() -> Step {
    report::count(E::HOOK, Counter::Passed);
    Step::PASS
}

/// An error that is about to enter a pod. `false` if it is none about a tracked connection.
#[inline(always)]
pub fn to_pod<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
) -> Result<bool, DropReason> {
    let Some((quoted, Found::FromClient(main))) = find(packet, headers) else { return Ok(false) };
    let to = towards_client(headers, &quoted, main);
    rewrite(packet, headers, &quoted, &to, Hop::InStack)?;
    report::count(Hook::ToPod, Counter::IcmpError);
    Ok(true)
}

/// An error of the backend itself seems to come from the service; a router's keeps its source.
#[inline(always)]
fn towards_client<F: Family>(
    headers: &Headers<F>,
    quoted: &Headers<F>,
    main: &Flow<F>,
) -> Translation<F> {
    let client = main.other;
    let from_backend = headers.tuple.src == quoted.tuple.dst;
    Translation {
        src: if from_backend { client.dst } else { headers.tuple.src },
        dst: client.src,
        quoted: client,
    }
}

/// Whether an ICMP packet is an error about a connection that has an entry, on whatever side.
#[inline(always)]
pub fn is_about_tracked<F: Family, P: Packet>(packet: &mut P, headers: &Headers<F>) -> bool {
    quoted::<F, P>(packet, headers)
        .is_some_and(|(quoted, transport)| flow::look_up(transport, &quoted.tuple).is_some())
}

/// Whether an ICMP packet is an error.
#[inline(always)]
pub fn is_error<F: Family, P: Packet>(packet: &P, headers: &Headers<F>) -> bool {
    // One byte cannot be read alone: the verifier learns nothing from a check for one.
    read::<[u8; 2]>(packet, headers.transport + icmp::TYPE)
        .is_some_and(|[icmp_type, _code]| F::is_error(icmp_type))
}

/// The quoted packet and what is known of it.
///
/// [`Found::FromClient`] then means a packet from client to backend as the backend's side saw it
/// (the main entry), [`Found::FromBackend`] one from the service to the client (the alias).
#[inline(always)]
fn find<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
) -> Option<(Headers<F>, Found<F>)> {
    let (quoted, transport) = quoted::<F, P>(packet, headers)?;
    Some((quoted, flow::find_quoted(transport, &quoted.tuple)))
}

/// The packet that an error quotes.
#[inline(always)]
fn quoted<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
) -> Option<(Headers<F>, Transport)> {
    // Nobody sends errors behind extension headers; each way through them is a path for the verifier.
    let plain = F::ICMP == proto::ICMP || headers.transport == ethernet::LEN + F::MIN_HEADER_LEN;
    if !headers.fragmentation.is_whole() || !plain {
        return None;
    }
    ensure(packet, headers.transport + icmp::LEN + QUOTE_LEN);
    if !is_error::<F, P>(packet, headers) {
        return None;
    }
    let mut quoted = F::parse(packet, headers.transport + icmp::LEN, Shape::Any).headers()?;
    // Its length field speaks of more than is quoted: being malformed means nothing here.
    read_quoted_ports(packet, &mut quoted)?;
    if quoted.fragmentation.is_later() {
        return None;
    }
    let transport = Transport::of(quoted.proto)?;
    Some((quoted, transport))
}

#[inline(always)]
fn rewrite<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    quoted: &Headers<F>,
    to: &Translation<F>,
    hop: Hop,
) -> Result<(), DropReason> {
    apply(packet, headers, quoted, to, hop).map_err(|Refused| DropReason::RewriteFailed)
}

#[inline(always)]
fn apply<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    quoted: &Headers<F>,
    to: &Translation<F>,
    hop: Hop,
) -> Result<(), Refused> {
    let checksum = headers.transport + icmp::CHECKSUM;
    if F::ICMP == proto::ICMPV6 {
        let outer = headers.tuple.src.difference(to.src).and(headers.tuple.dst.difference(to.dst));
        packet.fix_checksum(checksum, outer.wsum(), Covered::PseudoHeader, ChecksumKind::Plain)?;
    }
    let changed = rewrite_quoted(packet, headers, quoted, &to.quoted)?;
    packet.fix_checksum(checksum, changed.wsum(), Covered::Payload, ChecksumKind::Plain)?;
    F::write_addresses(packet, ethernet::LEN, to.src, to.dst, hop == Hop::Here)
}

/// Rewrites the quoted packet; returns what that changes in the checksum of the error.
#[inline(always)]
fn rewrite_quoted<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    quoted: &Headers<F>,
    to: &Tuple<F>,
) -> Result<Difference, Refused> {
    let from = &quoted.tuple;
    let addresses = from.src.difference(to.src).and(from.dst.difference(to.dst));
    let ports =
        Difference::NONE.word16(from.src_port, to.src_port).word16(from.dst_port, to.dst_port);
    set_at(packet, quoted.transport, to.src_port)?;
    set_at(packet, quoted.transport + 2, to.dst_port)?;
    // An IPv4 header's own checksum balances its addresses, so it does not matter to the error's.
    let header = if F::ICMP == proto::ICMP { Difference::NONE } else { addresses };
    F::write_addresses(packet, headers.transport + icmp::LEN, to.src, to.dst, false)?;
    let transport = rewrite_quoted_checksum(packet, quoted, addresses.and(ports));
    Ok(header.and(ports).and(transport))
}

/// The quoted transport checksum, if that much of the packet is quoted (RFC 792 asks for 8 bytes).
#[inline(always)]
fn rewrite_quoted_checksum<F, P: Packet>(
    packet: &mut P,
    quoted: &Headers<F>,
    changed: Difference,
) -> Difference {
    // SCTP's checksum does not cover addresses, and of a part of the packet it cannot be corrected.
    if quoted.proto == proto::SCTP {
        return Difference::NONE;
    }
    let udp = quoted.proto == proto::UDP;
    let offset = quoted.transport + if udp { udp::CHECKSUM } else { tcp::CHECKSUM };
    let Some(old) = read::<u16>(packet, offset) else { return Difference::NONE };
    if udp && old == 0 {
        return Difference::NONE;
    }
    let new = changed.apply(old);
    match set_at(packet, offset, new) {
        Ok(()) => Difference::NONE.word16(old, new),
        Err(Refused) => Difference::NONE,
    }
}
