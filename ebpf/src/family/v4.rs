// SPDX-License-Identifier: Apache-2.0
//! IPv4.

use pintle_abi::{
    addr::{Tuple, V4, borrowed, proto},
    source_range::Prefix,
};

use super::Family;
use crate::{
    checksum::{Difference, fold},
    lb,
    packet::{Fragmentation, Headers, Packet, Parsed, Refused, Shape, at, field, set},
    policy::{other::Kind, standing_v4, verdict::judge_v4},
    wire::{ethernet, icmp, ipv4},
};

impl Family for V4 {
    const ICMP: u8 = proto::ICMP;
    const MIN_HEADER_LEN: u32 = ipv4::MIN_LEN;
    const ADDRESS_FAMILY: u8 = 2;
    const SRC: u32 = ipv4::SRC;
    const DST: u32 = ipv4::DST;
    const TOTAL_LEN: u32 = ipv4::TOTAL_LEN;
    const UNCOUNTED: u32 = 0;

    #[inline(always)]
    fn words(self) -> [u32; 4] {
        [self.0, 0, 0, 0]
    }

    #[inline(always)]
    fn parse<P: Packet>(packet: &mut P, network: u32, shape: Shape) -> Parsed<Self> {
        super::ensure_transport(packet, network + ipv4::MIN_LEN, network + ipv4::TTL, 1);
        let Some(mut base) = header(packet, network) else { return Parsed::Foreign };
        let version_ihl: u8 = field(base, ipv4::VERSION_IHL);
        let fragment = u16::from_be(field(base, ipv4::FRAGMENT));
        let whole = fragment & (ipv4::OFFSET_MASK | ipv4::MORE) == 0;
        if shape == Shape::Plain && !(whole && version_ihl == ipv4::PLAIN) {
            return Parsed::Unusual;
        }
        let header_len = match shape {
            Shape::Plain => ipv4::MIN_LEN,
            Shape::Any => u32::from(version_ihl & 0x0f) * 4,
        };
        if header_len > ipv4::MIN_LEN {
            super::ensure_transport(packet, network + header_len, network + ipv4::TTL, 1);
            let Some(again) = header(packet, network) else { return Parsed::Foreign };
            base = again;
        }
        let total_len = match u16::from_be(field(base, ipv4::TOTAL_LEN)) {
            // Segmentation offload beyond 64 KiB ("BIG TCP") leaves the field empty.
            0 => packet.len().wrapping_sub(network),
            len => u32::from(len),
        };
        let mut headers = Headers {
            tuple: Tuple {
                src: V4(field(base, ipv4::SRC)),
                dst: V4(field(base, ipv4::DST)),
                src_port: 0,
                dst_port: 0,
            },
            transport: network + header_len,
            end: network + total_len,
            id: u32::from(field::<u16>(base, ipv4::ID)),
            proto: field(base, ipv4::PROTOCOL),
            ttl: field(base, ipv4::TTL),
            tcp_flags: 0,
            fragmentation: match shape {
                Shape::Plain => Fragmentation::WHOLE,
                Shape::Any => Fragmentation::new(
                    fragment & ipv4::OFFSET_MASK,
                    u32::from(fragment & ipv4::MORE) >> ipv4::MORE_SHIFT,
                ),
            },
            malformed: version_ihl >> 4 != 4
                || header_len < ipv4::MIN_LEN
                || total_len < header_len
                || network + total_len > packet.len(),
        };
        if !headers.fragmentation.is_later() {
            super::read_transport(packet, &mut headers, total_len.wrapping_sub(header_len));
        }
        Parsed::Headers(headers)
    }

    #[inline(always)]
    fn is_within(self, prefix: &Prefix<Self>) -> u64 {
        let differs = (self.0 ^ prefix.addr.0) & prefix.mask.0;
        borrowed(0, u64::from(prefix.mask.0), 0) & borrowed(u64::from(differs), 1, 0)
    }

    #[inline(always)]
    fn is_loopback(self) -> u64 {
        let [first, ..] = self.0.to_ne_bytes();
        borrowed(u64::from(first ^ 127), 1, 0)
    }

    #[inline(always)]
    fn difference(self, new: Self) -> Difference {
        Difference::NONE.word32(self.0, new.0)
    }

    #[inline(always)]
    fn mix(self, hash: u64) -> u64 {
        lb::mix(hash ^ u64::from(self.0))
    }

