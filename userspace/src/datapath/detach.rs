// SPDX-License-Identifier: Apache-2.0
//! Detaches what a pinned link attaches, at once: the kernel does it some time after the pin is
//! removed, and until then packets meet programs that the node's owner believes gone.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
};

const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_DETACH: libc::c_long = 34;

/// Detaches the program of a pinned link; the pin stays.
pub fn detach(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_encoded_bytes())?;
    let address = path.as_ptr() as u64;
    let words = [address.to_ne_bytes(), [0; 8]];
    // SAFETY: the path ends with a zero and lives to the end of this function.
    let fd = unsafe { bpf(BPF_OBJ_GET, words) }?;
    // SAFETY: the kernel has just returned this descriptor, and nobody else owns it.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut words = [[0; 8]; 2];
    words[0][..4].copy_from_slice(&link.as_raw_fd().to_ne_bytes());
    // SAFETY: the command takes a descriptor and no pointers.
    unsafe { bpf(BPF_LINK_DETACH, words) }.map(drop)
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
