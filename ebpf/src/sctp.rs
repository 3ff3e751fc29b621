// SPDX-License-Identifier: Apache-2.0
//! SCTP: what an association is for the rest of the data path, and its checksum.
//!
//! A packet gets the TCP flags that its first chunk stands for, so an association has the states of a
//! TCP connection ([`pintle_abi::flow::TcpState`]). Its checksum covers no addresses. It is a CRC32c,
//! which is linear, so other ports change it by something that depends on nothing but the change and
//! the length of the packet.
//!
//! A packet that is still to be cut into packets (segmentation offload) has its chunks in buffers of
//! their own; nothing may be pulled out of them.
//!
//! Addresses inside of chunks (multihoming) are not translated. Fragments are not, either: the
//! checksum stands in the first one and its correction depends on the length of all.

use pintle_abi::addr::Tuple;

use crate::{
    family::Family,
    packet::{Headers, Packet, Refused, Shape, at, field, set},
    wire::{
        ethernet,
        sctp::{self, chunk},
        tcp::flag,
    },
};

/// Polynomial of CRC32c, lowest power in the highest bit (RFC 9260 appendix A).
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Reads the headers of a packet; those of a later fragment have no ports.
#[inline(always)]
pub fn parse<F: Family, P: Packet>(packet: &mut P) -> Option<Headers<F>> {
    let mut headers = F::parse(packet, ethernet::LEN, Shape::Any).headers()?;
    complete(packet, &mut headers);
    Some(headers)
}

/// Reads ports and first chunk, unless it is a later fragment.
#[inline(always)]
pub fn complete<A, P: Packet>(packet: &P, headers: &mut Headers<A>) {
    if !headers.fragmentation.is_later() {
        read(packet, headers);
    }
}

#[inline(always)]
fn read<A, P: Packet>(packet: &P, headers: &mut Headers<A>) {
    let len = headers.end.wrapping_sub(headers.transport);
    let [kind, ..] = packet.copy(headers.transport + sctp::CHUNK);
    let header = at::<[u8; sctp::LEN as usize]>(packet, headers.transport);
    let Some(header) = header.filter(|_| len >= sctp::MIN_LEN) else {
        headers.malformed = true;
        return;
    };
    let header = header.cast::<u8>();
    headers.tuple.src_port = field(header, sctp::SRC_PORT);
    headers.tuple.dst_port = field(header, sctp::DST_PORT);
    headers.tcp_flags = flags(kind);
}

/// The TCP flags that a packet's first chunk stands for. The chunks named come alone, but for an ABORT,
/// which may follow others; an association that ends so is kept for as long as a silent one.
#[inline(always)]
fn flags(first_chunk: u8) -> u8 {
    match first_chunk {
        chunk::INIT => flag::SYN,
        chunk::INIT_ACK => flag::SYN | flag::ACK,
        chunk::ABORT | chunk::SHUTDOWN_COMPLETE => flag::RST,
        _ => flag::ACK,
    }
}

/// Gives a packet other ports and the checksum that belongs to them.
#[inline(always)]
pub fn rewrite<A, P: Packet>(
    packet: &mut P,
    headers: &Headers<A>,
    to: &Tuple<A>,
) -> Result<(), Refused> {
    let from = &headers.tuple;
    let change = ports(from.src_port ^ to.src_port, from.dst_port ^ to.dst_port);
    let len = headers.end.wrapping_sub(headers.transport);
    if change != 0 {
        packet.fix_sctp(headers.transport + sctp::CHECKSUM, change, len)?;
    }
    let place = at::<[u16; 2]>(packet, headers.transport).ok_or(Refused)?.cast::<u8>();
    set(place, sctp::SRC_PORT, to.src_port);
    set(place, sctp::DST_PORT, to.dst_port);
    Ok(())
}

/// The first four bytes of the header as CRC32c takes them: the first byte lowest.
#[inline(always)]
fn ports(src: u16, dst: u16) -> u32 {
    u32::from(u16::from_le(src)) | u32::from(u16::from_le(dst)) << 16
}

