// SPDX-License-Identifier: Apache-2.0
//! Closed-loop latency of worlds that are alive at once and take turns of a few milliseconds.
//!
//! Clients and servers share one CPU. The estimate is the ratio of medians within one epoch, so
//! whatever disturbs the machine for longer than a turn disturbs both sides alike.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use socket2::{Domain, Socket, Type};

use pintle_lab::client::DEADLINE;
use pintle_lab::netns::NetNs;

/// Length of one world's turn.
const TURN: Duration = Duration::from_millis(4);
/// Length of one epoch, over all worlds.
const EPOCH: Duration = Duration::from_secs(1);

/// What is measured, one operation at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// A TCP connect; the connection is then reset.
    Connect,
    /// Connect, one byte each way, close.
    ConnectRequestClose,
    /// One byte each way on an established TCP connection.
    TcpRequest,
    /// One byte each way on one UDP flow.
    UdpRequest,
    /// One byte each way over UDP, from a new port.
    UdpNewPort,
}

impl Workload {
    /// All, in the order of the table.
    pub const ALL: [Workload; 5] = [
        Workload::Connect,
        Workload::ConnectRequestClose,
        Workload::UdpNewPort,
        Workload::TcpRequest,
        Workload::UdpRequest,
    ];

    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Connect => "tcp-connect",
            Workload::ConnectRequestClose => "tcp-connect-request-close",
            Workload::UdpNewPort => "udp-new-port",
            Workload::TcpRequest => "tcp-request-response",
            Workload::UdpRequest => "udp-request-response",
        }
    }

    /// The largest acceptable ratio to direct, from the design's targets.
    pub fn target(self) -> f64 {
        match self {
            Workload::Connect => 1.08,
            Workload::ConnectRequestClose => 1.10,
            Workload::UdpNewPort => 1.20,
            Workload::TcpRequest | Workload::UdpRequest => 0.97,
        }
    }
}

/// One world as the measuring thread sees it: where its client is and what it dials.
pub struct Side {
    /// The client's namespace.
    pub ns: NetNs,
    /// A one-by-one TCP server.
    pub tcp: SocketAddr,
    /// A UDP mirror.
    pub udp: SocketAddr,
}

/// What one build of the worlds gave for one workload.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Mean over epochs of the ratio of medians, the second side to the first.
    pub ratio: f64,
    /// Median of the first side, in microseconds, mean over epochs.
    pub base_us: f64,
    /// Operations of both sides that failed; their times are not counted.
    pub failed: u64,
    /// Operations of both sides that succeeded.
    pub operations: u64,
}

/// Measures both sides for `seconds` epochs after a short warm-up.
///
/// It moves the calling thread between namespaces, so call it on a thread of its own.
pub fn measure(sides: &[Side; 2], workload: Workload, seconds: u32) -> Result<Measured> {
    let mut clients = Vec::new();
    for side in sides {
        side.ns.enter()?;
        clients.push(Client::new(side, workload)?);
    }
    for (side, client) in sides.iter().zip(&mut clients) {
        side.ns.enter()?;
        client.turn(Duration::from_millis(100));
        client.times.clear();
    }
    let (mut log_ratio, mut base) = (0.0, 0.0);
    for _ in 0..seconds {
        let end = Instant::now() + EPOCH;
        while Instant::now() < end {
            for (side, client) in sides.iter().zip(&mut clients) {
                side.ns.enter()?;
                client.turn(TURN);
            }
        }
        let [direct, other] = [0, 1].map(|side| median(&mut clients[side].times));
        ensure!(direct > 0.0 && other > 0.0, "{}: an epoch without success", workload.name());
        log_ratio += (other / direct).ln();
        base += direct;
        clients.iter_mut().for_each(Client::end_epoch);
    }
    let epochs = f64::from(seconds.max(1));
    Ok(Measured {
        ratio: (log_ratio / epochs).exp(),
        base_us: base / epochs / 1000.0,
        failed: clients.iter().map(|client| client.failed).sum(),
        operations: clients.iter().map(|client| client.operations).sum(),
    })
}

