// SPDX-License-Identifier: Apache-2.0
//! A client on a thread of its own, in its network namespace and cgroup, which works when it is its turn.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use pintle_lab::cgroup::Cgroup;
use pintle_lab::netns::NetNs;
use socket2::{Domain, Socket, Type};

use super::workload::Operation;
use crate::cpu::Cpus;

/// How long an operation may take before it has failed.
const DEADLINE: Duration = Duration::from_secs(1);
/// What [`Operation::Bulk`] sends.
pub const BULK: usize = 1 << 20;

/// Where a client is, and what it dials, one after the other.
#[derive(Clone)]
pub struct Place {
    /// Its network namespace.
    pub ns: NetNs,
    /// Its cgroup, where that matters.
    pub cgroup: Option<std::sync::Arc<Cgroup>>,
    /// Whom it dials.
    pub targets: Vec<SocketAddr>,
}

/// What a client is told.
enum Command {
    /// Work for so long.
    Work(Duration),
    /// Hand over what was measured since the last time.
    Collect,
}

/// What was measured of one client.
#[derive(Default)]
pub struct Sample {
    /// How long each operation took that succeeded, in nanoseconds.
    pub times: Vec<u64>,
    /// Operations that failed.
    pub failed: u64,
}

/// A client that waits for its turn.
pub struct Client {
    commands: Option<SyncSender<Command>>,
    answers: Receiver<Sample>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts one; what stays connected is connected when this returns.
    pub fn start(place: Place, operation: Operation, cpus: Cpus) -> Result<Self> {
        let (commands, told) = sync_channel(0);
        let (answer, answers) = sync_channel(0);
        let (started, start) = sync_channel(1);
        let thread = thread::Builder::new().name("client".into()).spawn(move || {
            let prepared = prepare(&place, operation, cpus);
            let worker = match prepared {
                Ok(worker) => worker,
                Err(error) => return drop(started.send(Err(error))),
            };
            drop(started.send(Ok(())));
            serve(worker, &told, &answer);
        })?;
        let client = Self { commands: Some(commands), answers, thread: Some(thread) };
        start.recv().map_err(|_| anyhow!("the client's thread has ended"))??;
        Ok(client)
    }

    /// Lets it work; returns when its turn is over.
    pub fn work(&self, length: Duration) -> Result<()> {
        self.ask(Command::Work(length)).map(drop)
    }

    /// What was measured since the last time.
    pub fn collect(&self) -> Result<Sample> {
        self.ask(Command::Collect)
    }

    fn ask(&self, command: Command) -> Result<Sample> {
        let commands = self.commands.as_ref().context("the client has ended")?;
        commands.send(command).map_err(|_| anyhow!("the client's thread has ended"))?;
        self.answers.recv().map_err(|_| anyhow!("the client's thread has ended"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn prepare(place: &Place, operation: Operation, cpus: Cpus) -> Result<Worker> {
    cpus.enter().context("move to the CPU of the measurement")?;
    place.ns.enter()?;
    if let Some(cgroup) = &place.cgroup {
        cgroup.enter()?;
    }
    Worker::new(place.targets.clone(), operation)
}

fn serve(mut worker: Worker, told: &Receiver<Command>, answer: &SyncSender<Sample>) {
    while let Ok(command) = told.recv() {
        let sample = match command {
            Command::Work(length) => {
                worker.turn(length);
                Sample::default()
            }
            Command::Collect => std::mem::take(&mut worker.sample),
        };
        if answer.send(sample).is_err() {
            return;
        }
    }
}

struct Worker {
    operation: Operation,
    targets: Vec<SocketAddr>,
    next: usize,
    stream: Option<TcpStream>,
    socket: Option<UdpSocket>,
    payload: Vec<u8>,
    sample: Sample,
}

impl Worker {
    fn new(targets: Vec<SocketAddr>, operation: Operation) -> Result<Self> {
        let mut worker = Self {
            operation,
            targets,
            next: 0,
            stream: None,
            socket: None,
            payload: Vec::new(),
            sample: Sample::default(),
        };
        let target = worker.target();
        match operation {
            Operation::Request => worker.stream = Some(tcp(target)?),
            Operation::DatagramRequest => worker.socket = Some(udp(target)?),
            Operation::Bulk => {
                worker.stream = Some(tcp(target)?);
                worker.payload = vec![b'x'; BULK];
            }
            Operation::Connect | Operation::ConnectRequestClose | Operation::Datagram => {}
            Operation::Packets(_) => bail!("packets have no client"),
        }
        Ok(worker)
    }

    fn target(&mut self) -> SocketAddr {
        let target = self.targets[self.next];
        self.next = (self.next + 1) % self.targets.len();
        target
    }

    fn turn(&mut self, length: Duration) {
        let end = Instant::now() + length;
        loop {
            match self.operate() {
                Ok(took) => self.sample.times.push(took.as_nanos() as u64),
                Err(_) => self.sample.failed += 1,
            }
            if Instant::now() >= end {
                return;
            }
        }
    }

    fn operate(&mut self) -> io::Result<Duration> {
        let target = match self.operation {
            Operation::Connect | Operation::ConnectRequestClose | Operation::Datagram => {
                self.target()
            }
            _ => self.targets[0],
        };
        let start = Instant::now();
        match self.operation {
            Operation::Connect => {
                let socket = connected(target, Type::STREAM)?;
                let took = start.elapsed();
                socket.set_linger(Some(Duration::ZERO))?;
                return Ok(took);
            }
            Operation::ConnectRequestClose => request(&mut tcp(target)?, b"x")?,
            Operation::Datagram => datagram(&udp(target)?)?,
            Operation::Request => request(self.stream()?, b"x")?,
            Operation::DatagramRequest => {
                datagram(self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?)?;
            }
            Operation::Bulk => {
                let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
                request(stream, &self.payload)?;
            }
            Operation::Packets(_) => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(start.elapsed())
    }

    fn stream(&mut self) -> io::Result<&mut TcpStream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

fn tcp(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = connected(target, Type::STREAM)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    Ok(socket.into())
}

fn udp(target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = connected(target, Type::DGRAM)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    Ok(socket.into())
}

/// Connects with as few system calls as possible; the send timeout bounds the connect.
fn connected(target: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), kind, None)?;
    socket.set_write_timeout(Some(DEADLINE))?;
    socket.connect(&target.into())?;
    Ok(socket)
}

fn request(stream: &mut TcpStream, payload: &[u8]) -> io::Result<()> {
    stream.write_all(payload)?;
    stream.read_exact(&mut [0])
}

fn datagram(socket: &UdpSocket) -> io::Result<()> {
    socket.send(b"x")?;
    socket.recv(&mut [0; 8]).map(drop)
}
