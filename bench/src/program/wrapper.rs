// SPDX-License-Identifier: Apache-2.0
//! A program around the program under measurement: it lays down the packet's original headers, then
//! jumps to the program.
//!
//! `BPF_PROG_TEST_RUN` repeats on the packet that the last run left behind, so a program that
//! translates would find its own translation from the second run on. With this in front every run
//! sees what it is meant to see, and the same around an empty program is what has to be subtracted.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result};

use pintle_lab::bpf::{self, Kind, Single, bpf, code, load_map, pair};

/// A field to lay down before each run.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Offset in the frame.
    pub offset: i16,
    /// The bytes of the field as the host's integer; 1, 2 or 4 bytes long.
    pub value: u32,
    /// Its length.
    pub size: u8,
}

/// A field that differs from run to run: it counts up and starts again, network byte order.
#[derive(Clone, Copy, Debug)]
pub struct Counting {
    /// Offset in the frame.
    pub offset: i16,
    /// 2 or 4 bytes.
    pub size: u8,
    /// The first number.
    pub base: u32,
    /// How many there are.
    pub count: u32,
}

/// The wrapper around one program, which must outlive it.
pub struct Wrapper {
    program: OwnedFd,
    counter: Single,
    _target: Single,
}

impl Wrapper {
    /// Wraps a program of a kind; `len` is the length of the frame.
    pub fn new(
        (kind, target): (Kind, RawFd),
        fields: &[Field],
        counting: &[Counting],
        len: usize,
    ) -> Result<Self> {
        let counter = Single::counter()?;
        let target = Single::program(target)?;
        let maps = (counter.fd(), target.fd());
        let program = bpf::load(kind, &instructions(kind, maps, fields, counting, len))?;
        Ok(Self { program, counter, _target: target })
    }

    /// Lets the counting fields start again.
    pub fn restart(&self) -> Result<()> {
        self.counter.set(0)
    }

    /// Runs it on a frame, with what the kernel knows of the packet.
    pub fn run(&self, frame: &[u8], context: &[u8], repeat: u32) -> Result<Ran> {
        run(self.program.as_raw_fd(), frame, context, repeat)
    }
}

/// What came of a test run.
pub struct Ran {
    /// The program's last return code.
    pub code: i32,
    /// Mean duration of a run in nanoseconds.
    pub ns: u32,
    /// The frame as the last run left it.
    pub frame: Vec<u8>,
}

/// Runs a program on a frame.
pub fn run(program: RawFd, frame: &[u8], context: &[u8], repeat: u32) -> Result<Ran> {
    let mut out = vec![0; frame.len()];
    let mut attributes = [0; 18];
    attributes[0] = pair(program as u32, 0);
    attributes[1] = pair(frame.len() as u32, out.len() as u32);
    attributes[2] = frame.as_ptr() as u64;
    attributes[3] = out.as_mut_ptr() as u64;
    attributes[4] = pair(repeat, 0);
    attributes[5] = pair(context.len() as u32, 0);
    // A length of 0 goes with no address.
    attributes[6] = if context.is_empty() { 0 } else { context.as_ptr() as u64 };
    bpf(bpf::BPF_PROG_TEST_RUN, &mut attributes).context("test run")?;
    let (code, ns) = ((attributes[0] >> 32) as i32, (attributes[4] >> 32) as u32);
    Ok(Ran { code, ns, frame: out })
}

/// Registers: r6 the context, r7 the frame, r8 the number of the run.
fn instructions(
    kind: Kind,
    (counter, programs): (RawFd, RawFd),
    fields: &[Field],
    counting: &[Counting],
    len: usize,
) -> Vec<u64> {
    let mut body = Vec::new();
    for field in fields {
        let size = match field.size {
            1 => 0x10,
            2 => 0x08,
            _ => 0x00,
        };
        body.push(code(0x62 | size, 7, 0, field.offset, field.value as i32));
    }
    if !counting.is_empty() {
        body.extend(bpf::count(counter));
    }
    for Counting { offset, size, base, count } in counting {
        body.extend([code(0xbf, 1, 8, 0, 0), code(0x97, 1, 0, 0, *count as i32)]);
        body.push(code(0x07, 1, 0, 0, *base as i32));
        let (bits, store) = if *size == 2 { (16, 0x6b) } else { (32, 0x63) };
        body.extend([code(0xdc, 1, 0, 0, bits), code(store, 7, 1, *offset, 0)]);
    }
    body.push(code(0xbf, 1, 6, 0, 0));
    body.extend(load_map(2, programs));
    body.extend([code(0xb7, 3, 0, 0, 0), code(0x85, 0, 0, 0, 12)]);
    let [start, end] = kind.frame();
    let mut all =
        vec![code(0xbf, 6, 1, 0, 0), code(0x61, 7, 6, start, 0), code(0x61, 2, 6, end, 0)];
    all.extend([code(0xbf, 1, 7, 0, 0), code(0x07, 1, 0, 0, len as i32)]);
    all.push(code(0x2d, 1, 2, body.len() as i16, 0));
    all.extend(body);
    // Not reached: TC_ACT_UNSPEC, and none of XDP's actions.
    all.extend([code(0xb7, 0, 0, 0, -1), code(0x95, 0, 0, 0, 0)]);
    all
}
