// SPDX-License-Identifier: Apache-2.0
//! Many questions from one network at once: an answer, silence, or an error for each.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use pintle_lab::netns::NetNs;
use pintle_lab::topology::Family;
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

/// Nothing has come for so long: nothing will. A SYN is not repeated within this time.
const QUIET: Duration = Duration::from_millis(400);

/// What a probe speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pod of that name answered, and saw this address.
    Answer { by: String, seen: IpAddr },
    /// Nothing came back: what was denied has to look like this.
    Silence,
    /// A refusal, or another error.
    Error(String),
}

/// A probe under way.
struct Probe {
    socket: Socket,
    protocol: Protocol,
    outcome: Option<Outcome>,
}

/// What a probe dials.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub protocol: Protocol,
    pub addr: SocketAddr,
    /// The port that it dials from; any if 0.
    pub from_port: u16,
}

impl Target {
    /// An address and port, dialled from any port.
    pub fn new(protocol: Protocol, addr: SocketAddr) -> Target {
        Target { protocol, addr, from_port: 0 }
    }
}

/// Asks all targets at once from a network.
pub fn ask(from: &NetNs, targets: &[Target]) -> Vec<Outcome> {
    from.run(|| {
        let mut probes: Vec<Probe> = targets.iter().copied().map(Probe::start).collect();
        await_outcomes(&mut probes);
        probes.into_iter().map(|probe| probe.outcome.unwrap_or(Outcome::Silence)).collect()
    })
}

/// Asks one target.
pub fn ask_one(from: &NetNs, protocol: Protocol, target: SocketAddr) -> Outcome {
    ask(from, &[Target::new(protocol, target)]).remove(0)
}

fn await_outcomes(probes: &mut [Probe]) {
    let mut end = Instant::now() + QUIET;
    loop {
        let mut open: Vec<&mut Probe> =
            probes.iter_mut().filter(|probe| probe.outcome.is_none()).collect();
        let mut polled: Vec<libc::pollfd> = open.iter().map(|probe| probe.poll()).collect();
        let left = end.saturating_duration_since(Instant::now());
        if open.is_empty() || left.is_zero() {
            return;
        }
        let millis = left.as_millis() as libc::c_int + 1;
        // SAFETY: the array lives through the call and has the length that is told.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
        for (probe, polled) in open.iter_mut().zip(&polled) {
            if polled.revents != 0 {
                probe.look();
                // Others may still be on their way.
                end = Instant::now() + QUIET;
            }
        }
    }
}

impl Probe {
    fn start(target: Target) -> Probe {
        let Target { protocol, addr, .. } = target;
        let domain = if addr.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let (kind, number) = match protocol {
            Protocol::Tcp => (Type::STREAM, SocketProtocol::TCP),
            Protocol::Udp => (Type::DGRAM, SocketProtocol::UDP),
        };
        let socket = Socket::new(domain, kind.nonblocking(), Some(number)).expect("a socket");
        let is_under_way = |error: &io::Error| error.raw_os_error() == Some(libc::EINPROGRESS);
        let failed = dial(&socket, target).err().filter(|error| !is_under_way(error));
        let outcome = failed.map(|error| Outcome::Error(error.to_string()));
        Probe { socket, protocol, outcome }
    }

    fn poll(&self) -> libc::pollfd {
        libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 }
    }

    /// Reads what has come; the answer to a connection is shorter than a segment.
    fn look(&mut self) {
        let mut buffer = [0; 128];
        let read = match self.protocol {
            Protocol::Tcp => self.socket.read(&mut buffer),
            Protocol::Udp => (&self.socket).read(&mut buffer),
        };
        self.outcome = match read {
            Ok(count) => Some(Outcome::of(&buffer[..count])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Outcome::Error(error.to_string())),
        };
    }
}

fn dial(socket: &Socket, target: Target) -> io::Result<()> {
    if target.from_port != 0 {
        let any: IpAddr = match target.addr {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        socket.bind(&SocketAddr::new(any, target.from_port).into())?;
    }
    socket.connect(&target.addr.into())?;
    match target.protocol {
        Protocol::Tcp => Ok(()),
        Protocol::Udp => socket.send(b"who").map(drop),
    }
}

impl Outcome {
    fn of(answer: &[u8]) -> Outcome {
        let text = String::from_utf8_lossy(answer);
        let words: Option<(&str, IpAddr)> =
            text.trim().split_once(' ').and_then(|(by, seen)| Some((by, seen.parse().ok()?)));
        match words {
            Some((by, seen)) => Outcome::Answer { by: by.to_owned(), seen },
            None => Outcome::Error(format!("an answer of {} bytes", answer.len())),
        }
    }

    /// Whether somebody answered, or nobody; anything else is no outcome of a policy.
    #[track_caller]
    pub fn is_answer(&self) -> bool {
        match self {
            Outcome::Answer { .. } => true,
            Outcome::Silence => false,
            Outcome::Error(error) => panic!("neither an answer nor silence: {error}"),
        }
    }
}

/// Whether all these ports of an address answer, over both protocols, or none does.
#[track_caller]
pub fn reaches(from: &NetNs, ip: IpAddr, ports: &[u16]) -> bool {
    let at =
        |protocol| ports.iter().map(move |port| Target::new(protocol, SocketAddr::new(ip, *port)));
    let targets: Vec<Target> = Protocol::BOTH.into_iter().flat_map(at).collect();
    let outcomes = ask(from, &targets);
    let answers: Vec<bool> = outcomes.iter().map(Outcome::is_answer).collect();
    assert!(answers.iter().all(|one| *one == answers[0]), "{ip} {ports:?}: {outcomes:?}");
    answers[0]
}

/// The same over both families, for who has an address of each.
#[track_caller]
pub fn reaches_both(from: &NetNs, ip: impl Fn(Family) -> IpAddr, ports: &[u16]) -> bool {
    let [v4, v6] = Family::BOTH.map(|family| reaches(from, ip(family), ports));
    assert_eq!(v4, v6, "the families differ: {}", ip(Family::V4));
    v4
}
