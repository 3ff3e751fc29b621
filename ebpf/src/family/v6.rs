// SPDX-License-Identifier: Apache-2.0
//! IPv6, with its extension headers.

use pintle_abi::{
    addr::{Tuple, V6, borrowed, proto},
    source_range::Prefix,
};

use super::Family;
use crate::{
    checksum::Difference,
    lb,
    packet::{Fragmentation, Headers, Packet, Parsed, Refused, Shape, at, ensure, field, set},
    policy::{other::Kind, standing_v6, verdict::judge_v6},
    wire::{
        ethernet, icmp,
        ipv6::{self, extension::is_extension},
        sctp, tcp,
    },
};

impl Family for V6 {
    const ICMP: u8 = proto::ICMPV6;
    const MIN_HEADER_LEN: u32 = ipv6::LEN;
    const ADDRESS_FAMILY: u8 = 10;
    const SRC: u32 = ipv6::SRC;
    const DST: u32 = ipv6::DST;
    const TOTAL_LEN: u32 = ipv6::PAYLOAD_LEN;
    const UNCOUNTED: u32 = ipv6::LEN;

    #[inline(always)]
    fn words(self) -> [u32; 4] {
        self.0
    }

    #[inline(always)]
    fn parse<P: Packet>(packet: &mut P, network: u32, shape: Shape) -> Parsed<Self> {
        super::ensure_transport(packet, network + ipv6::LEN, network + ipv6::NEXT_HEADER, 0);
        let Some(base) = header(packet, network) else { return Parsed::Foreign };
        let next_header: u8 = field(base, ipv6::NEXT_HEADER);
        if shape == Shape::Plain && is_extension(next_header) {
            return Parsed::Unusual;
        }
        let payload_len = match u16::from_be(field(base, ipv6::PAYLOAD_LEN)) {
            // A jumbogram, or segmentation offload beyond 64 KiB ("BIG TCP").
            0 => packet.len().wrapping_sub(network + ipv6::LEN),
            len => u32::from(len),
        };
        let end = network + ipv6::LEN + payload_len;
        let mut headers = Headers {
            tuple: Tuple {
                src: V6(field(base, ipv6::SRC)),
                dst: V6(field(base, ipv6::DST)),
                src_port: 0,
                dst_port: 0,
            },
            transport: network + ipv6::LEN,
            end,
            id: 0,
            proto: next_header,
            ttl: field(base, ipv6::HOP_LIMIT),
            tcp_flags: 0,
            fragmentation: Fragmentation::WHOLE,
            malformed: field::<u8>(base, ipv6::VERSION) >> 4 != 6 || end > packet.len(),
        };
        // Also if there is none: the verifier follows one way and not two.
        if shape == Shape::Any {
            let walked = packet.walk_extensions(headers.transport, headers.proto);
            headers.transport = walked.transport();
            headers.proto = walked.proto();
            headers.fragmentation = walked.fragmentation();
            headers.id = walked.id();
            headers.malformed |= walked.is_malformed();
            let is_sctp = headers.proto == proto::SCTP;
            let shortest = packet.veil(if is_sctp { sctp::LEN } else { tcp::MIN_LEN }) & 0x3f;
            ensure(packet, headers.transport + shortest);
        }
        if !headers.fragmentation.is_later() {
            let len = end.wrapping_sub(headers.transport);
            super::read_transport(packet, &mut headers, len);
        }
        Parsed::Headers(headers)
    }

    #[inline(always)]
    fn is_within(self, prefix: &Prefix<Self>) -> u64 {
        let mut differs = 0;
        let mut mask = 0;
        for word in 0..4 {
            differs |= (self.0[word] ^ prefix.addr.0[word]) & prefix.mask.0[word];
            mask |= prefix.mask.0[word];
        }
        borrowed(0, u64::from(mask), 0) & borrowed(u64::from(differs), 1, 0)
    }

    #[inline(always)]
    fn is_loopback(self) -> u64 {
        let differs = self.0[0] | self.0[1] | self.0[2] | (self.0[3] ^ 1_u32.to_be());
        borrowed(u64::from(differs), 1, 0)
    }

    #[inline(always)]
    fn difference(self, new: Self) -> Difference {
        Difference::NONE
            .word32(self.0[0], new.0[0])
            .word32(self.0[1], new.0[1])
            .word32(self.0[2], new.0[2])
            .word32(self.0[3], new.0[3])
    }

