// SPDX-License-Identifier: Apache-2.0
//! The interface on which kube-proxy's ipvs mode puts every service address, so that the host takes
//! packets for them as its own, and IPVS translates them.

use std::{ffi::CString, io};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::names::IPVS_INTERFACE;

/// The interface exists in this network namespace.
pub fn is_there() -> bool {
    index().is_some()
}

/// Removes it; `false` if there is none.
pub fn remove() -> io::Result<bool> {
    let Some(index) = index() else { return Ok(false) };
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.send_to(&removal(index), &SocketAddr::new(0, 0), 0)?;
    let mut answer = Vec::with_capacity(4096);
    socket.recv(&mut answer, 0)?;
    let code = answer.get(16..20).and_then(|code| code.try_into().ok());
    match code.map_or(-libc::EPROTO, i32::from_ne_bytes) {
        0 => Ok(true),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

fn index() -> Option<u32> {
    let name = CString::new(IPVS_INTERFACE).ok()?;
    // SAFETY: the name ends with a zero and lives until the call returns.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// `RTM_DELLINK` with a `struct ifinfomsg`.
fn removal(index: u32) -> [u8; 32] {
    let mut request = [0; 32];
    request[..4].copy_from_slice(&32_u32.to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_DELLINK.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request[20..24].copy_from_slice(&index.to_ne_bytes());
    request
}