    #[inline(always)]
    fn write_addresses<P: Packet>(
        packet: &mut P,
        network: u32,
        src: Self,
        dst: Self,
        hop: bool,
    ) -> Result<(), Refused> {
        let base = at::<[u8; ipv4::MIN_LEN as usize]>(packet, network).ok_or(Refused)?.cast::<u8>();
        let mut difference = V4(field(base, ipv4::SRC))
            .difference(src)
            .and(V4(field(base, ipv4::DST)).difference(dst));
        if hop {
            let word: u16 = field(base, ipv4::TTL);
            let lower = (u16::from_be(word).wrapping_sub(0x100)).to_be();
            difference = difference.word16(word, lower);
            set(base, ipv4::TTL, lower);
        }
        set(base, ipv4::CHECKSUM, difference.apply(field(base, ipv4::CHECKSUM)));
        set(base, ipv4::SRC, src.0);
        set(base, ipv4::DST, dst.0);
        Ok(())
    }

    #[inline(always)]
    fn judge(place: u64, peer: Self, what: u32) -> u32 {
        judge_v4(place, peer.0, what)
    }

    #[inline(always)]
    fn standing(ifindex: u32, src: Self) -> u32 {
        standing_v4(ifindex, src.0)
    }

    #[inline(always)]
    fn kind(icmp_type: u8) -> Kind {
        match icmp_type {
            _ if icmp::v4::ANSWERS.contains(&icmp_type) => Kind::Answer,
            _ if Self::is_error(icmp_type) => Kind::Error,
            _ => Kind::Question,
        }
    }

    #[inline(always)]
    fn is_on_link_only(self) -> bool {
        false
    }

    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        matches!(
            icmp_type,
            icmp::v4::UNREACHABLE | icmp::v4::TIME_EXCEEDED | icmp::v4::PARAMETER_PROBLEM
        )
    }

    #[inline(always)]
    fn port_unreachable() -> (u8, u8) {
        (icmp::v4::UNREACHABLE, icmp::v4::CODE_PORT)
    }

    #[inline(always)]
    fn write_length<P: Packet>(packet: &mut P, network: u32, end: u32) -> Result<(), Refused> {
        let base = header(packet, network).ok_or(Refused)?;
        let old: u16 = field(base, ipv4::TOTAL_LEN);
        let new = (end.wrapping_sub(network) as u16).to_be();
        let sum = Difference::NONE.word16(old, new).apply(field(base, ipv4::CHECKSUM));
        set(base, ipv4::TOTAL_LEN, new);
        set(base, ipv4::CHECKSUM, sum);
        Ok(())
    }

    #[inline(always)]
    fn pseudo_header(src: Self, dst: Self, length: u32, proto: u8) -> Difference {
        Difference::NONE.word(src.0).word(dst.0).word(length.to_be()).word(u32::from(proto).to_be())
    }

    #[inline(always)]
    fn write_answer_header<P: Packet>(
        packet: &mut P,
        src: Self,
        dst: Self,
        payload: u32,
    ) -> Result<Difference, Refused> {
        let base =
            at::<[u8; ipv4::MIN_LEN as usize]>(packet, ethernet::LEN).ok_or(Refused)?.cast::<u8>();
        let total_len = ((ipv4::MIN_LEN + payload) as u16).to_be();
        let version_ihl = 0x4500_u16.to_be();
        let ttl_protocol = (0x4000 | u16::from(proto::ICMP)).to_be();
        let sum = u64::from(version_ihl)
            + u64::from(total_len)
            + u64::from(ttl_protocol)
            + u64::from(src.0)
            + u64::from(dst.0);
        set(base, ipv4::VERSION_IHL, version_ihl);
        set(base, ipv4::TOTAL_LEN, total_len);
        set(base, ipv4::ID, 0_u32);
        set(base, ipv4::TTL, ttl_protocol);
        set(base, ipv4::CHECKSUM, !fold(sum));
        set(base, ipv4::SRC, src.0);
        set(base, ipv4::DST, dst.0);
        Ok(Difference::NONE)
    }
}

/// The part of the header that every packet has.
#[inline(always)]
fn header<P: Packet>(packet: &P, network: u32) -> Option<*mut u8> {
    at::<[u8; ipv4::MIN_LEN as usize]>(packet, network).map(|header| header.cast())
}
