// SPDX-License-Identifier: Apache-2.0
//! The least that a program of XDP can do with a packet for somebody else: it writes fixed values over all
//! that a translation changes, and sends the frame back. Nothing is looked up.

use std::os::fd::OwnedFd;

use anyhow::Result;
use pintle_lab::bpf::{self, Kind, code};

const XDP_TX: i32 = 3;
/// Where IPv4 and IPv6 have what changes: TTL and checksum, addresses, ports.
const V4: std::ops::Range<usize> = 22..38;
const V6: std::ops::Range<usize> = 18..58;

/// The program for frames like this one.
pub fn program(frame: &[u8]) -> Result<OwnedFd> {
    let places = if frame[12..14] == [0x08, 0x00] { V4 } else { V6 };
    let mut body = Vec::new();
    // Back to whom it came from.
    let swapped = [&frame[6..12], &frame[..6]].concat();
    let mut lay = |at: usize, bytes: &[u8]| {
        let word = bytes.iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        body.push(code(0x62, 7, 0, at as i16, word as i32));
    };
    swapped.chunks(4).enumerate().for_each(|(index, bytes)| lay(index * 4, bytes));
    // Other values than the frame's, whatever they are.
    for at in places.step_by(4) {
        let bytes: Vec<u8> = frame[at..at + 4].iter().map(|byte| !byte).collect();
        lay(at, &bytes);
    }
    body.extend([code(0xb7, 0, 0, 0, XDP_TX), code(0x95, 0, 0, 0, 0)]);
    let [start, end] = Kind::Xdp.frame();
    let mut all =
        vec![code(0xbf, 6, 1, 0, 0), code(0x61, 7, 6, start, 0), code(0x61, 2, 6, end, 0)];
    all.extend([code(0xbf, 1, 7, 0, 0), code(0x07, 1, 0, 0, 64)]);
    all.push(code(0x2d, 1, 2, body.len() as i16, 0));
    all.extend(body);
    // A frame that is too short, which there is none of: XDP_ABORTED.
    all.extend([code(0xb7, 0, 0, 0, 0), code(0x95, 0, 0, 0, 0)]);
    bpf::load(Kind::Xdp, &all)
}
