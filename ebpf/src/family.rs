// SPDX-License-Identifier: Apache-2.0
//! What differs between IPv4 and IPv6, and nothing else: header layout, maps, checksum rules.

use core::hash::Hash as KeyHash;

use pintle_abi::{
    addr::{Ordered, V4, V6, proto},
    plain::Plain,
    source_range::Prefix,
};

use crate::{
    checksum::Difference,
    packet::{Headers, Packet, Parsed, Refused, Shape, at, ensure, field, read},
    policy::other::Kind,
    wire::{sctp, tcp, udp},
};

pub mod extensions;
pub mod tables;
mod v4;
mod v6;

pub use tables::{FlowMaps, Tables};

/// Names a family where a value is needed and the packet has not been read yet.
#[derive(Clone, Copy)]
pub struct Version<F>(core::marker::PhantomData<F>);

impl<F> Version<F> {
    /// The only value.
    pub const THIS: Self = Self(core::marker::PhantomData);
}

/// A protocol that has flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, which has programs of its own.
    Sctp,
}

impl Transport {
    /// The transport of a protocol number, `None` if it has no flows.
    #[inline(always)]
    pub fn of(protocol: u8) -> Option<Self> {
        match protocol {
            proto::SCTP => Some(Self::Sctp),
            _ => Self::common(protocol),
        }
    }

    /// The same of the protocols that the common programs deal with.
    #[inline(always)]
    pub fn common(protocol: u8) -> Option<Self> {
        match protocol {
            proto::TCP => Some(Self::Tcp),
            proto::UDP => Some(Self::Udp),
            _ => None,
        }
    }
}

/// An address family. The ABI structs that it instantiates are [`Plain`], as its bounds demand.
pub trait Family: Tables + Ordered + Default + Eq + KeyHash + Plain {
    /// Protocol number of the family's ICMP.
    const ICMP: u8;
    /// Length of the shortest header, which is also where quoted packets are read from.
    const MIN_HEADER_LEN: u32;

    /// The kernel's number of the family (`AF_INET`, `AF_INET6`).
    const ADDRESS_FAMILY: u8;
    /// Place of the source address in the header.
    const SRC: u32;
    /// Place of the destination address in the header.
    const DST: u32;
    /// Place of the packet's length in the header.
    const TOTAL_LEN: u32;
    /// Bytes that this length does not count.
    const UNCOUNTED: u32;

    /// The address as the kernel's interfaces for both families take it: in the first words.
    fn words(self) -> [u32; 4];
    /// Reads the headers of a packet whose network header starts at `network`.
    fn parse<P: Packet>(packet: &mut P, network: u32, shape: Shape) -> Parsed<Self>;
    /// Difference of the addresses for a checksum that covers them.
    fn difference(self, new: Self) -> Difference;
    /// 1 if a prefix contains the address, else 0; without branches, see [`Ordered`].
    fn is_within(self, prefix: &Prefix<Self>) -> u64;
    /// 1 for an address that never leaves a host, else 0.
    fn is_loopback(self) -> u64;
    /// Mixes the address into a hash.
    fn mix(self, hash: u64) -> u64;

    /// Writes both addresses into the header at `network`, and the TTL one lower if `hop`; the
    /// header's own checksum follows.
    fn write_addresses<P: Packet>(
        packet: &mut P,
        network: u32,
        src: Self,
        dst: Self,
        hop: bool,
    ) -> Result<(), Refused>;

    /// Asks a pod's policies about a peer; place and what as in [`crate::policy::verdict::Question`].
    fn judge(place: u64, peer: Self, what: u32) -> u32;
    /// What is known of a packet from its pod alone, see [`crate::policy::standing`].
    fn standing(ifindex: u32, src: Self) -> u32;
    /// What an ICMP type is to policies.
    fn kind(icmp_type: u8) -> Kind;
    /// Whether an address is one that any interface may use, only on its link.
    fn is_on_link_only(self) -> bool;
    /// Whether an ICMP type is an error that quotes a packet.
    fn is_error(icmp_type: u8) -> bool;
    /// Type and code of "port unreachable".
    fn port_unreachable() -> (u8, u8);
    /// Writes the length of a packet that ends at `end`, a place in the frame.
    fn write_length<P: Packet>(packet: &mut P, network: u32, end: u32) -> Result<(), Refused>;
    /// Sum of the pseudo-header that transport checksums cover (RFC 9293 3.1, RFC 8200 8.1).
    fn pseudo_header(src: Self, dst: Self, length: u32, proto: u8) -> Difference;
    /// Writes the header of an answer from `src` to `dst` at the start of the frame's network
    /// header, for a payload of `payload` bytes; returns the part of the ICMP checksum that comes
    /// from the pseudo-header.
    fn write_answer_header<P: Packet>(
        packet: &mut P,
        src: Self,
        dst: Self,
        payload: u32,
    ) -> Result<Difference, Refused>;
}

/// Makes the transport header at `transport` readable; of SCTP no more than the common header, for
/// what follows may be in buffers of its own, one for each packet that is still to be cut: moving a
/// byte out of one would damage its chunk. `protocol` is where the protocol and another byte stand,
/// the protocol at `index` of them.
#[inline(always)]
fn ensure_transport<P: Packet>(packet: &mut P, transport: u32, protocol: u32, index: usize) {
    if packet.start() + (transport + tcp::MIN_LEN) as usize <= packet.end() {
        return;
    }
    // One byte cannot be read alone: the verifier learns nothing from a check for one.
    let is_sctp = read::<[u8; 2]>(packet, protocol).is_some_and(|pair| pair[index] == proto::SCTP);
    ensure(packet, transport + if is_sctp { sctp::LEN } else { tcp::MIN_LEN });
}

/// Reads ports and flags of a TCP or UDP header; `len` is what the network header leaves for it.
#[inline(always)]
fn read_transport<A, P: Packet>(packet: &P, headers: &mut Headers<A>, len: u32) {
    let read = match headers.proto {
        proto::TCP => read_tcp(packet, headers),
        proto::UDP => read_udp(packet, headers),
        _ => return,
    };
    match read {
        Some(shortest) if len >= shortest => {}
        _ => headers.malformed = true,
    }
}

#[inline(always)]
fn read_tcp<A, P: Packet>(packet: &P, headers: &mut Headers<A>) -> Option<u32> {
    let header = at::<[u8; tcp::MIN_LEN as usize]>(packet, headers.transport)?.cast::<u8>();
    headers.tuple.src_port = field(header, 0);
    headers.tuple.dst_port = field(header, 2);
    headers.tcp_flags = field(header, tcp::FLAGS);
    Some(tcp::MIN_LEN)
}

#[inline(always)]
fn read_udp<A, P: Packet>(packet: &P, headers: &mut Headers<A>) -> Option<u32> {
    let header = at::<[u8; udp::LEN as usize]>(packet, headers.transport)?.cast::<u8>();
    headers.tuple.src_port = field(header, 0);
    headers.tuple.dst_port = field(header, 2);
    Some(udp::LEN)
}

/// Reads the ports of a packet quoted by an ICMP error, which is cut off anywhere behind them.
#[inline(always)]
pub fn read_quoted_ports<A, P: Packet>(packet: &P, headers: &mut Headers<A>) -> Option<()> {
    let header = at::<[u16; 2]>(packet, headers.transport)?.cast::<u8>();
    headers.tuple.src_port = field(header, 0);
    headers.tuple.dst_port = field(header, 2);
    Some(())
}

const _: () = {
    const fn family<A: Family>() {}
    family::<V4>();
    family::<V6>();
};
