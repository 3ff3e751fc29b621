// SPDX-License-Identifier: Apache-2.0
//! Real servers inside pods: HTTP/1.1, TCP echo and UDP echo, each on both families at once.
//!
//! A server stops, and its threads end, when its handle is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::topology::Machine;

/// How often a waiting server looks at its stop flag.
const POLL: Duration = Duration::from_millis(100);

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    stop: AtomicBool,
    requests: AtomicU64,
    live: AtomicU64,
}

impl Server {
    /// Answers each HTTP request with `pod=NAME peer=ADDR count=N`; keeps connections alive.
    pub fn http(pod: &impl Machine, port: u16) -> Result<Server> {
        Server::tcp(pod, port, serve_http)
    }

    /// Sends back every byte it receives.
    pub fn tcp_echo(pod: &impl Machine, port: u16) -> Result<Server> {
        Server::tcp(pod, port, serve_echo)
    }

    /// Echoes like `tcp_echo`, one connection after the other on one thread, for measurements.
    pub fn tcp_one_by_one(pod: &impl Machine, port: u16) -> Result<Server> {
        let listener = listen(pod, port)?;
        Server::spawn(pod, move |shared| {
            while !shared.stopped() {
                let Ok((stream, _)) = listener.accept() else { continue };
                let _ = serve_echo(stream, shared);
            }
        })
    }

    /// Answers every `length` bytes with one, one connection after the other, for measurements.
    pub fn tcp_bulk(pod: &impl Machine, port: u16, length: usize) -> Result<Server> {
        let listener = listen(pod, port)?;
        Server::spawn(pod, move |shared| {
            while !shared.stopped() {
                let Ok((stream, _)) = listener.accept() else { continue };
                let _ = serve_bulk(stream, length, shared);
            }
        })
    }

    /// Sends back every datagram as it is, for measurements.
    pub fn udp_mirror(pod: &impl Machine, port: u16) -> Result<Server> {
        let socket = datagram_socket(pod, port)?;
        Server::spawn(pod, move |shared| {
            let mut buffer = vec![0; 2048];
            while !shared.stopped() {
                let Ok((n, from)) = socket.recv_from(&mut buffer) else { continue };
                let _ = socket.send_to(&buffer[..n], from);
            }
        })
    }

    /// Sends back every datagram, with `NAME ` in front of it when that is short.
    pub fn udp_echo(pod: &impl Machine, port: u16) -> Result<Server> {
        let socket = datagram_socket(pod, port)?;
        Server::spawn(pod, move |shared| echo_datagrams(&socket, shared))
    }

    /// Answers each datagram as `http` answers a request.
    pub fn udp_who(pod: &impl Machine, port: u16) -> Result<Server> {
        Server::udp_answers(pod, datagram_socket(pod, port)?)
    }

    /// The same at one address: a machine with several would answer from any of them.
    pub fn udp_who_at(machine: &impl Machine, address: SocketAddr) -> Result<Server> {
        let socket = machine.netns().run(|| UdpSocket::bind(address))?;
        socket.set_read_timeout(Some(POLL))?;
        Server::udp_answers(machine, socket)
    }

    fn udp_answers(machine: &impl Machine, socket: UdpSocket) -> Result<Server> {
        Server::spawn(machine, move |shared| {
            let mut buffer = [0; 64];
            while !shared.stopped() {
                let Ok((_, from)) = socket.recv_from(&mut buffer) else { continue };
                let _ = socket.send_to(shared.answer(canonical(from)).as_bytes(), from);
            }
        })
    }

    /// Sends a line every 20 ms to whoever connects, and reads nothing.
    pub fn ticker(pod: &impl Machine, port: u16) -> Result<Server> {
        Server::tcp(pod, port, serve_ticks)
    }

