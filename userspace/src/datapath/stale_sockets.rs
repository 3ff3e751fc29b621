// SPDX-License-Identifier: Apache-2.0
//! Closes UDP sockets that are connected to a backend that is gone: nothing else would tell them, for
//! no program sees what they send. Sockets that are not connected choose again with their next datagram.
//!
//! A socket is stale if the generation that the programs kept with it is not its backend's any more.
//! That is decided by the maps alone, so nothing is lost when the agent was not there at the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData, MapError};
use pintle_abi::{
    addr::{V4, V6},
    map::{self, MapSpec},
    plain::Plain,
    service::{Backend, backend_state},
    socket::{Datagram, DatagramKey, UdpSocket, family, side},
};
use tracing::{info, warn};

use super::{
    batch, cgroup,
    element::Elements,
    entry::AbiAddr,
    pins::Pins,
    socket::{Scope, netns_cookie},
    socket_diag::UdpSockets,
};

/// A round is followed by a pause this many times as long, so that rounds take 5 % of a CPU.
const REST: u32 = 20;
/// Longest pause: the time until a socket is closed while backends come and go all the time.
const LONGEST: Duration = Duration::from_secs(2);
/// Where container runtimes keep namespaces that no visible process may be in.
const NAMED_NAMESPACES: &str = "/run/netns";

/// What the programs keep of one family, and the backends it refers to.
struct Family<A>
where
    Backend<A>: aya::Pod,
{
    datagrams: OwnedFd,
    backends: Array<MapData, Backend<A>>,
}

/// Closes stale sockets until told to stop.
pub struct StaleSockets {
    v4: Family<V4>,
    v6: Family<V6>,
    connected: OwnedFd,
    scope: Scope,
    cgroup: PathBuf,
}

/// Stale sockets of one network namespace: their cookies, by the namespace's.
type Stale = BTreeMap<u64, BTreeSet<u64>>;

impl StaleSockets {
    /// Opens the pinned maps.
    pub fn open(pins: &Pins, scope: Scope, cgroup: &Path) -> Result<Self, MapError> {
        let connected = MapData::from_pin(pins.map(&map::UDP_SOCKETS))?;
        Ok(Self {
            v4: Family::open(pins, [map::DATAGRAMS_V4, map::BACKENDS_V4])?,
            v6: Family::open(pins, [map::DATAGRAMS_V6, map::BACKENDS_V6])?,
            connected: connected.fd().as_fd().try_clone_to_owned()?,
            scope,
            cgroup: cgroup.to_owned(),
        })
    }

    /// Goes round whenever it is told that backends went, until the sender is gone. Moves the calling
    /// thread between network namespaces, and back.
    pub fn run(self, gone: &Receiver<()>) {
        let home = match File::open("/proc/thread-self/ns/net") {
            Ok(home) => home,
            Err(error) => {
                warn!(%error, "stale sockets stay: the own network namespace cannot be opened");
                return;
            }
        };
        while gone.recv().is_ok() {
            let start = Instant::now();
            let closed = self.round();
            // A thread keeps the namespace that it is in alive, and with it a pod's devices. Who has never
            // left need not have the capability to come back.
            if self.scope == Scope::All
                && let Err(error) = enter(&home)
            {
                warn!(%error, "stale sockets stay: cannot go back to the own network namespace");
                return;
            }
            if closed > 0 {
                info!(closed, "closed UDP sockets connected to backends that are gone");
            }
            thread::sleep((start.elapsed() * REST).min(LONGEST));
        }
    }

    fn round(&self) -> usize {
        for forgotten in [self.v4.forget_datagrams(), self.v6.forget_datagrams()] {
            if let Err(error) = forgotten {
                warn!(%error, "read the UDP sockets that are not connected");
            }
        }
        let stale = match self.stale() {
            Ok(stale) => stale,
            Err(error) => {
                warn!(%error, "read the connected UDP sockets");
                return 0;
            }
        };
        if stale.is_empty() {
            return 0;
        }
        match self.scope {
            Scope::Off => 0,
            Scope::Host => close_here(&stale, "the node"),
            Scope::All => {
                let all = namespaces(&self.cgroup);
                all.iter().filter(|ns| enter(ns).is_ok()).map(|_| close_here(&stale, "a pod")).sum()
            }
        }
    }

