// SPDX-License-Identifier: Apache-2.0
//! ICMP errors about translated packets reach the socket that dialled the ClusterIP (I1, I2, I9;
//! I6: also those of the node itself).
//!
//! The kernel hands an error only to the socket whose addresses the quoted packet carries, so each
//! error seen here proves that the quotation was translated back.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use pintle_lab::agent::FastPath;
use pintle_lab::client::udp_socket;
use pintle_lab::topology::{Cni, Family};
use socket2::SockRef;

use crate::scene::{DNS, SILENT, Scene, in_every_layout};

in_every_layout!(errors_reach_the_client_through_the_clusterip);

fn errors_reach_the_client_through_the_clusterip(cni: Cni, fast_path: FastPath) {
    let scene = Scene::new(cni, fast_path);
    for family in Family::BOTH {
        let silent = scene.vip(family, &SILENT);
        let dns = scene.vip(family, &DNS);
        scene.client.run(|| {
            let error = ask(&connected(silent), 0).expect_err("nobody listens there");
            let code = error.raw_os_error();
            assert_eq!(code, Some(libc::ECONNREFUSED), "{family:?}, port unreachable: {error}");

            let socket = connected(dns);
            report_all_errors(&socket, family).expect("ask for soft errors");
            match ask_past_the_rate_limit(&socket) {
                Err(code) => assert_eq!(code, Some(libc::EHOSTUNREACH), "{family:?}, hop limit 1"),
                // Two pods of one bridge are one hop apart.
                Ok(()) => assert_eq!(cni, Cni::Bridge, "{family:?}: no hop was counted"),
            }
            ask(&socket, 64).expect("the same flow works with a usual hop limit");
        });
    }
}

fn connected(target: SocketAddr) -> UdpSocket {
    let socket = udp_socket(target).expect("a socket");
    socket.connect(target).expect("connect");
    socket
}

/// An exchange that ends at the first hop. Linux sends one error a second to a host, and on a bridge
/// counts the redirects that it has sent there before.
fn ask_past_the_rate_limit(socket: &UdpSocket) -> Result<(), Option<i32>> {
    let mut result = Ok(());
    for _ in 0..3 {
        result = ask(socket, 1).map_err(|error| error.raw_os_error());
        if result != Err(Some(libc::EAGAIN)) {
            break;
        }
    }
    result
}

/// One exchange; a hop limit of 0 leaves the system's own.
fn ask(socket: &UdpSocket, hop_limit: u32) -> io::Result<()> {
    if hop_limit > 0 && socket.local_addr()?.is_ipv4() {
        socket.set_ttl(hop_limit)?;
    } else if hop_limit > 0 {
        SockRef::from(socket).set_unicast_hops_v6(hop_limit)?;
    }
    socket.send(b"hello")?;
    socket.recv(&mut [0; 64]).map(drop)
}

/// Time exceeded is a soft error, which a socket hears of only when it asks.
fn report_all_errors(socket: &UdpSocket, family: Family) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let (level, option) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_RECVERR),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    let on: libc::c_int = 1;
    let size = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the option's value is an int that lives through the call.
    let rc = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), size)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
