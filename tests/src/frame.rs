// SPDX-License-Identifier: Apache-2.0
//! Frames as values: built to bytes with right checksums, and parsed back with checksums checked.

use std::net::{IpAddr, SocketAddr};

/// IP protocol numbers.
pub use pintle_abi::addr::proto;

/// TCP flags.
pub mod flag {
    /// FIN.
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 2;
    /// RST.
    pub const RST: u8 = 4;
    /// ACK.
    pub const ACK: u8 = 16;
}

/// Types of SCTP chunks.
pub mod chunk {
    /// DATA.
    pub const DATA: u8 = 0;
    /// INIT.
    pub const INIT: u8 = 1;
    /// INIT ACK.
    pub const INIT_ACK: u8 = 2;
    /// ABORT.
    pub const ABORT: u8 = 6;
    /// SHUTDOWN.
    pub const SHUTDOWN: u8 = 7;
    /// SHUTDOWN ACK.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// COOKIE ECHO.
    pub const COOKIE_ECHO: u8 = 10;
    /// COOKIE ACK.
    pub const COOKIE_ACK: u8 = 11;
    /// SHUTDOWN COMPLETE.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// The initiate tag of every INIT and INIT ACK.
pub const INITIATE_TAG: u32 = 0x0102_0304;

/// What a TCP frame carries unless it says otherwise.
const NUMBERS: (u32, u32, u16) = (1, 2, 0xffff);

/// The protocols whose headers are read and written.
const HEADERS: [u8; 3] = [proto::TCP, proto::UDP, proto::SCTP];

/// Position of a frame in a fragmented datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// Offset in bytes, a multiple of 8.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

/// A frame: Ethernet, IPv4 or IPv6, and TCP, UDP, SCTP or something opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Source; the port is 0 where there is none.
    pub src: SocketAddr,
    /// Destination.
    pub dst: SocketAddr,
    /// IP protocol number.
    pub proto: u8,
    /// TCP flags.
    pub flags: u8,
    /// TCP sequence number, acknowledgment number and window; of SCTP only the first, the tag.
    pub numbers: (u32, u32, u16),
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 options, padded to 4 bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: type and body (without next header and length), in order.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Position in a fragmented datagram.
    pub fragment: Option<Fragment>,
    /// UDP and SCTP: the checksum is absent (0).
    pub no_checksum: bool,
    /// The payload is all that follows the network header, whatever the protocol.
    pub opaque: bool,
    /// What follows the transport header, of SCTP the chunks; of a later fragment or another protocol, everything.
    pub payload: Vec<u8>,
}

/// A TCP frame.
pub fn tcp(src: SocketAddr, dst: SocketAddr, flags: u8) -> Frame {
    Frame { flags, ..frame(src, dst, proto::TCP) }
}

/// A UDP frame with a small payload.
pub fn udp(src: SocketAddr, dst: SocketAddr) -> Frame {
    Frame { payload: b"query".to_vec(), ..frame(src, dst, proto::UDP) }
}

/// An SCTP frame with one chunk, which is as short as it can be.
pub fn sctp(src: SocketAddr, dst: SocketAddr, kind: u8) -> Frame {
    let tag = if kind == chunk::INIT { 0 } else { 0xa0b0_c0d0 };
    let body = match kind {
        chunk::INIT | chunk::INIT_ACK => {
            let [tag, window, streams, sequence] =
                [INITIATE_TAG, 65_536, 0x000a_000a, 1].map(u32::to_be_bytes);
            [tag, window, streams, sequence].concat()
        }
        _ => Vec::new(),
    };
    let mut payload = vec![kind, 0];
    payload.extend(((4 + body.len()) as u16).to_be_bytes());
    payload.extend(body);
    Frame { numbers: (tag, 0, 0), payload, ..frame(src, dst, proto::SCTP) }
}

