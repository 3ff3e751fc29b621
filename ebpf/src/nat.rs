// SPDX-License-Identifier: Apache-2.0
//! Rewriting a packet from one side of a connection to the other.

use pintle_abi::{
    addr::{Tuple, proto},
    drop_reason::DropReason,
};

use crate::{
    checksum::Difference,
    family::Family,
    packet::{ChecksumKind, Covered, Headers, Packet, Refused, at, set},
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

#[inline(always)]
fn apply<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    to: &Tuple<F>,
    hop: Hop,
) -> Result<(), Refused> {
    let from = &headers.tuple;
    if !headers.fragmentation.is_later() {
        let (offset, kind) = checksum_field(headers);
        let addresses = from.src.difference(to.src).and(from.dst.difference(to.dst));
        packet.fix_checksum(offset, addresses.wsum(), Covered::PseudoHeader, kind)?;
        if from.src_port != to.src_port || from.dst_port != to.dst_port {
            let ports = Difference::NONE
                .word16(from.src_port, to.src_port)
                .word16(from.dst_port, to.dst_port);
            packet.fix_checksum(offset, ports.wsum(), Covered::Payload, kind)?;
            let place = at::<[u16; 2]>(packet, headers.transport).ok_or(Refused)?.cast::<u8>();
            set(place, 0, to.src_port);
            set(place, 2, to.dst_port);
        }
    }
    F::write_addresses(packet, ethernet::LEN, to.src, to.dst, hop == Hop::Here)
}

#[inline(always)]
fn checksum_field<A>(headers: &Headers<A>) -> (u32, ChecksumKind) {
    if headers.proto == proto::UDP {
        (headers.transport + udp::CHECKSUM, ChecksumKind::Udp)
    } else {
        (headers.transport + tcp::CHECKSUM, ChecksumKind::Plain)
    }
}
