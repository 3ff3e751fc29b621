// SPDX-License-Identifier: Apache-2.0
//! bpf(2) for programs of a few instructions, which measurements and worlds are made of: they are
//! written here, instruction by instruction, so that nothing has to be compiled or shipped for them.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result};

use crate::device::Device;

/// `bpf(2)` commands and types; the names are the kernel's.
const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_PROG_LOAD: u32 = 5;
/// Runs a program on a packet.
pub const BPF_PROG_TEST_RUN: u32 = 10;
/// Attaches a program for as long as a descriptor lives.
pub const BPF_LINK_CREATE: u32 = 28;
/// Length of a value of [`hash`].
pub const VALUE: usize = 64;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
/// Where a program of XDP is attached.
const BPF_XDP: u32 = 37;
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// `BPF_PROG_TYPE_SCHED_CLS`.
    Classifier = 3,
    /// `BPF_PROG_TYPE_XDP`.
    Xdp = 6,
}

impl Kind {
    /// Where the context has the frame's start and its end.
    pub fn frame(self) -> [i16; 2] {
        match self {
            Self::Classifier => [76, 80],
            Self::Xdp => [0, 4],
        }
    }
}

/// Attributes of a command, as 64-bit words.
pub type Attributes = [u64; 18];

/// Makes the call.
pub fn bpf(command: u32, attributes: &mut Attributes) -> io::Result<RawFd> {
    let size = mem::size_of::<Attributes>();
    // SAFETY: the attributes live for the call; pointers in them are the callers' to keep alive.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// The same for commands that return a descriptor.
pub fn bpf_fd(command: u32, attributes: &mut Attributes) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Two 32-bit attributes that follow each other.
pub const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// One instruction.
pub const fn code(op: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> u64 {
    let offset = offset as u16 as u64;
    op as u64 | ((src << 4 | dst) as u64) << 8 | offset << 16 | pair(0, immediate as u32)
}

/// Loads the address of a map into a register: an instruction of two words.
pub fn load_map(register: u8, map: RawFd) -> [u64; 2] {
    [code(0x18, register, 1, 0, map), 0]
}

/// Counts in the only element of an array: r8 becomes what it was, r0 to r5 are lost.
pub fn count(counter: RawFd) -> Vec<u64> {
    let mut all = vec![code(0x62, 10, 0, -4, 0), code(0xbf, 2, 10, 0, 0), code(0x07, 2, 0, 0, -4)];
    all.extend(load_map(1, counter));
    // The element is always there; the verifier wants to see it checked.
    all.extend([code(0x85, 0, 0, 0, 1), code(0x55, 0, 0, 2, 0)]);
    all.extend([code(0xb7, 0, 0, 0, -1), code(0x95, 0, 0, 0, 0)]);
    all.extend([code(0x79, 8, 0, 0, 0), code(0xbf, 1, 8, 0, 0), code(0x07, 1, 0, 0, 1)]);
    all.push(code(0x7b, 0, 1, 0, 0));
    all
}

/// Loads a program; the error has the verifier's log.
pub fn load(kind: Kind, instructions: &[u64]) -> Result<OwnedFd> {
    let licence = c"GPL";
    let mut log = vec![0_u8; 1 << 16];
    let mut attributes = [0; 18];
    attributes[0] = pair(kind as u32, instructions.len() as u32);
    attributes[1] = instructions.as_ptr() as u64;
    attributes[2] = licence.as_ptr() as u64;
    attributes[3] = pair(1, log.len() as u32);
    attributes[4] = log.as_mut_ptr() as u64;
    // As those of Pintle: programs that jump to each other have to agree.
    if kind == Kind::Xdp {
        attributes[5] = pair(0, BPF_F_XDP_HAS_FRAGS);
        attributes[8] = pair(0, BPF_XDP);
    }
    bpf_fd(BPF_PROG_LOAD, &mut attributes).with_context(|| {
        format!("load a program: {}", String::from_utf8_lossy(&log).trim_end_matches('\0'))
    })
}

/// Runs a program in the driver of a device, for as long as the descriptor lives.
pub fn attach_xdp(device: &Device, program: &OwnedFd) -> Result<OwnedFd> {
    const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
    let mut attributes = [0; 18];
    attributes[0] = pair(program.as_raw_fd() as u32, device.index()?);
    attributes[1] = pair(BPF_XDP, XDP_FLAGS_DRV_MODE);
    let link = device.ns().run(|| bpf_fd(BPF_LINK_CREATE, &mut attributes));
    link.context("attach a program of XDP")
}

/// A hash with keys of 12 bytes and values of 64, as flows of IPv4 are, for so many entries; each takes
/// its memory when it comes, or all have it from the beginning.
pub fn hash(entries: u32, preallocated: bool) -> Result<OwnedFd> {
    const BPF_F_NO_PREALLOC: u32 = 1;
    let flags = if preallocated { 0 } else { BPF_F_NO_PREALLOC };
    let mut attributes = [0; 18];
    attributes[0] = pair(BPF_MAP_TYPE_HASH, 12);
    attributes[1] = pair(VALUE as u32, entries);
    attributes[2] = pair(flags, 0);
    bpf_fd(BPF_MAP_CREATE, &mut attributes).context("create a hash")
}

/// Puts an entry whose key and value are zero into such a hash.
pub fn insert_zero(hash: RawFd) -> Result<()> {
    let (key, value) = ([0_u8; 12], [0_u8; VALUE]);
    let mut attributes = [0; 18];
    attributes[0] = pair(hash as u32, 0);
    attributes[1] = key.as_ptr() as u64;
    attributes[2] = value.as_ptr() as u64;
    bpf(BPF_MAP_UPDATE_ELEM, &mut attributes).map(drop).context("fill a hash")
}

/// A map with one element: a number, or a program.
pub struct Single(OwnedFd);

impl Single {
    /// A number, zero at first.
    pub fn counter() -> Result<Self> {
        Self::new(BPF_MAP_TYPE_ARRAY, 8)
    }

    /// A program to jump to.
    pub fn program(target: RawFd) -> Result<Self> {
        let map = Self::new(BPF_MAP_TYPE_PROG_ARRAY, 4)?;
        map.update(&(target as u32)).context("put the program in its place")?;
        Ok(map)
    }

    fn new(kind: u32, value_size: u32) -> Result<Self> {
        let mut attributes = [0; 18];
        attributes[0] = pair(kind, 4);
        attributes[1] = pair(value_size, 1);
        Ok(Self(bpf_fd(BPF_MAP_CREATE, &mut attributes).context("create a map")?))
    }

    /// Its descriptor.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Sets the number.
    pub fn set(&self, value: u64) -> Result<()> {
        self.update(&value).context("set the counter")
    }

    /// Reads the number.
    pub fn get(&self) -> Result<u64> {
        let (key, mut value) = (0_u32, 0_u64);
        let mut attributes = self.element(&key, (&raw mut value) as u64);
        bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes).context("read the counter")?;
        Ok(value)
    }

    fn update<V>(&self, value: &V) -> io::Result<()> {
        let key = 0_u32;
        let mut attributes = self.element(&key, core::ptr::from_ref(value) as u64);
        bpf(BPF_MAP_UPDATE_ELEM, &mut attributes).map(drop)
    }

    fn element(&self, key: &u32, value: u64) -> Attributes {
        let mut attributes = [0; 18];
        attributes[0] = pair(self.fd() as u32, 0);
        attributes[1] = core::ptr::from_ref(key) as u64;
        attributes[2] = value;
        attributes
    }
}
