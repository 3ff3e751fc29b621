// SPDX-License-Identifier: Apache-2.0
//! A packet that skips the node's stack has lost as many hops as one that does not (I9).

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use pintle_lab::agent::FastPath;
use pintle_lab::client::{DEADLINE, udp_socket};
use pintle_lab::manifest::Endpoint;
use pintle_lab::topology::{Cni, Family};

use crate::scene::{SILENT, Scene, in_every_layout, web};

/// What Linux gives a packet to start with.
const INITIAL: u8 = 64;

in_every_layout!(one_hop_is_counted_in_each_direction);

fn one_hop_is_counted_in_each_direction(cni: Cni, fast_path: FastPath) {
    let mut scene = Scene::new(cni, fast_path);
    let service = web(41);
    let only = Endpoint::ready(&scene.backends[0].pod);
    scene.add_service(&service, &[only]);
    for family in Family::BOTH {
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), SILENT.target);
        let server = scene.backends[0].pod.run(|| UdpSocket::bind(any)).expect("a server");
        let target = SocketAddr::new(service.ip(family), SILENT.port);
        let client = scene.client.run(|| udp_socket(target)).expect("a client");
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
            tell_hops(socket).expect("ask for the hops");
        }
        // On a bridge the node learns from the first packets where the pods are.
        for round in 0..3 {
            client.send_to(b"hello", target).expect("send");
            let forward = receive_hops(&server).expect("a datagram");
            let (_, peer) = {
                client.send_to(b"again", target).expect("send");
                server.recv_from(&mut [0; 16]).expect("a datagram")
            };
            server.send_to(b"hello", peer).expect("answer");
            let back = receive_hops(&client).expect("an answer");
            // A reply between two pods of one bridge is not routed when it goes through the stack.
            let bridged = cni == Cni::Bridge && back == INITIAL;
            assert_eq!(forward, INITIAL - 1, "{family:?}, round {round}");
            assert!(back == INITIAL - 1 || bridged, "{family:?}, round {round}: {back}");
        }
    }
}

/// Sets both families' options; a socket may receive either.
fn tell_hops(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let mut accepted = false;
    for (level, option) in
        [(libc::IPPROTO_IP, libc::IP_RECVTTL), (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT)]
    {
        // SAFETY: the value lives through the call and its size is given.
        let rc = unsafe {
            let value = (&raw const on).cast();
            libc::setsockopt(socket.as_raw_fd(), level, option, value, size_of_val(&on) as u32)
        };
        accepted |= rc == 0;
    }
    if accepted { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives a datagram and returns its remaining hops.
fn receive_hops(socket: &UdpSocket) -> io::Result<u8> {
    let (mut data, mut control) = ([0_u8; 64], [0_u64; 16]);
    let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: every buffer that the message names lives through the call.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled the control buffer with whole headers; hops are one int.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let kind = ((*header).cmsg_level, (*header).cmsg_type);
            if kind == (libc::IPPROTO_IP, libc::IP_TTL)
                || kind == (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
            {
                return Ok(libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned() as u8);
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}
