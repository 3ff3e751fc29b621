// SPDX-License-Identifier: Apache-2.0
//! Pinned links by raw system calls: what aya has no call for.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
};

const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// A link that is pinned.
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
