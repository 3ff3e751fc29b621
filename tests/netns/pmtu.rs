// SPDX-License-Identifier: Apache-2.0
//! A smaller MTU between two nodes is learnt through the ClusterIP (I1, I2).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use pintle_lab::agent::FastPath;
use pintle_lab::client::{echo_transfer, udp_socket};
use pintle_lab::topology::{Cni, Family};

use crate::cross_node::TwoNodes;
use crate::scene::{DNS, ECHO, eventually, in_every_layout};

const SMALL_MTU: i32 = 1300;

in_every_layout!(the_client_learns_the_path_mtu);

fn the_client_learns_the_path_mtu(cni: Cni, fast_path: FastPath) {
    let scene = TwoNodes::new(cni, fast_path, &[1]).expect("two nodes");
    for node in &scene.world.nodes {
        node.ip(&[format!("link set eth0 mtu {SMALL_MTU}")]).expect("lower the MTU");
    }
    let client = &scene.clients[0];
    for family in Family::BOTH {
        let at = |port| SocketAddr::new(scene.web.ip(family), port);
        client.run(|| {
            let socket = udp_socket(at(DNS.port)).expect("a socket");
            socket.connect(at(DNS.port)).expect("connect");
            never_fragment(&socket, family).expect("forbid fragments");
            eventually("the client knows the path's MTU", || {
                // Fails with EMSGSIZE once the MTU is known.
                let _ = socket.send(&[0; 1400]);
                path_mtu(&socket, family).is_ok_and(|mtu| mtu == SMALL_MTU)
            });
            let same = echo_transfer(at(ECHO.port), 1_000_000);
            assert!(same.expect("a transfer over the small MTU"), "bytes changed");
        });
    }
}

fn never_fragment(socket: &UdpSocket, family: Family) -> io::Result<()> {
    let (level, option) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    };
    let value: libc::c_int = libc::IP_PMTUDISC_DO;
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the option's value is an int that lives through the call.
    let rc = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn path_mtu(socket: &UdpSocket, family: Family) -> io::Result<i32> {
    let (level, option) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut value: libc::c_int = 0;
    let mut size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: value and size are valid for writing through the call.
    let rc = unsafe {
        let to = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, option, to, &raw mut size)
    };
    if rc == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