/// A frame of any protocol, without payload.
pub fn frame(src: SocketAddr, dst: SocketAddr, proto: u8) -> Frame {
    Frame {
        src,
        dst,
        proto,
        flags: 0,
        numbers: NUMBERS,
        ttl: 64,
        options: Vec::new(),
        extensions: Vec::new(),
        fragment: None,
        no_checksum: false,
        opaque: false,
        payload: Vec::new(),
    }
}

/// An ICMP message: type, code, the four bytes behind the checksum, and what follows.
pub fn icmp(src: IpAddr, dst: IpAddr, kind: (u8, u8), rest: u32, body: &[u8]) -> Frame {
    let proto = if src.is_ipv6() { proto::ICMPV6 } else { proto::ICMP };
    let mut frame = frame(SocketAddr::new(src, 0), SocketAddr::new(dst, 0), proto);
    frame.payload.extend([kind.0, kind.1, 0, 0]);
    frame.payload.extend(rest.to_be_bytes());
    frame.payload.extend(body);
    let sum = checksum(&[&frame.icmp_pseudo_header(), &frame.payload]);
    frame.payload[2..4].copy_from_slice(&sum.to_be_bytes());
    frame
}

impl Frame {
    /// The same frame with another TTL.
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// The same frame with a payload.
    pub fn payload(self, payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: payload.into(), ..self }
    }

    /// The same frame with IPv4 options.
    pub fn options(self, options: impl Into<Vec<u8>>) -> Self {
        Self { options: options.into(), ..self }
    }

    /// The datagram in pieces of `size` bytes.
    pub fn fragments(&self, id: u32, size: usize) -> Vec<Self> {
        let transport = self.transport();
        let count = transport.len().div_ceil(size);
        let piece = |(index, bytes): (usize, &[u8])| {
            let offset = (index * size) as u16;
            let fragment = Some(Fragment { id, offset, more: index + 1 < count });
            Self { fragment, opaque: true, payload: bytes.to_vec(), ..self.clone() }
        };
        transport.chunks(size).enumerate().map(piece).collect()
    }

    /// What a router quotes of it: the network header and `len` bytes behind it.
    pub fn quote(&self, len: usize) -> Vec<u8> {
        let header = if self.src.is_ipv6() { 40 } else { 20 + self.options.len() };
        let bytes = self.bytes();
        bytes[14..bytes.len().min(14 + header + len)].to_vec()
    }

    fn has_transport(&self) -> bool {
        !self.opaque && self.fragment.as_ref().is_none_or(|fragment| fragment.offset == 0)
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let transport = self.transport();
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(_), IpAddr::V4(_)) => self.push_v4(&mut frame, &transport),
            _ => self.push_v6(&mut frame, &transport),
        }
        frame
    }

    /// The same with the sum of the pseudo-header in place of the transport checksum, which a device is to
    /// complete (`CHECKSUM_PARTIAL`). TCP or UDP without options.
    pub fn partial_bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes();
        let header = if self.src.is_ipv6() { 54 } else { 34 };
        let field = header + if self.proto == proto::TCP { 16 } else { 6 };
        let mut pseudo = Vec::new();
        push_ip(&mut pseudo, self.src.ip());
        push_ip(&mut pseudo, self.dst.ip());
        pseudo.extend(((bytes.len() - header) as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, self.proto]);
        bytes[field..field + 2].copy_from_slice(&(!checksum(&[&pseudo])).to_be_bytes());
        bytes
    }

    fn push_v4(&self, frame: &mut Vec<u8>, transport: &[u8]) {
        frame.extend([0x08, 0x00]);
        let header_len = 20 + self.options.len();
        let mut header = vec![0x40 | (header_len / 4) as u8, 0];
        header.extend(((header_len + transport.len()) as u16).to_be_bytes());
        let (id, flags) = self.fragment.as_ref().map_or((0, 0), |fragment| {
            (fragment.id as u16, (fragment.offset / 8) | if fragment.more { 0x2000 } else { 0 })
        });
        header.extend(id.to_be_bytes());
        header.extend(flags.to_be_bytes());
        header.extend([self.ttl, self.proto, 0, 0]);
        push_ip(&mut header, self.src.ip());
        push_ip(&mut header, self.dst.ip());
        header.extend(&self.options);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(header);
        frame.extend(transport);
    }

    fn push_v6(&self, frame: &mut Vec<u8>, transport: &[u8]) {
        frame.extend([0x86, 0xdd]);
        let mut chain = self.extensions.clone();
        if let Some(fragment) = &self.fragment {
            let mut body = (fragment.offset | u16::from(fragment.more)).to_be_bytes().to_vec();
            body.extend(fragment.id.to_be_bytes());
            chain.push((44, body));
        }
        let mut extensions = Vec::new();
        for (index, (kind, body)) in chain.iter().enumerate() {
            let next = chain.get(index + 1).map_or(self.proto, |(kind, _)| *kind);
            let length = if *kind == 44 { 0 } else { ((body.len() + 2) / 8 - 1) as u8 };
            extensions.extend([next, length]);
            extensions.extend(body);
        }
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(((extensions.len() + transport.len()) as u16).to_be_bytes());
        frame.extend([chain.first().map_or(self.proto, |(kind, _)| *kind), self.ttl]);
        push_ip(frame, self.src.ip());
        push_ip(frame, self.dst.ip());
        frame.extend(extensions);
        frame.extend(transport);
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.has_transport() || !HEADERS.contains(&self.proto) {
            return self.payload.clone();
        }
        bytes.extend(self.src.port().to_be_bytes());
        bytes.extend(self.dst.port().to_be_bytes());
        if self.proto == proto::SCTP {
            bytes.extend(self.numbers.0.to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(&self.payload);
            let sum = if self.no_checksum { 0 } else { crc32c(&bytes) };
            bytes[8..12].copy_from_slice(&sum.to_le_bytes());
            return bytes;
        }
        let at = if self.proto == proto::TCP {
            let (sequence, acknowledgment, window) = self.numbers;
            bytes.extend(sequence.to_be_bytes());
            bytes.extend(acknowledgment.to_be_bytes());
            bytes.extend([0x50, self.flags]);
            bytes.extend(window.to_be_bytes());
            bytes.extend([0; 4]);
            16
        } else {
            bytes.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            bytes.extend([0, 0]);
            6
        };
        bytes.extend(&self.payload);
        if !self.no_checksum {
            let sum = checksum(&[&self.pseudo_header(bytes.len()), &bytes]);
            let sum = if sum == 0 && self.proto == proto::UDP { 0xffff } else { sum };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// Covered by the checksum of ICMPv6, not of ICMP.
    fn icmp_pseudo_header(&self) -> Vec<u8> {
        match self.proto {
            proto::ICMPV6 => self.pseudo_header(self.payload.len()),
            _ => Vec::new(),
        }
    }

    fn pseudo_header(&self, len: usize) -> Vec<u8> {
        let mut header = Vec::new();
        push_ip(&mut header, self.src.ip());
        push_ip(&mut header, self.dst.ip());
        header.extend((len as u32).to_be_bytes());
        header.extend([0, 0, 0, self.proto]);
        header
    }

    /// Reads a frame; panics with the reason if a checksum or a length is wrong.
    pub fn parse(frame: &[u8]) -> Self {
        let parsed = match frame[12..14] {
            [0x08, 0x00] => parse_v4(&frame[14..]),
            [0x86, 0xdd] => parse_v6(&frame[14..]),
            _ => panic!("EtherType {:02x?}", &frame[12..14]),
        };
        let again = parsed.bytes();
        assert!(
            again[14..] == frame[14..again.len()],
            "checksum or length wrong in {parsed:?}\n is {:02x?}\nnot {:02x?}",
            &frame[14..],
            &again[14..]
        );
        if matches!(parsed.proto, proto::ICMP | proto::ICMPV6) && parsed.fragment.is_none() {
            let sum = checksum(&[&parsed.icmp_pseudo_header(), &parsed.payload]);
            assert_eq!(sum, 0, "ICMP checksum wrong in {parsed:?}");
        }
        parsed
    }
}

fn parse_v4(ip: &[u8]) -> Frame {
    let header_len = usize::from(ip[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let flags = u16::from_be_bytes([ip[6], ip[7]]);
    let fragment = (flags & 0x3fff != 0).then(|| Fragment {
        id: u32::from(u16::from_be_bytes([ip[4], ip[5]])),
        offset: (flags & 0x1fff) * 8,
        more: flags & 0x2000 != 0,
    });
    let address =
        |at: usize| IpAddr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap_or_default());
    let mut frame = Frame {
        src: SocketAddr::new(address(12), 0),
        dst: SocketAddr::new(address(16), 0),
        proto: ip[9],
        flags: 0,
        numbers: NUMBERS,
        ttl: ip[8],
        options: ip[20..header_len].to_vec(),
        extensions: Vec::new(),
        fragment,
        no_checksum: false,
        opaque: false,
        payload: Vec::new(),
    };
    parse_transport(&mut frame, &ip[header_len..total]);
    frame
}

fn parse_v6(ip: &[u8]) -> Frame {
    let end = 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    let address =
        |at: usize| IpAddr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap_or_default());
    let mut frame = Frame {
        src: SocketAddr::new(address(8), 0),
        dst: SocketAddr::new(address(24), 0),
        proto: ip[6],
        flags: 0,
        numbers: NUMBERS,
        ttl: ip[7],
        options: Vec::new(),
        extensions: Vec::new(),
        fragment: None,
        no_checksum: false,
        opaque: false,
        payload: Vec::new(),
    };
    let mut at = 40;
    while matches!(frame.proto, 0 | 43 | 44 | 60) {
        let next = ip[at];
        if frame.proto == 44 {
            let offset = u16::from_be_bytes([ip[at + 2], ip[at + 3]]);
            let id = u32::from_be_bytes([ip[at + 4], ip[at + 5], ip[at + 6], ip[at + 7]]);
            frame.fragment = Some(Fragment { id, offset: offset & !7, more: offset & 1 != 0 });
            at += 8;
        } else {
            let len = (usize::from(ip[at + 1]) + 1) * 8;
            frame.extensions.push((frame.proto, ip[at + 2..at + len].to_vec()));
            at += len;
        }
        frame.proto = next;
    }
    parse_transport(&mut frame, &ip[at..end]);
    frame
}

fn parse_transport(frame: &mut Frame, bytes: &[u8]) {
    let header = match frame.proto {
        proto::TCP if frame.has_transport() => 20,
        proto::UDP if frame.has_transport() => 8,
        proto::SCTP if frame.has_transport() => 12,
        _ => {
            frame.payload = bytes.to_vec();
            return;
        }
    };
    frame.src.set_port(u16::from_be_bytes([bytes[0], bytes[1]]));
    frame.dst.set_port(u16::from_be_bytes([bytes[2], bytes[3]]));
    let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
    if frame.proto == proto::SCTP {
        frame.numbers = (word(4), 0, 0);
        frame.no_checksum = word(8) == 0;
    } else if frame.proto == proto::TCP {
        frame.flags = bytes[13];
        frame.numbers = (word(4), word(8), u16::from_be_bytes([bytes[14], bytes[15]]));
    } else {
        frame.no_checksum = bytes[6..8] == [0, 0];
    }
    frame.payload = bytes[header..].to_vec();
}

fn push_ip(bytes: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => bytes.extend(ip.octets()),
    }
}

/// CRC32c (RFC 9260 appendix A), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The Internet checksum (RFC 1071) over consecutive pieces; only the last may be odd.
pub fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for piece in pieces {
        for pair in piece.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
