// SPDX-License-Identifier: Apache-2.0
//! A source of datagrams that costs next to nothing: an XDP program, run by `BPF_PROG_TEST_RUN` in live
//! mode (kernel documentation, `bpf/bpf_prog_run.rst`), lays down a frame and sends it out of a device.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

use crate::frame::{Frame, ports_at};
use pintle_lab::bpf::{self, Kind, Single, bpf, code, pair};

/// Length of a frame: Ethernet, IPv4, UDP and 22 bytes.
const LENGTH: usize = 64;
/// The first of the source ports, which tell flows apart.
const FIRST_PORT: u32 = 20_000;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// A source whose datagrams belong to a number of flows, one after the other.
pub struct Source {
    program: OwnedFd,
    frame: Vec<u8>,
    _counter: Single,
}

impl Source {
    /// Sends out of the device of that index, in the namespace in which it runs.
    pub fn new(frame: &Frame, flows: u32, ifindex: u32) -> Result<Self> {
        let counter = Single::counter()?;
        let (bytes, port) = (frame.bytes(LENGTH), ports_at(frame.src.ip()));
        let program = bpf::load(Kind::Xdp, &instructions(&bytes, port, &counter, flows, ifindex))?;
        Ok(Self { program, frame: bytes, _counter: counter })
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
fn instructions(frame: &[u8], port: usize, counter: &Single, flows: u32, ifindex: u32) -> Vec<u64> {
    let mut body = bpf::count(counter.fd());
    for (index, word) in frame.chunks_exact(4).enumerate() {
        let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        body.push(code(0x62, 7, 0, index as i16 * 4, word as i32));
    }
    body.extend([code(0xbf, 1, 8, 0, 0), code(0x97, 1, 0, 0, flows as i32)]);
    body.extend([code(0x07, 1, 0, 0, FIRST_PORT as i32), code(0xdc, 1, 0, 0, 16)]);
    body.push(code(0x6b, 7, 1, port as i16, 0));
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
