// SPDX-License-Identifier: Apache-2.0
//! Load from a pod, and what became of every single operation.
//!
//! A failed operation is never retried in silence: it is counted under its error, and the
//! generator goes on with a new connection.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pintle_lab::client::{
    DEADLINE, HttpConnection, http_get, udp_ask, udp_ask_on, udp_pod, udp_socket_within,
};
use pintle_lab::netns::NetNs;

/// What the load consists of; each of its `concurrency` workers does the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One HTTP connection per worker for the whole time, a request every `pause`.
    LongLived {
        /// Time between an answer and the next request.
        pause: Duration,
    },
    /// Connect, request, close, at this rate over all workers.
    Short {
        /// Connections per second.
        per_second: u32,
    },
    /// A datagram from a new port each time, at this rate over all workers.
    UdpNewPort {
        /// Datagrams per second.
        per_second: u32,
    },
    /// Datagrams from one port per worker, a request every `pause`.
    UdpSamePort {
        /// Time between an answer and the next request.
        pause: Duration,
    },
}

/// What became of the operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Operations that succeeded.
    pub ok: u64,
    /// Operations that failed, by error.
    pub failed: BTreeMap<String, u64>,
    /// Operations that succeeded, by the pod that answered.
    pub by_pod: BTreeMap<String, u64>,
    /// The longest successful operation.
    pub slowest: Duration,
}

impl Report {
    /// Number of failed operations.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Counts one operation.
    pub fn record(&mut self, result: io::Result<String>, took: Duration) {
        match result {
            Ok(pod) => {
                self.ok += 1;
                *self.by_pod.entry(pod).or_default() += 1;
                self.slowest = self.slowest.max(took);
            }
            Err(error) => *self.failed.entry(error_name(&error)).or_default() += 1,
        }
    }

    /// Adds another worker's operations.
    pub fn merge(&mut self, other: Report) {
        self.ok += other.ok;
        self.slowest = self.slowest.max(other.slowest);
        for (error, count) in other.failed {
            *self.failed.entry(error).or_default() += count;
        }
        for (pod, count) in other.by_pod {
            *self.by_pod.entry(pod).or_default() += count;
        }
    }

    /// Panics with the whole report unless operations happened and none failed.
    #[track_caller]
    pub fn expect_no_failure(&self, what: &str) {
        assert!(self.ok > 0 && self.failures() == 0, "{what}: {self}");
    }

    /// Whether each of `pods` got its even share, up to a part of it.
    pub fn is_within(&self, pods: usize, tolerance: f64) -> bool {
        let share = self.ok as f64 / pods as f64;
        let close = |count: &u64| (*count as f64 - share).abs() <= tolerance * share;
        self.by_pod.len() == pods && self.by_pod.values().all(close)
    }

    /// Panics unless each of `pods` got its even share, within five standard deviations of what a
    /// uniform choice gives: 7 % of the share for 10,000 operations over 3 pods.
    #[track_caller]
    pub fn expect_even(&self, pods: usize) {
        let chance = 1.0 / pods as f64;
        let share = self.ok as f64 * chance;
        let deviation = (share * (1.0 - chance)).sqrt();
        let even = |count: &u64| (*count as f64 - share).abs() <= 5.0 * deviation;
        assert!(self.by_pod.len() == pods && self.by_pod.values().all(even), "uneven: {self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Report { ok, failed, by_pod, slowest } = self;
        write!(f, "{ok} ok, {} failed {failed:?}, by pod {by_pod:?}, ", self.failures())?;
        write!(f, "slowest {slowest:?}")
    }
}

/// A running load; it stops when dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Report>>,
}

impl Load {
    /// Starts `concurrency` workers in `ns` towards `target`.
    pub fn start(ns: &NetNs, target: SocketAddr, concurrency: u32, kind: Kind) -> Load {
        Load::patient(ns, target, concurrency, kind, DEADLINE)
    }

