// SPDX-License-Identifier: Apache-2.0
//! Keeps the tables current: dumps once, follows multicast events, dumps again when some were lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use tokio::{
    io::unix::AsyncFd,
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, warn};

use super::{
    select::Selection,
    snapshot::Snapshot,
    state::{Effect, State},
    wire::{self, Event},
};
use crate::node::IfIndex;

const GROUPS: [u32; 7] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_TC,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
];
/// What a full dump reads: request and address family. Neighbours of AF_BRIDGE are the bridge tables.
const DUMPS: [(u16, i32); 5] = [
    (libc::RTM_GETLINK, libc::AF_UNSPEC),
    (libc::RTM_GETADDR, libc::AF_UNSPEC),
    (libc::RTM_GETROUTE, libc::AF_UNSPEC),
    (libc::RTM_GETNEIGH, libc::AF_UNSPEC),
    (libc::RTM_GETNEIGH, libc::AF_BRIDGE),
];
/// Larger than any netlink datagram of the kernel (32 KiB).
const DATAGRAM: usize = 64 * 1024;
/// Room for the events of some hundred pods that start at once.
const EVENT_BUFFER: usize = 4 * 1024 * 1024;
/// Pause before the next attempt when the kernel refuses a dump.
const RETRY: Duration = Duration::from_secs(1);
/// How often an interrupted dump is repeated at once: someone else is changing the table.
const DUMP_ATTEMPTS: usize = 20;

/// How often tcx programs are asked for: the kernel announces none.
const LOOK: Duration = Duration::from_secs(1);

/// How programs of others are found, by interface; set by who knows which are ours.
#[derive(Clone, Copy, Debug)]
pub struct Probes {
    /// A tcx program that redirected packets would not meet.
    pub programs: fn(&str) -> Option<String>,
    /// A clsact filter that redirected packets would not meet.
    pub filters: fn(IfIndex) -> Option<String>,
}

impl Probes {
    /// Finds nothing.
    pub const NONE: Self = Self { programs: |_| None, filters: |_| None };
}

/// The live view of the network namespace in which it was started.
#[derive(Debug)]
pub struct NodeView;

impl NodeView {
    /// Reads the node's network, and follows it in a task until every receiver is dropped.
    ///
    /// Each value the receiver sees is complete; a burst of events is one value. Must be called in a
    /// tokio runtime, on a thread of the network namespace that is meant.
    pub fn start(
        selection: Selection,
        probes: Probes,
    ) -> io::Result<(Snapshot, watch::Receiver<Snapshot>)> {
        // Subscribed before the first dump, so that no change falls between the two.
        let events = subscribe()?;
        let mut dumps = Socket::new(NETLINK_ROUTE)?;
        dumps.bind_auto()?;
        let mut state = dump(&dumps)?;
        look_at_all(&mut state, probes);
        let snapshot = Snapshot::new(Arc::new(state.clone()), &selection);
        let (sender, receiver) = watch::channel(snapshot.clone());
        // SAFETY: the socket owns its descriptor and gives out the same one as long as it lives.
        let events = unsafe { AsyncFd::register(events) }?;
        let follower = Follower { events, dumps, state, selection, probes, sender };
        tokio::spawn(follower.run());
        Ok((snapshot, receiver))
    }
}

struct Follower {
    events: AsyncFd<Socket>,
    dumps: Socket,
    state: State,
    selection: Selection,
    probes: Probes,
    sender: watch::Sender<Snapshot>,
}