    #[inline(always)]
    fn mix(self, hash: u64) -> u64 {
        let hash = lb::mix(hash ^ pair(self.0[0], self.0[1]));
        lb::mix(hash ^ pair(self.0[2], self.0[3]))
    }

    #[inline(always)]
    fn write_addresses<P: Packet>(
        packet: &mut P,
        network: u32,
        src: Self,
        dst: Self,
        hop: bool,
    ) -> Result<(), Refused> {
        let base = header(packet, network).ok_or(Refused)?;
        if hop {
            set(base, ipv6::HOP_LIMIT, field::<u8>(base, ipv6::HOP_LIMIT).wrapping_sub(1));
        }
        set(base, ipv6::SRC, src.0);
        set(base, ipv6::DST, dst.0);
        Ok(())
    }

    #[inline(always)]
    fn judge(place: u64, peer: Self, what: u32) -> u32 {
        let [a, b, c, d] = peer.0;
        judge_v6(place, pair(a, b), pair(c, d), what)
    }

    #[inline(always)]
    fn standing(ifindex: u32, src: Self) -> u32 {
        let [a, b, c, d] = src.0;
        standing_v6(ifindex, pair(a, b), pair(c, d))
    }

    #[inline(always)]
    fn kind(icmp_type: u8) -> Kind {
        match icmp_type {
            icmp::v6::ROUTER_SOLICITATION..=icmp::v6::REDIRECT
            | icmp::v6::LISTENER_QUERY..=icmp::v6::LISTENER_DONE
            | icmp::v6::LISTENER_REPORT => Kind::Neighbour,
            icmp::v6::ECHO_REPLY => Kind::Answer,
            _ if Self::is_error(icmp_type) => Kind::Error,
            _ => Kind::Question,
        }
    }

    #[inline(always)]
    fn is_on_link_only(self) -> bool {
        // fe80::/10, or the address that an interface has while it asks for one.
        let is_local = self.0[0] & 0xffc0_0000_u32.to_be() == 0xfe80_0000_u32.to_be();
        is_local || self == Self::default()
    }

    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        (icmp::v6::UNREACHABLE..=icmp::v6::PARAMETER_PROBLEM).contains(&icmp_type)
    }

    #[inline(always)]
    fn port_unreachable() -> (u8, u8) {
        (icmp::v6::UNREACHABLE, icmp::v6::CODE_PORT)
    }

    #[inline(always)]
    fn write_length<P: Packet>(packet: &mut P, network: u32, end: u32) -> Result<(), Refused> {
        let base = header(packet, network).ok_or(Refused)?;
        let len = end.wrapping_sub(network + ipv6::LEN) as u16;
        set(base, ipv6::PAYLOAD_LEN, len.to_be());
        Ok(())
    }

    #[inline(always)]
    fn pseudo_header(src: Self, dst: Self, length: u32, proto: u8) -> Difference {
        let mut sum = Difference::NONE.word(length.to_be()).word(u32::from(proto).to_be());
        for (src, dst) in src.0.into_iter().zip(dst.0) {
            sum = sum.word(src).word(dst);
        }
        sum
    }

    #[inline(always)]
    fn write_answer_header<P: Packet>(
        packet: &mut P,
        src: Self,
        dst: Self,
        payload: u32,
    ) -> Result<Difference, Refused> {
        let base =
            at::<[u8; ipv6::LEN as usize]>(packet, ethernet::LEN).ok_or(Refused)?.cast::<u8>();
        set(base, ipv6::VERSION, 0x6000_0000_u32.to_be());
        set(base, ipv6::PAYLOAD_LEN, (payload as u16).to_be());
        set(base, ipv6::NEXT_HEADER, proto::ICMPV6);
        set(base, ipv6::HOP_LIMIT, 64_u8);
        set(base, ipv6::SRC, src.0);
        set(base, ipv6::DST, dst.0);
        // RFC 4443 2.3: the checksum covers a pseudo-header.
        Ok(Self::pseudo_header(src, dst, payload, proto::ICMPV6))
    }
}

#[inline(always)]
fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The fixed header.
#[inline(always)]
fn header<P: Packet>(packet: &P, network: u32) -> Option<*mut u8> {
    at::<[u8; ipv6::LEN as usize]>(packet, network).map(|header| header.cast())
}