    /// Lets it end soon; who drops several servers need not wait for one after the other.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Requests answered so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn connections(&self) -> u64 {
        self.shared.live.load(Ordering::Relaxed)
    }

    fn tcp(
        pod: &impl Machine,
        port: u16,
        serve: fn(TcpStream, &Shared) -> Result<()>,
    ) -> Result<Server> {
        let listener = listen(pod, port)?;
        Server::spawn(pod, move |shared| accept(&listener, shared, serve))
    }

    fn spawn(
        pod: &impl Machine,
        work: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> Result<Server> {
        let shared = Shared::new(pod.name());
        let for_thread = Arc::clone(&shared);
        let thread = pod.netns().spawn(move || work(&for_thread));
        Ok(Server { shared, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn new(name: &str) -> Arc<Shared> {
        Arc::new(Shared {
            name: name.into(),
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            live: AtomicU64::new(0),
        })
    }

    /// Counts a request and answers it.
    fn answer(&self, peer: SocketAddr) -> String {
        let count = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        format!("pod={} peer={peer} count={count}\n", self.name)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The address as its owner would write it: IPv4 inside IPv6 becomes IPv4.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn bind(port: u16, kind: Type) -> Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::IPV6, kind, Some(protocol))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    socket.bind(&any.into()).with_context(|| format!("bind port {port}"))?;
    Ok(socket)
}

fn listen(pod: &impl Machine, port: u16) -> Result<TcpListener> {
    let socket = pod.netns().run(|| bind(port, Type::STREAM))?;
    socket.listen(4096)?;
    // Accept wakes with an error at this interval, to look at the stop flag.
    socket.set_read_timeout(Some(POLL))?;
    Ok(socket.into())
}

fn datagram_socket(pod: &impl Machine, port: u16) -> Result<UdpSocket> {
    let socket = pod.netns().run(|| bind(port, Type::DGRAM))?;
    socket.set_read_timeout(Some(POLL))?;
    Ok(socket.into())
}

fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    serve: fn(TcpStream, &Shared) -> Result<()>,
) {
    while !shared.stopped() {
        let Ok((stream, _)) = listener.accept() else { continue };
        let shared = Arc::clone(shared);
        shared.live.fetch_add(1, Ordering::Relaxed);
        let spawned = thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            // A client that goes away is no fault of the server; clients count failures.
            let _ = serve(stream, &shared);
            shared.live.fetch_sub(1, Ordering::Relaxed);
        });
        spawned.expect("spawn a connection thread");
    }
}

fn serve_http(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(POLL))?;
    let peer = canonical(stream.peer_addr()?);
    let mut reader = BufReader::with_capacity(1024, stream.try_clone()?);
    let mut writer = stream;
    let mut line = String::new();
    while !shared.stopped() {
        match reader.read_line(&mut line) {
            Ok(0) => break,
            Ok(_) if line.ends_with("\r\n") && line.len() > 2 => line.clear(),
            Ok(_) => {
                line.clear();
                let body = shared.answer(peer);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                writer.write_all((head + &body).as_bytes())?;
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn serve_ticks(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    while !shared.stopped() {
        stream.write_all(b"tick\n")?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn serve_echo(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(POLL))?;
    let mut buffer = [0; 16 * 1024];
    while !shared.stopped() {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => stream.write_all(&buffer[..n])?,
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn serve_bulk(mut stream: TcpStream, length: usize, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(POLL))?;
    let mut buffer = vec![0; 256 * 1024];
    let mut missing = length;
    while !shared.stopped() {
        match stream.read(&mut buffer[..missing.min(256 * 1024)]) {
            Ok(0) => break,
            Ok(n) => missing -= n,
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if missing == 0 {
            stream.write_all(b"x")?;
            missing = length;
        }
    }
    Ok(())
}

fn echo_datagrams(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = vec![0; 65536];
    while !shared.stopped() {
        let Ok((n, from)) = socket.recv_from(&mut buffer) else { continue };
        shared.requests.fetch_add(1, Ordering::Relaxed);
        let named = [shared.name.as_bytes(), b" ", &buffer[..n]].concat();
        let answer = if n < 512 { &named[..] } else { &buffer[..n] };
        let _ = socket.send_to(answer, from);
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
