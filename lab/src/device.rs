// SPDX-License-Identifier: Apache-2.0
//! Network devices, through the ioctls of netdevice(7) and ethtool.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use crate::netns::NetNs;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_SGSO: u32 = 0x24;
const ETHTOOL_SGRO: u32 = 0x2c;
const ETHTOOL_STSO: u32 = 0x1f;

/// `struct ethtool_value` of the kernel.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// A device in a namespace.
#[derive(Clone)]
pub struct Device {
    ns: NetNs,
    name: String,
}

impl Device {
    /// The device of a name; whether it is there, the calls tell.
    pub fn new(ns: &NetNs, name: &str) -> Self {
        Self { ns: ns.clone(), name: name.into() }
    }

    /// Its namespace.
    pub fn ns(&self) -> &NetNs {
        &self.ns
    }

    /// Its index.
    pub fn index(&self) -> io::Result<u32> {
        self.ns.run(|| {
            let request = call(libc::SIOCGIFINDEX, request(&self.name))?;
            // SAFETY: the call has filled in the index.
            Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
        })
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> io::Result<[u8; 6]> {
        self.ns.run(|| {
            let request = call(libc::SIOCGIFHWADDR, request(&self.name))?;
            // SAFETY: the call has filled in the address.
            let address = unsafe { request.ifr_ifru.ifru_hwaddr };
            Ok(std::array::from_fn(|index| address.sa_data[index] as u8))
        })
    }

    /// Makes the sender compute every checksum and cut every segment itself, as without offloads.
    pub fn switch_offloads_off(&self) -> io::Result<()> {
        let offloads = [ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_STXCSUM];
        offloads.iter().try_for_each(|cmd| self.set(*cmd, false))
    }

    /// Whether it puts received segments together; a veth that does also takes the frames that XDP
    /// programs redirect to its peer.
    pub fn set_gro(&self, on: bool) -> io::Result<()> {
        self.set(ETHTOOL_SGRO, on)
    }

    fn set(&self, cmd: u32, on: bool) -> io::Result<()> {
        self.ns.run(|| {
            let mut value = EthtoolValue { cmd, data: on.into() };
            let mut request = request(&self.name);
            request.ifr_ifru.ifru_data = (&raw mut value).cast();
            call(SIOCETHTOOL, request).map(drop)
        })
    }
}

/// Whether the kernel has noticed the carrier of a device in the calling thread's namespace.
pub(crate) fn is_running(name: &str) -> io::Result<bool> {
    let request = call(libc::SIOCGIFFLAGS, request(name))?;
    // SAFETY: the call has filled in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(i32::from(flags) & libc::IFF_RUNNING != 0)
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request
}

/// Asks the kernel, in the calling thread's namespace.
fn call(ioctl: libc::c_ulong, mut request: libc::ifreq) -> io::Result<libc::ifreq> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    // SAFETY: the request, and what it points to, live through the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), ioctl as _, &raw mut request) } {
        0 => Ok(request),
        _ => Err(io::Error::last_os_error()),
    }
}
