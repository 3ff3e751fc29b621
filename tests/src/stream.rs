// SPDX-License-Identifier: Apache-2.0
//! A stream of UDP datagrams from one port that never pauses, and what became of each of them.
//!
//! It does not wait for answers, so nothing that goes wrong gives a flow time to expire.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use pintle_lab::netns::NetNs;

/// How long answers are waited for after the last datagram.
const REST: Duration = Duration::from_millis(300);

/// How the socket names whom it sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It is connected, and connects again from the same port when it is closed.
    Connected,
    /// Each datagram has its address.
    Named,
}

/// What became of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The pod of this name has answered, from the address that was dialled.
    Answered(String),
    /// It was answered, from another address than the one that was dialled.
    Misattributed(SocketAddr),
    /// While it was the last one the socket was told that nobody listens.
    Refused,
    /// While it was the last one the socket was closed, and connected again.
    Closed,
    /// Nothing came.
    Lost,
}

/// A running stream; it stops when dropped.
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    sender: Option<JoinHandle<Vec<Fate>>>,
}

impl Stream {
    /// Starts one in `ns` from a port of its own.
    pub fn start(ns: &NetNs, (port, target): (u16, SocketAddr), peer: Peer, rate: u32) -> Stream {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let sender = ns.spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || {
                let socket = bind(port, target).expect("a socket on the stream's port");
                let mut sender = Sender { socket, target, peer, fates: Vec::new() };
                sender.connect();
                sender.run(&stop, &sent, Duration::from_secs(1) / rate);
                sender.fates
            }
        });
        Stream { stop, sent, sender: Some(sender) }
    }

    /// Number of datagrams whose sending has begun.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Waits until so many were sent.
    pub fn wait_for(&self, count: usize) {
        while self.sent() < count {
            let sender = self.sender.as_ref().expect("it is not stopped");
            assert!(!sender.is_finished(), "the stream has broken off");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops it; what became of each datagram, in order.
    pub fn stop(mut self) -> Vec<Fate> {
        self.stop.store(true, Ordering::SeqCst);
        let sender = self.sender.take().expect("it stops once");
        sender.join().expect("the stream's sender")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

struct Sender {
    socket: UdpSocket,
    target: SocketAddr,
    peer: Peer,
    fates: Vec<Fate>,
}

impl Sender {
    fn run(&mut self, stop: &AtomicBool, sent: &AtomicUsize, step: Duration) {
        let mut next = Instant::now();
        while !stop.load(Ordering::SeqCst) {
            let number = self.fates.len();
            self.fates.push(Fate::Lost);
            sent.store(number + 1, Ordering::SeqCst);
            if let Err(error) = self.send(number.to_string().as_bytes()) {
                self.note(&error);
            }
            next += step;
            self.listen_until(next);
        }
        self.listen_until(Instant::now() + REST);
    }

    fn send(&self, payload: &[u8]) -> io::Result<usize> {
        match self.peer {
            Peer::Connected => self.socket.send(payload),
            Peer::Named => self.socket.send_to(payload, self.target),
        }
    }

    fn listen_until(&mut self, end: Instant) {
        let mut buffer = [0; 512];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.socket.set_read_timeout(Some(left)).expect("a timeout");
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => self.note_answer(&buffer[..length], from),
                Err(error) => self.note(&error),
            }
        }
    }

    fn note_answer(&mut self, answer: &[u8], from: SocketAddr) {
        let text = String::from_utf8_lossy(answer);
        let (pod, number) = text.split_once(' ').expect("an answer names its pod");
        let number: usize = number.parse().expect("an answer repeats the datagram");
        self.fates[number] = match from == self.target {
            true => Fate::Answered(pod.to_owned()),
            false => Fate::Misattributed(from),
        };
    }

    fn note(&mut self, error: &io::Error) {
        let fate = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => return,
            ErrorKind::ConnectionRefused => Fate::Refused,
            // From the network's side the address leads nowhere.
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => return,
            _ => Fate::Closed,
        };
        let closed = fate == Fate::Closed;
        if let Some(last) = self.fates.last_mut().filter(|last| **last == Fate::Lost) {
            *last = fate;
        }
        if closed {
            self.connect();
        }
    }

    /// Says whom the socket talks to, if it is one that is connected. That may be refused at once.
    fn connect(&mut self) {
        if self.peer == Peer::Connected
            && self.socket.connect(self.target).is_err()
            && let Some(last) = self.fates.last_mut()
        {
            *last = Fate::Refused;
        }
    }
}

fn bind(port: u16, target: SocketAddr) -> io::Result<UdpSocket> {
    let (domain, any): (_, IpAddr) = match target {
        SocketAddr::V4(_) => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if target.is_ipv6() {
        // A stream of the other family may have the same port.
        socket.set_only_v6(true)?;
    }
    socket.bind(&SocketAddr::new(any, port).into())?;
    Ok(socket.into())
}

/// Panics unless one of these pods has answered each of the datagrams; `what` says which they are.
#[track_caller]
pub fn expect_answers(what: &str, fates: &[Fate], pods: &[&str]) {
    assert!(!fates.is_empty(), "{what}: no datagram");
    let is_good = |fate: &Fate| matches!(fate, Fate::Answered(pod) if pods.contains(&&**pod));
    let bad: Vec<_> = fates.iter().enumerate().filter(|(_, fate)| !is_good(fate)).collect();
    assert!(bad.is_empty(), "{what}: of {} datagrams {bad:?}", fates.len());
}

/// Panics if any of the datagrams was answered, or none refused.
#[track_caller]
pub fn expect_refusals(what: &str, fates: &[Fate]) {
    assert!(fates.contains(&Fate::Refused), "{what}: none refused of {fates:?}");
    expect_silence(what, fates);
}

/// Panics if any of the datagrams was answered.
#[track_caller]
pub fn expect_silence(what: &str, fates: &[Fate]) {
    let answered = fates.iter().filter(|fate| matches!(fate, Fate::Answered(_))).count();
    assert_eq!(answered, 0, "{what}: {fates:?}");
}