impl Follower {
    async fn run(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ready = tokio::select! {
                ready = self.events.readable() => Some(ready.map(|mut guard| guard.clear_ready())),
                _ = looks.tick() => None,
                () = self.sender.closed() => return,
            };
            let effect = match ready {
                None => look_at_programs(&mut self.state, self.probes),
                Some(Ok(())) => self.drain(),
                Some(Err(error)) => {
                    warn!(%error, "cannot wait for netlink events");
                    return;
                }
            };
            match effect {
                Effect::None => continue,
                Effect::Changed => {}
                Effect::Resync => self.resync().await,
            }
            let snapshot = Snapshot::new(Arc::new(self.state.clone()), &self.selection);
            self.sender.send_replace(snapshot);
        }
    }

    /// Takes in everything that has arrived.
    fn drain(&mut self) -> Effect {
        let mut effect = Effect::None;
        let mut look_at = BTreeSet::new();
        let mut datagram = Vec::with_capacity(DATAGRAM);
        loop {
            datagram.clear();
            match self.events.get_ref().recv(&mut datagram, libc::MSG_DONTWAIT) {
                Ok(_) => {
                    for (kind, flags, body) in wire::messages(&datagram) {
                        if let Some(event) = wire::decode(kind, flags, body) {
                            look_at.extend(self.to_look_at(&event));
                            effect = effect.max(self.state.fold(event));
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ENOBUFS: events were lost.
                Err(error) => {
                    debug!(%error, "netlink events lost");
                    effect = Effect::Resync;
                }
            }
        }
        for index in look_at {
            effect = effect.max(look(&mut self.state, self.probes, index));
        }
        effect
    }

    /// The interface whose programs an event may have changed.
    fn to_look_at(&self, event: &Event) -> Option<IfIndex> {
        match event {
            Event::Filters(index) => Some(*index),
            Event::Link(link) => {
                (!self.state.links.contains_key(&link.index)).then_some(link.index)
            }
            _ => None,
        }
    }

    async fn resync(&mut self) {
        loop {
            match dump(&self.dumps) {
                Ok(state) => {
                    self.state = state;
                    look_at_all(&mut self.state, self.probes);
                    return;
                }
                Err(error) => {
                    warn!(%error, "cannot read the node's network; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// Looks for programs and filters of others on every interface.
fn look_at_all(state: &mut State, probes: Probes) {
    let indices: Vec<IfIndex> = state.links.keys().copied().collect();
    for index in indices {
        look(state, probes, index);
    }
}

/// Looks for tcx programs of others on every interface.
fn look_at_programs(state: &mut State, probes: Probes) -> Effect {
    let mut effect = Effect::None;
    for (index, link) in state.links.iter().filter(|(_, link)| link.peer_elsewhere) {
        let found = (probes.programs)(&link.name);
        effect = effect.max(note(&mut state.foreign_programs, *index, found));
    }
    effect
}

/// Looks for programs and filters of others on an interface, if it is a veth to elsewhere.
fn look(state: &mut State, probes: Probes, index: IfIndex) -> Effect {
    let Some(link) = state.links.get(&index).filter(|link| link.peer_elsewhere) else {
        return Effect::None;
    };
    let (program, filter) = ((probes.programs)(&link.name), (probes.filters)(index));
    let programs = note(&mut state.foreign_programs, index, program);
    programs.max(note(&mut state.foreign_filters, index, filter))
}

fn note(table: &mut BTreeMap<IfIndex, String>, index: IfIndex, found: Option<String>) -> Effect {
    let old = match &found {
        Some(name) => table.insert(index, name.clone()),
        None => table.remove(&index),
    };
    if old == found { Effect::None } else { Effect::Changed }
}

fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    socket.set_rx_buf_sz(EVENT_BUFFER as libc::c_int)?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

fn dump(socket: &Socket) -> io::Result<State> {
    let mut state = State::default();
    for (kind, family) in DUMPS {
        let mut attempts = 0;
        while !dump_one(socket, kind, family as u8, &mut state)? {
            attempts += 1;
            if attempts == DUMP_ATTEMPTS {
                return Err(io::Error::other("the tables change faster than they can be read"));
            }
            // Entries of the interrupted attempt may be gone by now.
            forget(&mut state, kind, family);
        }
    }
    Ok(state)
}

fn forget(state: &mut State, kind: u16, family: i32) {
    match (kind, family) {
        (libc::RTM_GETLINK, _) => state.links.clear(),
        (libc::RTM_GETADDR, _) => state.addresses.clear(),
        (libc::RTM_GETROUTE, _) => state.routes.clear(),
        (_, libc::AF_BRIDGE) => state.forwarding.clear(),
        _ => state.neighbours.clear(),
    }
}

/// Reads one table; false if it changed meanwhile and may be inconsistent.
fn dump_one(socket: &Socket, kind: u16, family: u8, state: &mut State) -> io::Result<bool> {
    socket.send(&wire::dump_request(kind, family), 0)?;
    let mut consistent = true;
    let mut datagram = Vec::with_capacity(DATAGRAM);
    loop {
        datagram.clear();
        socket.recv(&mut datagram, 0)?;
        for (kind, flags, body) in wire::messages(&datagram) {
            consistent &= flags & libc::NLM_F_DUMP_INTR as u16 == 0;
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(consistent),
                libc::NLMSG_ERROR => wire::answer(body)?,
                _ => {
                    // The effect is meant for events; whatever a dump says is the truth.
                    if let Some(event) = wire::decode(kind, 0, body) {
                        state.fold(event);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs no privilege: every namespace may read its own tables.
    #[tokio::test]
    async fn the_first_snapshot_reads_every_table_of_this_namespace() {
        let (first, receiver) = NodeView::start(Selection::default(), Probes::NONE).unwrap();
        assert_eq!(*first.interfaces, *receiver.borrow().interfaces);
        let socket = subscribe().unwrap();
        drop(socket);
        let mut dumps = Socket::new(NETLINK_ROUTE).unwrap();
        dumps.bind_auto().unwrap();
        let state = dump(&dumps).unwrap();
        assert!(state.links.values().any(|link| link.name == "lo"), "{state:#?}");
    }
}
