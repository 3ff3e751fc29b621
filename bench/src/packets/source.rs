// SPDX-License-Identifier: Apache-2.0
//! A source of datagrams that costs next to nothing: an XDP program, run by `BPF_PROG_TEST_RUN` in live
//! mode (kernel documentation, `bpf/bpf_prog_run.rst`), lays down a frame and sends it out of a device.

use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

use crate::bpf::{self, Kind, Single, bpf, code, pair};

/// Length of a frame: Ethernet, IPv4, UDP and 22 bytes.
const LENGTH: usize = 64;
/// Offset of the UDP source port, which tells flows apart.
const SOURCE_PORT: usize = 34;
/// The first of them.
const FIRST_PORT: u32 = 20_000;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// The headers of a frame.
pub struct Headers {
    /// Source and destination MAC.
    pub macs: [[u8; 6]; 2],
    /// Source address.
    pub source: [u8; 4],
    /// Destination address and port.
    pub destination: SocketAddrV4,
}

impl Headers {
    /// The frame, without a UDP checksum.
    fn frame(&self) -> [u8; LENGTH] {
        let mut frame = [0; LENGTH];
        frame[..6].copy_from_slice(&self.macs[1]);
        frame[6..12].copy_from_slice(&self.macs[0]);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let ip = &mut frame[14..34];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&(LENGTH as u16 - 14).to_be_bytes());
        ip[6] = 0x40;
        ip[8..10].copy_from_slice(&[64, libc::IPPROTO_UDP as u8]);
        ip[12..16].copy_from_slice(&self.source);
        ip[16..20].copy_from_slice(&self.destination.ip().octets());
        let checksum = checksum(ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame[36..38].copy_from_slice(&self.destination.port().to_be_bytes());
        frame[38..40].copy_from_slice(&(LENGTH as u16 - 34).to_be_bytes());
        frame
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

/// A source whose datagrams belong to a number of flows, one after the other.
pub struct Source {
    program: OwnedFd,
    frame: [u8; LENGTH],
    _counter: Single,
}

impl Source {
    /// Sends out of the device of that index, in the namespace in which it runs.
    pub fn new(headers: &Headers, flows: u32, ifindex: u32) -> Result<Self> {
        let counter = Single::counter()?;
        let frame = headers.frame();
        let program = bpf::load(Kind::Xdp, &instructions(&frame, &counter, flows, ifindex))?;
        Ok(Self { program, frame, _counter: counter })
    }

    /// Sends so many, from the calling thread's namespace.
    pub fn send(&self, packets: u32) -> Result<()> {
        let mut attributes = [0; 18];
        attributes[0] = pair(self.program.as_raw_fd() as u32, 0);
        attributes[1] = pair(LENGTH as u32, 0);
        attributes[2] = self.frame.as_ptr() as u64;
        attributes[4] = pair(packets, 0);
        attributes[8] = pair(BPF_F_TEST_XDP_LIVE_FRAMES, 0);
        bpf(bpf::BPF_PROG_TEST_RUN, &mut attributes).context("send live frames")?;
        Ok(())
    }
}

/// Every frame is laid down whole: live frames are used again as the last receiver left them.
/// Registers: r6 the context, r7 the frame, r8 the number of the frame.
fn instructions(frame: &[u8], counter: &Single, flows: u32, ifindex: u32) -> Vec<u64> {
    let mut body = bpf::count(counter.fd());
    for (index, word) in frame.chunks_exact(4).enumerate() {
        let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        body.push(code(0x62, 7, 0, index as i16 * 4, word as i32));
    }
    body.extend([code(0xbf, 1, 8, 0, 0), code(0x97, 1, 0, 0, flows as i32)]);
    body.extend([code(0x07, 1, 0, 0, FIRST_PORT as i32), code(0xdc, 1, 0, 0, 16)]);
    body.push(code(0x6b, 7, 1, SOURCE_PORT as i16, 0));
    body.extend([code(0xb7, 1, 0, 0, ifindex as i32), code(0xb7, 2, 0, 0, 0)]);
    body.extend([code(0x85, 0, 0, 0, 23), code(0x95, 0, 0, 0, 0)]);
    let mut all = vec![code(0xbf, 6, 1, 0, 0), code(0x61, 7, 6, 0, 0), code(0x61, 2, 6, 4, 0)];
    all.extend([code(0xbf, 1, 7, 0, 0), code(0x07, 1, 0, 0, LENGTH as i32)]);
    all.push(code(0x2d, 1, 2, body.len() as i16, 0));
    all.extend(body);
    // A frame that is too short, which there is none of: XDP_ABORTED.
    all.extend([code(0xb7, 0, 0, 0, 0), code(0x95, 0, 0, 0, 0)]);
    all
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
}
