// SPDX-License-Identifier: Apache-2.0
//! Rewriting a packet from one side of a connection to the other.

use pintle_abi::{
    addr::{Tuple, proto},
    drop_reason::DropReason,
};

use crate::{
    checksum::Difference,
    family::Family,
    packet::{ChecksumKind, Covered, Headers, Packet, Refused, at, field, set},
    sctp,
    wire::{ethernet, tcp, udp},
};

/// Whether a rewrite is also the hop of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// The packet skips the host's stack: the TTL falls here.
    Here,
    /// The host's stack forwards the packet, and lowers the TTL.
    InStack,
}

/// Gives a packet another tuple; checksums stay right, also partial ones (offload) and UDP's 0.
#[inline(always)]
pub fn rewrite<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    to: &Tuple<F>,
    hop: Hop,
) -> Result<(), DropReason> {
    apply(packet, headers, to, hop).map_err(|Refused| DropReason::RewriteFailed)
}

/// The same for SCTP.
#[inline(always)]
pub fn rewrite_sctp<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    to: &Tuple<F>,
    hop: Hop,
) -> Result<(), DropReason> {
    sctp::rewrite(packet, headers, to)
        .and_then(|()| F::write_addresses(packet, ethernet::LEN, to.src, to.dst, hop == Hop::Here))
        .map_err(|Refused| DropReason::RewriteFailed)
}

#[inline(always)]
fn apply<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    to: &Tuple<F>,
    hop: Hop,
) -> Result<(), Refused> {
    if !headers.fragmentation.is_later() {
        rewrite_transport(packet, headers, to)?;
    }
    F::write_addresses(packet, ethernet::LEN, to.src, to.dst, hop == Hop::Here)
}

#[inline(always)]
fn rewrite_transport<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    to: &Tuple<F>,
) -> Result<(), Refused> {
    let from = &headers.tuple;
    let (offset, kind) = checksum_field(packet, headers);
    let addresses = from.src.difference(to.src).and(from.dst.difference(to.dst));
    let ports =
        Difference::NONE.word16(from.src_port, to.src_port).word16(from.dst_port, to.dst_port);
    packet.fix_transport(offset, addresses.wsum(), ports.wsum(), kind)?;
    let place = at::<[u16; 2]>(packet, headers.transport).ok_or(Refused)?.cast::<u8>();
    set(place, 0, to.src_port);
    set(place, 2, to.dst_port);
    Ok(())
}

/// Corrects a transport checksum by the differences of addresses and ports.
///
/// Only the kernel knows whether the checksum is partial, so its helper takes in the addresses; what
/// that made of the field mostly tells us, and spares a second call for the ports.
#[inline(always)]
pub fn fix_transport<P: Packet>(
    packet: &mut P,
    offset: u32,
    addresses: u32,
    ports: u32,
    kind: ChecksumKind,
) -> Result<(), Refused> {
    let before: u16 = field(at::<[u8; 2]>(packet, offset).ok_or(Refused)?.cast(), 0);
    // UDP's 0 says that there is no checksum.
    if kind == ChecksumKind::Udp && before == 0 {
        return Ok(());
    }
    packet.fix_checksum(offset, addresses, Covered::PseudoHeader, kind)?;
    let difference = Difference::NONE.word(addresses);
    if difference.is_neutral() {
        return packet.fix_checksum(offset, ports, Covered::Payload, kind);
    }
    let place = at::<[u8; 2]>(packet, offset).ok_or(Refused)?.cast::<u8>();
    let after: u16 = field(place, 0);
    // A partial checksum is a plain sum of the pseudo-header; the device adds the rest.
    if difference.add_to(before) == after {
        return Ok(());
    }
    let sum = Difference::NONE.word(ports).apply(after);
    set(place, 0, if kind == ChecksumKind::Udp && sum == 0 { u16::MAX } else { sum });
    Ok(())
}

/// Where the transport checksum is, and of which kind.
#[inline(always)]
pub(crate) fn checksum_field<A>(packet: &impl Packet, headers: &Headers<A>) -> (u32, ChecksumKind) {
    // From here on the verifier need not tell the protocols apart.
    let udp = packet.veil(u32::from(headers.proto == proto::UDP)) & 1;
    let field = tcp::CHECKSUM - udp * (tcp::CHECKSUM - udp::CHECKSUM);
    let kind = if udp != 0 { ChecksumKind::Udp } else { ChecksumKind::Plain };
    (headers.transport + field, kind)
}
