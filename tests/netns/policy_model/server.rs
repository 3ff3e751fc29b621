// SPDX-License-Identifier: Apache-2.0
//! What every machine of the model serves: its name and the client's address, on all four ports.

use std::io::Write as _;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::Result;
use pintle_tests::netns::NetNs;
use pintle_tests::server::canonical;
use socket2::{Domain, Protocol, Socket, Type};

/// The ports of every machine, for TCP and UDP.
pub const PORTS: [u16; 2] = [80, 81];
/// How often the thread looks whether it is to end.
const LOOK_MILLIS: libc::c_int = 50;

/// One thread that answers at all ports, until it is dropped.
pub struct Servers {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

struct Sockets {
    name: String,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl Servers {
    /// Serves in a network under a name.
    pub fn start(ns: &NetNs, name: &str) -> Result<Servers> {
        let mut sockets = Sockets { name: name.to_owned(), tcp: Vec::new(), udp: Vec::new() };
        ns.run(|| -> Result<()> {
            for port in PORTS {
                let listener = bound(Type::STREAM, port)?;
                listener.listen(1024)?;
                sockets.tcp.push(listener.into());
                sockets.udp.push(bound(Type::DGRAM, port)?.into());
            }
            Ok(())
        })?;
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = ns.spawn({
            let (stop, answers) = (stop.clone(), answers.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    answers.fetch_add(sockets.answer(), Ordering::Relaxed);
                }
            }
        });
        Ok(Servers { stop, answers, thread: Some(thread) })
    }

    /// How many have been answered so far.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
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
    /// Waits a little and answers everybody who has asked; tells how many.
    fn answer(&self) -> u64 {
        let fds = self.tcp.iter().map(AsRawFd::as_raw_fd);
        let fds = fds.chain(self.udp.iter().map(AsRawFd::as_raw_fd));
        let mut polled: Vec<libc::pollfd> =
            fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        // SAFETY: the array lives through the call and has the length that is told.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, LOOK_MILLIS) };
        let mut answered = 0;
        for listener in &self.tcp {
            while let Ok((mut stream, from)) = listener.accept() {
                // The client may be gone already; it counts that.
                let _ = stream.write_all(self.text(from).as_bytes());
                answered += 1;
            }
        }
        let mut buffer = [0; 64];
        for socket in &self.udp {
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(self.text(from).as_bytes(), from);
                answered += 1;
            }
        }
        answered
    }

    fn text(&self, from: SocketAddr) -> String {
        format!("{} {}\n", self.name, canonical(from).ip())
    }
}

fn bound(kind: Type, port: u16) -> Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::IPV6, kind.nonblocking(), Some(protocol))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    Ok(socket)
}
