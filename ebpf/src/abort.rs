// SPDX-License-Identifier: Apache-2.0
//! SCTP ABORTs: how an SCTP client is refused (RFC 9260 8.4, a packet out of the blue).
//!
//! kube-proxy sends "port unreachable" instead. Linux takes that for a passing trouble and goes on
//! asking for minutes, while an ABORT ends the attempt at once.

use crate::{
    family::Family,
    packet::{Headers, Packet, Refused, at, ensure, field, set},
    sctp::checksum,
    wire::{
        ethernet,
        sctp::{self, chunk},
    },
};

/// Turns a packet into the ABORT that answers it.
#[inline(always)]
pub fn answer<F: Family, P: Packet>(packet: &mut P, headers: &Headers<F>) -> Result<(), Refused> {
    ensure(packet, headers.transport + sctp::INITIATE_TAG + 4);
    let header = at::<[u8; sctp::MIN_LEN as usize]>(packet, headers.transport).ok_or(Refused)?;
    let header = header.cast::<u8>();
    let before: u32 = field(header, sctp::CHECKSUM);
    let ports: [u16; 2] = field(header, sctp::SRC_PORT);
    let (tag, flags) = match field::<u8>(header, sctp::CHUNK) {
        // Nothing answers the end of an association.
        chunk::ABORT | chunk::SHUTDOWN_COMPLETE => return Err(Refused),
        chunk::INIT => (initiate_tag(packet, headers)?, 0),
        _ => (field::<u32>(header, sctp::TAG), chunk::REFLECTED),
    };
    packet.truncate(headers.transport + sctp::MIN_LEN)?;
    packet.pull(headers.transport + sctp::MIN_LEN)?;
    F::write_length(packet, ethernet::LEN, headers.transport + sctp::MIN_LEN)?;
    let (src, dst) = (headers.tuple.dst, headers.tuple.src);
    F::write_addresses(packet, ethernet::LEN, src, dst, false)?;
    let header = at::<[u8; sctp::MIN_LEN as usize]>(packet, headers.transport).ok_or(Refused)?;
    let header = header.cast::<u8>();
    let [src_port, dst_port] = ports;
    set(header, sctp::SRC_PORT, [dst_port, src_port]);
    set(header, sctp::TAG, tag);
    set(header, sctp::CHECKSUM, 0_u32);
    // A chunk without anything behind its header of four bytes.
    set(header, sctp::CHUNK, [chunk::ABORT, flags, 0, 4]);
    // Where a device was to fill in the checksum of the packet, it will fill in that of the answer.
    if before != 0 {
        set(header, sctp::CHECKSUM, checksum(header));
    }
    Ok(())
}

/// The tag that the sender of an INIT knows its answer by.
#[inline(always)]
fn initiate_tag<F: Family, P: Packet>(packet: &P, headers: &Headers<F>) -> Result<u32, Refused> {
    let place = at::<u32>(packet, headers.transport + sctp::INITIATE_TAG).ok_or(Refused)?;
    Ok(field(place.cast(), 0))
}
