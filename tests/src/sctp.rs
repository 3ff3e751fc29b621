// SPDX-License-Identifier: Apache-2.0
//! SCTP over real sockets, one association for each socket as with TCP. It takes a kernel that has it.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use pintle_abi::addr::proto;
use socket2::{Domain, Protocol, Socket, Type};

use pintle_lab::topology::{Family, Pod};

/// How often a waiting server looks at its stop flag.
const POLL: Duration = Duration::from_millis(100);
/// How long a client waits for anything.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How long a server waits for a client that says nothing: an interpreted machine takes its time.
const IDLE: Duration = Duration::from_secs(120);

/// A server in a pod: it greets every client with the pod's name and the client's address as it sees
/// it, then sends back what it receives.
pub struct SctpServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SctpServer {
    /// Listens at every address of one family.
    pub fn new(pod: &Pod, family: Family, port: u16) -> Result<Self> {
        let (name, stop) = (pod.name.clone(), Arc::new(AtomicBool::new(false)));
        let any = match family {
            Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let listener = pod.run(|| -> io::Result<Socket> {
            let address = SocketAddr::new(any, port);
            let socket = socket(address)?;
            if family == Family::V6 {
                socket.set_only_v6(true)?;
            }
            socket.bind(&address.into())?;
            socket.listen(64)?;
            socket.set_read_timeout(Some(POLL))?;
            Ok(socket)
        });
        let listener = listener.context("listen with SCTP")?;
        let stopped = Arc::clone(&stop);
        let thread = pod.spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((client, peer)) = listener.accept() else { continue };
                let (name, peer) = (name.clone(), peer.as_socket());
                thread::spawn(move || serve(client, &name, peer));
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for SctpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut client: Socket, name: &str, peer: Option<SocketAddr>) -> io::Result<()> {
    client.set_read_timeout(Some(IDLE))?;
    let peer = peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
    client.write_all(format!("{name} {peer}\n").as_bytes())?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match client.read(&mut buffer)? {
            0 => return Ok(()),
            len => client.write_all(&buffer[..len])?,
        }
    }
}

/// What a client learned from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Name of the server's pod.
    pub pod: String,
    /// The client as the server sees it.
    pub peer: IpAddr,
}

/// Asks for an association with an address.
pub fn connect(target: SocketAddr) -> io::Result<Socket> {
    connect_within(target, DEADLINE)
}

/// The same with a patience of its own, also for what is read later.
pub fn connect_within(target: SocketAddr, patience: Duration) -> io::Result<Socket> {
    let socket = socket(target)?;
    socket.connect_timeout(&target.into(), patience)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    Ok(socket)
}

/// Opens an association, sends messages of these lengths and compares what comes back; closes it.
pub fn exchange(target: SocketAddr, lengths: &[usize]) -> io::Result<Greeting> {
    let mut socket = connect(target)?;
    let greeting = greeting(&mut socket)?;
    for (number, len) in lengths.iter().enumerate() {
        let message: Vec<u8> = (0..*len).map(|at| (at * 7 + number) as u8).collect();
        echo(&mut socket, &message)?;
    }
    socket.shutdown(Shutdown::Both)?;
    Ok(greeting)
}

/// Sends a message on an association and compares what comes back.
pub fn echo(socket: &mut Socket, message: &[u8]) -> io::Result<()> {
    socket.write_all(message)?;
    let mut back = vec![0; message.len()];
    socket.read_exact(&mut back)?;
    match back == message {
        true => Ok(()),
        false => Err(io::Error::other(format!("{} bytes came back changed", message.len()))),
    }
}

/// What a server says first.
pub fn greeting(socket: &mut Socket) -> io::Result<Greeting> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&line);
    let parsed = line
        .trim()
        .split_once(' ')
        .and_then(|(pod, peer)| Some(Greeting { pod: pod.to_owned(), peer: peer.parse().ok()? }));
    parsed.ok_or_else(|| io::Error::other(format!("{line:?} is no greeting")))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(proto::SCTP));
    Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol))
}