/// Corrects the checksum at `offset` of a packet of `len` bytes whose first four bytes change.
///
/// 0 is left alone: a device fills it in. A checksum that happens to be 0 is lost with its packet,
/// one in four billion.
#[inline(always)]
pub fn fix<P: Packet>(packet: &mut P, offset: u32, change: u32, len: u32) -> Result<(), Refused> {
    let place = at::<u32>(packet, offset).ok_or(Refused)?.cast::<u8>();
    let before: u32 = field(place, 0);
    if before == 0 {
        return Ok(());
    }
    let change = advance(change, len).ok_or(Refused)?;
    set(place, 0, before ^ change.to_le());
    Ok(())
}

/// What a change of a message's first four bytes makes of its CRC, if the message has `len` bytes.
#[inline(always)]
fn advance(mut change: u32, len: u32) -> Option<u32> {
    if len >> POWERS.len() != 0 {
        return None;
    }
    let mut power = 0;
    while power < POWERS.len() {
        if len >> power & 1 != 0 {
            change = multiply(change, POWERS[power]);
        }
        power += 1;
    }
    Some(change)
}

/// The checksum of a packet that is a common header and the header of one chunk.
#[inline(always)]
pub fn checksum(header: *const u8) -> u32 {
    let mut crc = u32::MAX;
    let mut offset = 0;
    while offset < sctp::MIN_LEN {
        let word: u32 = field(header, offset);
        crc = multiply(crc ^ u32::from_le(word), POWERS[2]);
        offset += 4;
    }
    (!crc).to_le()
}

/// x to the powers 8, 16, 32 and so on: what 1, 2, 4 bytes more make of a CRC.
const POWERS: [u32; 16] = {
    let mut powers = [1 << (31 - 8); 16];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = multiply(powers[index - 1], powers[index - 1]);
        index += 1;
    }
    powers
};

/// Multiplies two polynomials modulo CRC32c's.
///
/// An exported name makes a function of it that the kernel verifies once, whoever calls it. Without
/// branches: one would double what the verifier has to follow, 32 times.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[inline(never)]
pub const extern "C" fn multiply(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    let mut product = 0;
    let mut power = 0;
    while power < u32::BITS {
        // The highest bit is x to the power of 0.
        product ^= b & ((a as i32) >> 31) as u32;
        a <<= 1;
        b = b >> 1 ^ POLYNOMIAL & (b & 1).wrapping_neg();
        power += 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// A checksum computed from nothing, bit by bit.
    fn full(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            }
        }
        !crc
    }

    /// What a packet's checksum covers: its own field counts as 0.
    fn packet(ports: [u16; 2], rest: &[u8]) -> Vec<u8> {
        let [src, dst] = ports.map(u16::to_ne_bytes);
        [&src[..], &dst, &[1, 2, 3, 4, 0, 0, 0, 0], rest].concat()
    }

    /// RFC 3720 B.4, of which SCTP has its checksum.
    #[test]
    fn the_reference_is_the_checksum_of_the_standard() {
        assert_eq!(full(&[0; 32]), 0x8a91_36aa);
        assert_eq!(full(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_packet_that_is_too_long_is_refused() {
        assert_eq!(advance(1, 1 << 16), None);
    }

    proptest! {
        #[test]
        fn update_equals_full_recomputation(
            old: [u16; 2],
            new: [u16; 2],
            rest in prop::collection::vec(any::<u8>(), 4..3000),
        ) {
            let (before, after) = (packet(old, &rest), packet(new, &rest));
            let change = ports(old[0] ^ new[0], old[1] ^ new[1]);
            let change = advance(change, before.len() as u32);
            prop_assert_eq!(change.map(|change| full(&before) ^ change), Some(full(&after)));
        }

        #[test]
        fn a_lone_chunk_is_summed_like_any_packet(ports: [u16; 2], chunk: [u8; 4]) {
            let bytes = packet(ports, &chunk);
            prop_assert_eq!(u32::from_le(checksum(bytes.as_ptr())), full(&bytes));
        }
    }
}
