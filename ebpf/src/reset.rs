// SPDX-License-Identifier: Apache-2.0
//! TCP resets: how a TCP client is refused (RFC 9293 3.10.7.1, a segment for a closed port).
//!
//! kube-proxy sends "port unreachable" instead. A client on the same machine gets the answer while
//! its `connect` still holds the socket; Linux then takes an ICMP error for a passing trouble and
//! tries again after a second, while it keeps a segment until the socket is free.

use pintle_abi::addr::proto;

use crate::{
    family::Family,
    packet::{Headers, Packet, Refused, at, field, set},
    wire::{
        ethernet,
        tcp::{self, flag},
    },
};

/// Turns a segment into the reset that answers it.
#[inline(always)]
pub fn answer<F: Family, P: Packet>(packet: &mut P, headers: &Headers<F>) -> Result<(), Refused> {
    // A reset is never answered by one.
    if headers.tcp_flags & flag::RST != 0 {
        return Err(Refused);
    }
    let (sequence, acknowledgment, flags) = numbers(packet, headers)?;
    let length = tcp::MIN_LEN;
    packet.truncate(headers.transport + length)?;
    packet.pull(headers.transport + length)?;
    F::write_length(packet, ethernet::LEN, headers.transport + length)?;
    let (src, dst) = (headers.tuple.dst, headers.tuple.src);
    F::write_addresses(packet, ethernet::LEN, src, dst, false)?;
    let header =
        at::<[u8; tcp::MIN_LEN as usize]>(packet, headers.transport).ok_or(Refused)?.cast::<u8>();
    set(header, tcp::SRC_PORT, headers.tuple.dst_port);
    set(header, tcp::DST_PORT, headers.tuple.src_port);
    set(header, tcp::SEQUENCE, sequence);
    set(header, tcp::ACKNOWLEDGMENT, acknowledgment);
    // Five words of header, no window, no urgent data.
    set(header, tcp::OFFSET, [0x50, flags]);
    set(header, tcp::WINDOW, 0_u16);
    set(header, tcp::CHECKSUM, 0_u32);
    let mut sum = F::pseudo_header(src, dst, length, proto::TCP);
    let mut offset = 0;
    while offset < length {
        sum = sum.word(field(header, offset));
        offset += 4;
    }
    set(header, tcp::CHECKSUM, sum.apply(u16::MAX));
    Ok(())
}

/// Sequence number, acknowledgment number and flags of the reset.
#[inline(always)]
fn numbers<F: Family, P: Packet>(
    packet: &P,
    headers: &Headers<F>,
) -> Result<(u32, u32, u8), Refused> {
    let header =
        at::<[u8; tcp::MIN_LEN as usize]>(packet, headers.transport).ok_or(Refused)?.cast::<u8>();
    if headers.tcp_flags & flag::ACK != 0 {
        return Ok((field(header, tcp::ACKNOWLEDGMENT), 0, flag::RST));
    }
    let [offset, _] = field::<[u8; 2]>(header, tcp::OFFSET);
    let data = headers.end.wrapping_sub(headers.transport + u32::from(offset >> 4) * 4);
    let control = u32::from(headers.tcp_flags & flag::SYN != 0)
        + u32::from(headers.tcp_flags & flag::FIN != 0);
    let next = u32::from_be(field(header, tcp::SEQUENCE)).wrapping_add(data).wrapping_add(control);
    Ok((0, next.to_be(), flag::RST | flag::ACK))
}