    /// The same on a busy machine, where an operation may take longer. What TCP repeats is no failure
    /// then; what UDP loses still is.
    pub fn patient(
        ns: &NetNs,
        target: SocketAddr,
        concurrency: u32,
        kind: Kind,
        patience: Duration,
    ) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let worker = |index: u32| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            ns.spawn(move || {
                let mut worker = Worker { target, patience, stop, done, report: Report::default() };
                worker.work(kind, index, concurrency);
                worker.report
            })
        };
        let workers = (0..concurrency).map(worker).collect();
        Load { stop, done, workers }
    }

    /// Operations so far, failed ones included.
    pub fn operations(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Stops the workers and adds up what they saw.
    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Report::default();
        for worker in self.workers.drain(..) {
            total.merge(worker.join().expect("a load worker"));
        }
        total
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Does `count` operations one after the other, as fast as they go; gives up after ten failures.
pub fn repeat(count: u64, mut operation: impl FnMut() -> io::Result<String>) -> Report {
    let mut report = Report::default();
    for _ in 0..count {
        let start = Instant::now();
        report.record(operation(), start.elapsed());
        if report.failures() >= 10 {
            break;
        }
    }
    report
}

/// One short HTTP connection; names the pod that answered.
pub fn short_http(target: SocketAddr) -> io::Result<String> {
    Ok(http_get(target)?.pod)
}

/// One datagram from a new port; names the pod that answered.
pub fn short_udp(target: SocketAddr) -> io::Result<String> {
    Ok(udp_pod(&udp_ask(target, b"hello")?))
}

struct Worker {
    target: SocketAddr,
    patience: Duration,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    report: Report,
}

impl Worker {
    fn work(&mut self, kind: Kind, index: u32, of: u32) {
        let (target, patience) = (self.target, self.patience);
        match kind {
            Kind::LongLived { pause } => self.keep_connection(pause),
            Kind::UdpSamePort { pause } => self.keep_port(pause),
            Kind::Short { per_second } => {
                self.paced(per_second, index, of, move || {
                    Ok(HttpConnection::open_within(target, patience)?.get()?.pod)
                });
            }
            Kind::UdpNewPort { per_second } => {
                self.paced(per_second, index, of, move || {
                    let socket = udp_socket_within(target, patience)?;
                    Ok(udp_pod(&udp_ask_on(&socket, target, b"hello")?))
                });
            }
        }
    }

    fn keep_connection(&mut self, pause: Duration) {
        let mut connection: Option<HttpConnection> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let (target, patience) = (self.target, self.patience);
            let failed = !self.count(|| {
                if connection.is_none() {
                    connection = Some(HttpConnection::open_within(target, patience)?);
                }
                let open = connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
                Ok(open.get()?.pod)
            });
            if failed {
                connection = None;
            }
            thread::sleep(pause);
        }
    }

    fn keep_port(&mut self, pause: Duration) {
        let target = self.target;
        let socket = udp_socket_within(target, self.patience).expect("a UDP socket");
        while !self.stop.load(Ordering::Relaxed) {
            self.count(|| Ok(udp_pod(&udp_ask_on(&socket, target, b"hello")?)));
            thread::sleep(pause);
        }
    }

    /// Keeps to absolute times, so that a slow operation does not lower the rate.
    fn paced(
        &mut self,
        per_second: u32,
        index: u32,
        of: u32,
        operation: impl Fn() -> io::Result<String>,
    ) {
        let step = Duration::from_secs(1) * of / per_second.max(1);
        let mut next = Instant::now() + step * index / of;
        while !self.stop.load(Ordering::Relaxed) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            self.count(&operation);
            next += step;
        }
    }

    fn count(&mut self, operation: impl FnOnce() -> io::Result<String>) -> bool {
        let start = Instant::now();
        let result = operation();
        let ok = result.is_ok();
        self.report.record(result, start.elapsed());
        self.done.fetch_add(1, Ordering::Relaxed);
        ok
    }
}

fn error_name(error: &io::Error) -> String {
    match (error.raw_os_error(), error.kind()) {
        // The timeouts of a socket's read and of its connect have different errors.
        (_, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => "timed out".into(),
        (None, io::ErrorKind::AddrNotAvailable) => format!("wrong source: {error}"),
        _ => error.to_string(),
    }
}
