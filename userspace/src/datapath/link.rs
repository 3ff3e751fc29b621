// SPDX-License-Identifier: Apache-2.0
//! Pinned links by raw system calls: what aya has no call for.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
};

use crate::node::IfIndex;

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// Where a program of XDP is attached, and that it is the driver that runs it.
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// A link, which lives as long as this or its pin.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Opens a pin.
    pub fn open(pin: &Path) -> io::Result<Self> {
        let path = CString::new(pin.as_os_str().as_encoded_bytes())?;
        let address = path.as_ptr() as u64;
        // SAFETY: the path ends with a zero and lives to the end of this function.
        let fd = unsafe { bpf(BPF_OBJ_GET, [address.to_ne_bytes(), [0; 8]]) }?;
        // SAFETY: the kernel has just returned this descriptor, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Lets the driver of an interface run a program of XDP; there must be none.
    pub fn attach_xdp(program: BorrowedFd<'_>, index: IfIndex) -> io::Result<Self> {
        let target = words(program.as_raw_fd() as u32, index.0);
        // SAFETY: the command takes a descriptor and no pointers.
        let fd = unsafe { bpf(BPF_LINK_CREATE, [target, words(BPF_XDP, XDP_FLAGS_DRV_MODE)]) }?;
        // SAFETY: the kernel has just returned this descriptor, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Keeps it at a path in a bpf filesystem.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_encoded_bytes())?;
        let address = path.as_ptr() as u64;
        let words = [address.to_ne_bytes(), pair(self.0.as_raw_fd(), 0)];
        // SAFETY: the path ends with a zero and lives to the end of this function.
        unsafe { bpf(BPF_OBJ_PIN, words) }.map(drop)
    }

    /// Puts a program in the place of the one that runs; whoever dials meets the one or the other.
    pub fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let words = [pair(self.0.as_raw_fd(), program.as_raw_fd()), [0; 8]];
        // SAFETY: the command takes descriptors and no pointers.
        unsafe { bpf(BPF_LINK_UPDATE, words) }.map(drop)
    }

    /// Detaches the program at once; the pin stays.
    pub fn detach(&self) -> io::Result<()> {
        // SAFETY: the command takes a descriptor and no pointers.
        unsafe { bpf(BPF_LINK_DETACH, [pair(self.0.as_raw_fd(), 0), [0; 8]]) }.map(drop)
    }

    /// The number of the cgroup that the link is attached to; 0 if that is gone.
    pub fn cgroup_id(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.as_raw_fd()))?;
        let value = text.lines().find_map(|line| line.strip_prefix("cgroup_id:"));
        Ok(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
    }
}

fn pair(first: RawFd, second: RawFd) -> [u8; 8] {
    words(first as u32, second as u32)
}

fn words(first: u32, second: u32) -> [u8; 8] {
    let mut words = [0; 8];
    words[..4].copy_from_slice(&first.to_ne_bytes());
    words[4..].copy_from_slice(&second.to_ne_bytes());
    words
}

/// Runs a command of the bpf system call, given the first 16 bytes of its attribute.
///
/// # Safety
///
/// Pointers in the attribute must be valid for what the command does with them.
unsafe fn bpf(command: libc::c_long, attribute: [[u8; 8]; 2]) -> io::Result<RawFd> {
    // SAFETY: the attribute lives through the call and its size is given.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attribute.as_ptr(), size_of_val(&attribute))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