/// Mean of ratios of several builds, and the half-width of its 95 % interval between builds.
pub fn mean_and_interval(ratios: &[f64]) -> (f64, f64) {
    // Student's t for 95 %, by degrees of freedom from 1.
    const T: [f64; 9] = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26];
    let n = ratios.len() as f64;
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let mean = logs.iter().sum::<f64>() / n;
    if ratios.len() < 2 {
        return (mean.exp(), f64::NAN);
    }
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let t = T[(ratios.len() - 2).min(T.len() - 1)];
    (mean.exp(), mean.exp() * t * (variance / n).sqrt())
}

/// Pins the calling thread, and every thread and process it starts, to the last allowed CPU.
pub fn pin_to_one_cpu() -> io::Result<usize> {
    // SAFETY: all-zero bytes are a valid, empty CPU set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: the set is valid for writing and `size` is its size.
    if unsafe { libc::sched_getaffinity(0, size, &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let allowed = |cpu: &usize| {
        // SAFETY: the index is below CPU_SETSIZE.
        unsafe { libc::CPU_ISSET(*cpu, &set) }
    };
    let last = (0..libc::CPU_SETSIZE as usize).rev().find(allowed).unwrap_or(0);
    // SAFETY: the set is initialized, and the index came from a set of the same size.
    let rc = unsafe {
        libc::CPU_ZERO(&mut set);
        libc::CPU_SET(last, &mut set);
        libc::sched_setaffinity(0, size, &raw const set)
    };
    if rc == 0 { Ok(last) } else { Err(io::Error::last_os_error()) }
}

struct Client {
    workload: Workload,
    tcp: SocketAddr,
    udp: SocketAddr,
    stream: Option<TcpStream>,
    socket: Option<UdpSocket>,
    times: Vec<u64>,
    failed: u64,
    operations: u64,
}

impl Client {
    fn new(side: &Side, workload: Workload) -> Result<Client> {
        let mut client = Client {
            workload,
            tcp: side.tcp,
            udp: side.udp,
            stream: None,
            socket: None,
            times: Vec::with_capacity(200_000),
            failed: 0,
            operations: 0,
        };
        match workload {
            Workload::TcpRequest => client.stream = Some(connect(side.tcp)?),
            Workload::UdpRequest => client.socket = Some(connected_udp(side.udp)?),
            Workload::Connect | Workload::ConnectRequestClose | Workload::UdpNewPort => {}
        }
        Ok(client)
    }

    fn turn(&mut self, length: Duration) {
        let end = Instant::now() + length;
        loop {
            match self.operate() {
                Ok(took) => self.times.push(took.as_nanos() as u64),
                Err(_) => self.failed += 1,
            }
            if Instant::now() >= end {
                return;
            }
        }
    }

    fn end_epoch(&mut self) {
        self.operations += self.times.len() as u64;
        self.times.clear();
    }

    fn operate(&mut self) -> io::Result<Duration> {
        let start = Instant::now();
        match self.workload {
            Workload::Connect => {
                let socket = connected(self.tcp, Type::STREAM)?;
                let took = start.elapsed();
                socket.set_linger(Some(Duration::ZERO))?;
                return Ok(took);
            }
            Workload::ConnectRequestClose => tcp_request(&mut connect(self.tcp)?)?,
            Workload::UdpNewPort => udp_request(&connected_udp(self.udp)?)?,
            Workload::TcpRequest => {
                tcp_request(self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?)?;
            }
            Workload::UdpRequest => {
                udp_request(self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?)?;
            }
        }
        Ok(start.elapsed())
    }
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = connected(target, Type::STREAM)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    Ok(socket.into())
}

fn connected_udp(target: SocketAddr) -> io::Result<UdpSocket> {
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

fn tcp_request(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}

fn udp_request(socket: &UdpSocket) -> io::Result<()> {
    socket.send(b"x")?;
    socket.recv(&mut [0; 8]).map(drop)
}

/// Of an empty slice, zero.
fn median(times: &mut [u64]) -> f64 {
    if times.is_empty() {
        return 0.0;
    }
    let middle = times.len() / 2;
    *times.select_nth_unstable(middle).1 as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_builds_have_no_spread() {
        let (mean, interval) = mean_and_interval(&[1.1, 1.1, 1.1]);
        assert!((mean - 1.1).abs() < 1e-9 && interval.abs() < 1e-9, "{mean} +- {interval}");
    }

    #[test]
    fn the_median_ignores_outliers() {
        assert_eq!(median(&mut [5, 1_000_000, 4, 6, 5]), 5.0);
        assert_eq!(median(&mut []), 0.0);
    }
}
