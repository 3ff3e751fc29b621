// SPDX-License-Identifier: Apache-2.0
//! Switches a device's offloads off, through the same ioctl that ethtool uses.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use crate::netns::NetNs;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_SGSO: u32 = 0x24;
const ETHTOOL_STSO: u32 = 0x1f;

/// `struct ethtool_value` of the kernel.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// Makes the sender compute every checksum and cut every segment itself, as without offloads.
pub fn switch_off(ns: &NetNs, device: &str) -> io::Result<()> {
    ns.run(|| {
        for cmd in [ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_STXCSUM] {
            set(device, cmd, 0)?;
        }
        Ok(())
    })
}

fn set(device: &str, cmd: u32, data: u32) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let mut value = EthtoolValue { cmd, data };
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request and the value it points to live through the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
