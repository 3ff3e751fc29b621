// SPDX-License-Identifier: Apache-2.0
//! Removes flows that have expired: the flow maps never evict, so somebody has to.
//!
//! Nothing depends on it being in time: the programs look at a flow's age themselves where it
//! matters, and what finds the maps full goes to the overflow maps, but for SCTP.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use aya::maps::MapData;
use pintle_abi::{
    addr::{Ordered, Tuple, V4, V6},
    flow::Flow,
    map::{self, MapSpec},
    plain::Plain,
};
use tracing::{debug, warn};

use super::{batch, element::Elements, expiry, pins::Pins};
use crate::model::addr::Protocol;

/// Shortest pause between two rounds: a fifth of the shortest timeout.
const PAUSE: Duration = Duration::from_secs(1);
/// A round is followed by a pause this many times as long, so that sweeping takes 2 % of a CPU.
const REST: u32 = 50;

/// Removes expired flows until told to stop, by the other end of the channel.
pub struct Sweeper {
    maps: Vec<(MapSpec, Protocol, bool, OwnedFd)>,
}

impl Sweeper {
    /// Opens the pinned flow maps.
    pub fn open(pins: &Pins) -> io::Result<Self> {
        let maps = [
            (map::TCP_FLOWS_V4, Protocol::Tcp, false),
            (map::TCP_FLOWS_V6, Protocol::Tcp, true),
            (map::UDP_FLOWS_V4, Protocol::Udp, false),
            (map::UDP_FLOWS_V6, Protocol::Udp, true),
            (map::SCTP_FLOWS_V4, Protocol::Sctp, false),
            (map::SCTP_FLOWS_V6, Protocol::Sctp, true),
        ];
        let maps = maps
            .into_iter()
            .map(|(spec, protocol, v6)| Ok((spec, protocol, v6, open(&pins.map(&spec))?)));
        Ok(Self { maps: maps.collect::<io::Result<_>>()? })
    }

    /// Sweeps until the sender of `stop` is gone.
    pub fn run(self, stop: &Receiver<()>) {
        loop {
            let start = Instant::now();
            match self.sweep(monotonic_ns()) {
                Ok(removed) if removed > 0 => debug!(removed, "expired flows"),
                Ok(_) => {}
                Err(error) => warn!(%error, "sweep the flow maps"),
            }
            let pause = (start.elapsed() * REST).max(PAUSE);
            match stop.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One round; returns how many connections were removed.
    pub fn sweep(&self, now_ns: u64) -> io::Result<usize> {
        let mut removed = 0;
        for (_, protocol, v6, fd) in &self.maps {
            removed += match v6 {
                false => sweep::<V4>(fd, *protocol, now_ns)?,
                true => sweep::<V6>(fd, *protocol, now_ns)?,
            };
        }
        Ok(removed)
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let map = MapData::from_pin(path).map_err(io::Error::other)?;
    map.fd().as_fd().try_clone_to_owned()
}

/// `CLOCK_MONOTONIC` in ns, the clock of the programs.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the struct, which lives until the call returns.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn sweep<A: Ordered + Default>(fd: &OwnedFd, protocol: Protocol, now_ns: u64) -> io::Result<usize>
where
    Tuple<A>: Plain + Default,
    Flow<A>: Plain + Default,
{
    let mut expired = Vec::new();
    batch::for_each(fd.as_fd(), |key: &Tuple<A>, flow: &Flow<A>| {
        if expiry::is_expired(protocol, flow, now_ns) {
            expired.push((*key, *flow));
        }
    })?;
    expiry::remove(&mut Elements::of(fd.as_fd()), &expired)
}