    /// Connected sockets whose backends are gone.
    fn stale(&self) -> io::Result<Stale> {
        let mut stale = Stale::new();
        batch::for_each(self.connected.as_fd(), |cookie: &u64, socket: &UdpSocket| {
            let is_gone = match socket.family {
                family::V4 => self.v4.is_gone(socket.id, socket.generation),
                family::V6 => self.v6.is_gone(socket.id, socket.generation),
                _ => false,
            };
            if is_gone {
                stale.entry(socket.netns).or_default().insert(*cookie);
            }
        })?;
        Ok(stale)
    }
}

/// Closes the stale sockets of the namespace that the calling thread is in.
fn close_here(stale: &Stale, place: &str) -> usize {
    let close = || -> io::Result<usize> {
        let Some(cookies) = stale.get(&netns_cookie()?) else { return Ok(0) };
        let sockets = UdpSockets::open()?;
        let mut closed = 0;
        for socket in sockets.connected()? {
            if cookies.contains(&socket.cookie()) {
                closed += usize::from(sockets.destroy(&socket)?);
            }
        }
        Ok(closed)
    };
    close().unwrap_or_else(|error| {
        warn!(%error, place, "stale UDP sockets stay");
        0
    })
}

impl<A: AbiAddr> Family<A>
where
    Backend<A>: Plain + Default,
    DatagramKey<A>: Plain + Default,
    Datagram<A>: Plain + Default,
{
    fn open(pins: &Pins, [datagrams, backends]: [MapSpec; 2]) -> Result<Self, MapError> {
        let datagrams = MapData::from_pin(pins.map(&datagrams))?;
        let backends = Map::Array(MapData::from_pin(pins.map(&backends))?);
        Ok(Self {
            datagrams: datagrams.fd().as_fd().try_clone_to_owned()?,
            backends: backends.try_into()?,
        })
    }

    /// Whether a backend is not the one it was.
    fn is_gone(&self, id: u32, generation: u32) -> bool {
        // What cannot be read is left alone.
        self.backends.get(&id, 0).is_ok_and(|backend| backend.generation != generation)
    }

    /// Whether nobody else has the id of a backend yet: its last answers may be on their way.
    fn is_leaving(&self, key: &DatagramKey<A>, id: u32) -> bool {
        self.backends.get(&id, 0).is_ok_and(|backend| {
            let is_there = backend.state != backend_state::FREE;
            is_there && backend.addr.ip() == key.addr.ip() && backend.port == key.port
        })
    }

    /// Forgets the choices of sockets that are not connected, where the backend is gone. The way back
    /// is kept a little longer.
    fn forget_datagrams(&self) -> io::Result<()> {
        let mut gone = Vec::new();
        let datagrams = self.datagrams.as_fd();
        batch::for_each(datagrams, |key: &DatagramKey<A>, value: &Datagram<A>| {
            let answers = key.side == side::BACKEND && self.is_leaving(key, value.id);
            if !answers && self.is_gone(value.id, value.generation) {
                gone.push(*key);
            }
        })?;
        let mut elements = Elements::<DatagramKey<A>, Datagram<A>>::of(datagrams);
        gone.iter().try_for_each(|key| elements.delete(key))
    }
}

/// The network namespaces of the threads in a cgroup, and those that have names; each once.
fn namespaces(cgroup: &Path) -> Vec<File> {
    let of_threads = cgroup::threads(cgroup).into_iter();
    let of_threads = of_threads.map(|thread| PathBuf::from(format!("/proc/{thread}/ns/net")));
    let named = fs::read_dir(NAMED_NAMESPACES).into_iter().flatten().flatten();
    let named = named.map(|entry| entry.path());
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for path in of_threads.chain(named) {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if seen.insert((metadata.dev(), metadata.ino())) {
            found.extend(File::open(&path));
        }
    }
    found
}

/// Moves the calling thread into a network namespace.
fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: the call takes a descriptor, which lives through it, and no pointers.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
