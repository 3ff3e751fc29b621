// SPDX-License-Identifier: Apache-2.0
//! Ethernet frames for the measurement: as much of a packet as the programs read.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::addr::proto;

/// Length of the Ethernet header.
pub const ETHERNET: usize = 14;
const TCP: usize = 20;
const UDP: usize = 8;

/// What follows the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP, a first segment.
    TcpFirst,
    /// TCP, a segment of a connection.
    Tcp,
}

impl Transport {
    fn protocol(self) -> u8 {
        if self == Self::Udp { proto::UDP } else { proto::TCP }
    }
}

/// A packet; everything that is not said here is usual.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Source and destination MAC.
    pub macs: [[u8; 6]; 2],
    /// Source address and port.
    pub src: SocketAddr,
    /// Destination address and port, of the same family.
    pub dst: SocketAddr,
    /// The transport.
    pub transport: Transport,
    /// The transport's checksum. Nobody verifies it on the way: translating corrects it by differences,
    /// and leaves alone one of UDP that is 0.
    pub checksum: u16,
}

/// Where the addresses of a frame begin, the source first.
pub fn addresses_at(ip: IpAddr) -> usize {
    ETHERNET + if ip.is_ipv4() { 12 } else { 8 }
}

/// Where the source port of a frame is, the destination's behind it.
pub fn ports_at(ip: IpAddr) -> usize {
    ETHERNET + if ip.is_ipv4() { 20 } else { 40 }
}

/// Where the TTL of a frame is.
pub fn ttl_at(ip: IpAddr) -> usize {
    ETHERNET + if ip.is_ipv4() { 8 } else { 7 }
}

impl Frame {
    /// The bytes; the payload fills it to a length of at least 74.
    pub fn bytes(&self, len: usize) -> Vec<u8> {
        let mut frame = vec![0; len];
        frame[..6].copy_from_slice(&self.macs[1]);
        frame[6..12].copy_from_slice(&self.macs[0]);
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame[12..14].copy_from_slice(&[0x08, 0x00]);
                self.ipv4(&mut frame[ETHERNET..], src.octets(), dst.octets());
            }
            (src, dst) => {
                frame[12..14].copy_from_slice(&[0x86, 0xdd]);
                self.ipv6(&mut frame[ETHERNET..], v6(src), v6(dst));
            }
        }
        self.transport(&mut frame[ports_at(self.src.ip())..]);
        frame
    }

    fn ipv4(&self, ip: &mut [u8], src: [u8; 4], dst: [u8; 4]) {
        let len = ip.len() as u16;
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&len.to_be_bytes());
        ip[6] = 0x40;
        ip[8..10].copy_from_slice(&[64, self.transport.protocol()]);
        ip[12..16].copy_from_slice(&src);
        ip[16..20].copy_from_slice(&dst);
        let checksum = checksum(&ip[..20]);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    }

    fn ipv6(&self, ip: &mut [u8], src: [u8; 16], dst: [u8; 16]) {
        let len = (ip.len() - 40) as u16;
        ip[0] = 0x60;
        ip[4..6].copy_from_slice(&len.to_be_bytes());
        ip[6..8].copy_from_slice(&[self.transport.protocol(), 64]);
        ip[8..24].copy_from_slice(&src);
        ip[24..40].copy_from_slice(&dst);
    }

    fn transport(&self, header: &mut [u8]) {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        let len = header.len() as u16;
        header[..2].copy_from_slice(&self.src.port().to_be_bytes());
        header[2..4].copy_from_slice(&self.dst.port().to_be_bytes());
        let checksum_at = match self.transport {
            Transport::Udp => {
                header[4..6].copy_from_slice(&len.to_be_bytes());
                UDP - 2
            }
            Transport::Tcp | Transport::TcpFirst => {
                let first = self.transport == Transport::TcpFirst;
                header[12] = (TCP as u8 / 4) << 4;
                header[13] = if first { SYN } else { ACK };
                TCP - 4
            }
        };
        header[checksum_at..checksum_at + 2].copy_from_slice(&self.checksum.to_be_bytes());
    }
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let words =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071's readers: a header whose checksum is b861.
    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
    }

    #[test]
    fn offsets_are_those_of_the_fields() {
        for (src, dst) in [("10.0.0.1:4096", "10.0.0.2:80"), ("[fd00::1]:4096", "[fd00::2]:80")] {
            let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            let frame =
                Frame { macs: [[0; 6]; 2], src, dst, transport: Transport::Tcp, checksum: 1 };
            let (bytes, ip) = (frame.bytes(80), src.ip());
            assert_eq!(bytes[ttl_at(ip)], 64);
            assert_eq!(bytes[ports_at(ip)..ports_at(ip) + 4], [0x10, 0, 0, 80]);
            let halves = &bytes[addresses_at(ip)..ports_at(ip)];
            assert_eq!((halves[halves.len() / 2 - 1], halves[halves.len() - 1]), (1, 2));
        }
    }
}
