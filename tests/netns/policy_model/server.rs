// SPDX-License-Identifier: Apache-2.0
//! What every machine of the model serves: its name and the client's address, on all four ports.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::Result;
use pintle_lab::netns::NetNs;
use pintle_lab::server::canonical;
use pintle_lab::topology::{Family, Node};
use socket2::{Domain, Protocol, Socket, Type};

/// The ports of every machine, for TCP and UDP.
pub const PORTS: [u16; 2] = [80, 81];
/// How often the thread looks whether it is to end.
const LOOK_MILLIS: libc::c_int = 50;

/// One thread that answers at all ports, until it is dropped.
pub struct Servers {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

struct Sockets {
    name: String,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl Servers {
    /// Serves in a network under a name, at all of its addresses.
    pub fn start(ns: &NetNs, name: &str) -> Result<Servers> {
        Servers::start_at(ns, name, &[Ipv6Addr::UNSPECIFIED.into()])
    }

    /// Serves on a node, at the addresses that it is known by: datagrams are answered from the address
    /// that was asked, and a node has several.
    pub fn of_node(node: &Node) -> Result<Servers> {
        Servers::start_at(node, &node.name, &Family::BOTH.map(|family| node.ip_of(family)))
    }

    fn start_at(ns: &NetNs, name: &str, ips: &[IpAddr]) -> Result<Servers> {
        let mut sockets = Sockets { name: name.to_owned(), tcp: Vec::new(), udp: Vec::new() };
        ns.run(|| -> Result<()> {
            for at in ips.iter().flat_map(|ip| PORTS.map(|port| SocketAddr::new(*ip, port))) {
                let listener = bound(Type::STREAM, at)?;
                listener.listen(1024)?;
                sockets.tcp.push(listener.into());
                sockets.udp.push(bound(Type::DGRAM, at)?.into());
            }
            Ok(())
        })?;
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = ns.spawn({
            let (stop, asked) = (stop.clone(), asked.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    sockets.answer(&asked);
                }
            }
        });
        Ok(Servers { stop, asked, thread: Some(thread) })
    }

    /// How many have asked so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Sockets {
    /// Waits a little and answers everybody who has asked; counts each before it is answered.
    fn answer(&self, asked: &AtomicU64) {
        let fds = self.tcp.iter().map(AsRawFd::as_raw_fd);
        let fds = fds.chain(self.udp.iter().map(AsRawFd::as_raw_fd));
        let mut polled: Vec<libc::pollfd> =
            fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        // SAFETY: the array lives through the call and has the length that is told.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, LOOK_MILLIS) };
        for listener in &self.tcp {
            while let Ok((mut stream, from)) = listener.accept() {
                asked.fetch_add(1, Ordering::Relaxed);
                // The client may be gone already; it counts that.
                let _ = stream.write_all(self.text(from).as_bytes());
            }
        }
        let mut buffer = [0; 64];
        for socket in &self.udp {
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                asked.fetch_add(1, Ordering::Relaxed);
                let _ = socket.send_to(self.text(from).as_bytes(), from);
            }
        }
    }

    fn text(&self, from: SocketAddr) -> String {
        format!("{} {}\n", self.name, canonical(from).ip())
    }
}

fn bound(kind: Type, at: SocketAddr) -> Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let domain = if at.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    Ok(socket)
}
