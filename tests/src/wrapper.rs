// SPDX-License-Identifier: Apache-2.0
//! A program around the program under measurement: it lays down the packet's original headers, then
//! jumps to the program.
//!
//! `BPF_PROG_TEST_RUN` repeats on the packet that the last run left behind, so a program that
//! translates would find its own translation from the second run on. With this in front every run
//! sees what it is meant to see, and the same around an empty program is what has to be subtracted.

use std::{io, mem, os::fd::RawFd};

use anyhow::{Context as _, Result};

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

/// A field that differs from run to run: a number that counts up from 0, modulo `modulus`.
#[derive(Clone, Copy, Debug)]
pub struct Counting {
    /// Offset in the frame of four bytes.
    pub offset: i16,
    /// Where the number starts again.
    pub modulus: u32,
}

/// `bpf(2)` commands and types; the names are the kernel's.
const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_TEST_RUN: u32 = 10;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

/// Attributes of a command, as 64-bit words.
type Attributes = [u64; 18];

fn bpf(command: u32, attributes: &mut Attributes) -> io::Result<RawFd> {
    let size = mem::size_of::<Attributes>();
    // SAFETY: the attributes live for the call; pointers in them are the callers' to keep alive.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn create_map(kind: u32, value_size: u32) -> Result<RawFd> {
    let mut attributes = [0; 18];
    attributes[0] = pair(kind, 4);
    attributes[1] = pair(value_size, 1);
    bpf(BPF_MAP_CREATE, &mut attributes).context("create a map")
}

/// One instruction.
fn code(op: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> u64 {
    let offset = u64::from(offset as u16);
    u64::from(op) | u64::from(src << 4 | dst) << 8 | offset << 16 | pair(0, immediate as u32)
}

fn load_program(instructions: &[u64]) -> Result<RawFd> {
    let licence = c"GPL";
    let mut log = vec![0_u8; 1 << 16];
    let mut attributes = [0; 18];
    attributes[0] = pair(BPF_PROG_TYPE_SCHED_CLS, instructions.len() as u32);
    attributes[1] = instructions.as_ptr() as u64;
    attributes[2] = licence.as_ptr() as u64;
    attributes[3] = pair(1, log.len() as u32);
    attributes[4] = log.as_mut_ptr() as u64;
    bpf(BPF_PROG_LOAD, &mut attributes).with_context(|| {
        format!("load the wrapper: {}", String::from_utf8_lossy(&log).trim_end_matches('\0'))
    })
}

/// A program that passes every packet.
pub fn empty_program() -> Result<RawFd> {
    load_program(&[code(0xb7, 0, 0, 0, -1), code(0x95, 0, 0, 0, 0)])
}

/// A program that looks up an all-zero key of 12 bytes `times` times, and passes every packet.
pub fn lookup_program(map: RawFd, times: usize) -> Result<RawFd> {
    let mut all = vec![code(0x7a, 10, 0, -16, 0), code(0x62, 10, 0, -8, 0)];
    for _ in 0..times {
        all.extend([code(0xbf, 2, 10, 0, 0), code(0x07, 2, 0, 0, -16)]);
        all.extend([code(0x18, 1, 1, 0, map), 0, code(0x85, 0, 0, 0, 1)]);
    }
    all.extend([code(0xb7, 0, 0, 0, -1), code(0x95, 0, 0, 0, 0)]);
    load_program(&all)
}

/// The wrapper around one program. Its descriptors stay open until the process ends.
pub struct Wrapper {
    program: RawFd,
    counter: RawFd,
}

impl Wrapper {
    /// Wraps a program; `len` is the length of the frame.
    pub fn new(target: RawFd, fields: &[Field], counting: &[Counting], len: usize) -> Result<Self> {
        let counter = create_map(BPF_MAP_TYPE_ARRAY, 8)?;
        let programs = create_map(BPF_MAP_TYPE_PROG_ARRAY, 4)?;
        update(programs, &(target as u32)).context("put the program in its place")?;
        let program = load_program(&instructions(counter, programs, fields, counting, len))?;
        Ok(Self { program, counter })
    }

    /// Lets the counting fields start again.
    pub fn restart(&self) -> Result<()> {
        update(self.counter, &0_u64).context("reset the counter")
    }

    /// Runs it on a frame; returns the last run's code and the mean duration of a run in ns.
    pub fn run(&self, frame: &[u8], context: &[u8], repeat: u32) -> Result<(i32, u32)> {
        let mut attributes = [0; 18];
        attributes[0] = pair(self.program as u32, 0);
        attributes[1] = pair(frame.len() as u32, 0);
        attributes[2] = frame.as_ptr() as u64;
        attributes[4] = pair(repeat, 0);
        attributes[5] = pair(context.len() as u32, 0);
        attributes[6] = context.as_ptr() as u64;
        bpf(BPF_PROG_TEST_RUN, &mut attributes).context("test run")?;
        Ok(((attributes[0] >> 32) as i32, (attributes[4] >> 32) as u32))
    }
}

/// Writes the only element of a map.
fn update<V>(map: RawFd, value: &V) -> io::Result<()> {
    let key = 0_u32;
    let mut attributes = [0; 18];
    attributes[0] = pair(map as u32, 0);
    attributes[1] = (&raw const key) as u64;
    attributes[2] = core::ptr::from_ref(value) as u64;
    bpf(BPF_MAP_UPDATE_ELEM, &mut attributes).map(drop)
}

/// Registers: r6 the context, r7 the frame, r8 the number of the run.
fn instructions(
    counter: RawFd,
    programs: RawFd,
    fields: &[Field],
    counting: &[Counting],
    len: usize,
) -> Vec<u64> {
    let map = |register, fd: RawFd| [code(0x18, register, 1, 0, fd), 0];
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
        body.extend([code(0x62, 10, 0, -4, 0), code(0xbf, 2, 10, 0, 0), code(0x07, 2, 0, 0, -4)]);
        body.extend(map(1, counter));
        body.extend([code(0x85, 0, 0, 0, 1), code(0x55, 0, 0, 2, 0)]);
        body.extend([code(0xb7, 0, 0, 0, -1), code(0x95, 0, 0, 0, 0)]);
        body.extend([code(0x79, 8, 0, 0, 0), code(0xbf, 1, 8, 0, 0), code(0x07, 1, 0, 0, 1)]);
        body.push(code(0x7b, 0, 1, 0, 0));
    }
    for Counting { offset, modulus } in counting {
        body.extend([code(0xbf, 1, 8, 0, 0), code(0x97, 1, 0, 0, *modulus as i32)]);
        body.push(code(0x63, 7, 1, *offset, 0));
    }
    body.push(code(0xbf, 1, 6, 0, 0));
    body.extend(map(2, programs));
    body.extend([code(0xb7, 3, 0, 0, 0), code(0x85, 0, 0, 0, 12)]);
    let mut all = vec![code(0xbf, 6, 1, 0, 0), code(0x61, 7, 6, 76, 0), code(0x61, 2, 6, 80, 0)];
    all.extend([code(0xbf, 1, 7, 0, 0), code(0x07, 1, 0, 0, len as i32)]);
    all.push(code(0x2d, 1, 2, body.len() as i16, 0));
    all.extend(body);
    all.extend([code(0xb7, 0, 0, 0, -1), code(0x95, 0, 0, 0, 0)]);
    all
}
