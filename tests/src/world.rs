// SPDX-License-Identifier: Apache-2.0
//! A data path under test: the host build of the programs, or the loaded ones.
//!
//! Packet vectors ([`crate::vectors`]) are written once against this and run on both.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::{
    counter::{Counter, Hook, counter_index, drop_index},
    drop_reason::DropReason,
};

use crate::frame::Frame;

/// What a hook did with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On to the next program.
    Pass,
    /// Dropped.
    Drop,
    /// Delivered straight to a pod.
    Deliver,
}

/// The interface that every vector's client sits behind: loopback, which exists in every namespace.
pub const IFINDEX: u32 = 1;

/// A backend to write.
#[derive(Clone, Copy, Debug)]
pub struct BackendSpec {
    /// Its id.
    pub id: u32,
    /// Its address.
    pub addr: SocketAddr,
    /// Generation; 0 writes a free id.
    pub generation: u32,
    /// Host-side interface if it is local and may be reached by redirect.
    pub ifindex: u32,
}

/// One flow entry as the maps hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSpec {
    /// Bits of `flow_flags`.
    pub flags: u16,
    /// Backend id.
    pub backend: u32,
    /// What was seen from the client.
    pub forward: u8,
    /// What was seen from the backend.
    pub reply: u8,
    /// Packets counted.
    pub packets: u64,
}

/// The data path under test.
pub trait World {
    /// Writes a frontend that leads to slots; `proto` and port 0 write the wildcard.
    fn put_frontend(&mut self, addr: SocketAddr, proto: u8, slots: (u32, u32), flags: u32);
    /// Removes a frontend.
    fn remove_frontend(&mut self, addr: SocketAddr, proto: u8);
    /// Writes a slot.
    fn put_slot(&mut self, v6: bool, slot: u32, backend: u32);
    /// Writes a backend.
    fn put_backend(&mut self, backend: BackendSpec);
    /// Sends raw bytes through a hook.
    fn send_bytes(&mut self, hook: Hook, frame: &[u8]) -> (Verdict, Vec<u8>);
    /// A counter, summed over CPUs.
    fn counter(&self, index: u32) -> u64;
    /// Every flow entry of a protocol.
    fn flows(&self, v6: bool, proto: u8) -> Vec<FlowSpec>;
    /// Removes every flow entry, as eviction would.
    fn forget_flows(&mut self);
}

impl dyn World + '_ {
    /// Sends a frame through a hook and parses what comes out.
    pub fn send(&mut self, hook: Hook, frame: &Frame) -> (Verdict, Frame) {
        let (verdict, bytes) = self.send_bytes(hook, &frame.bytes());
        (verdict, Frame::parse(&bytes))
    }

    /// Writes a service: slots and backends from id and slot `first` on, frontend and wildcard.
    pub fn service(&mut self, frontend: &str, proto: u8, first: u32, backends: &[&str]) {
        let addr: SocketAddr = address(frontend);
        for (index, backend) in (first..).zip(backends) {
            let addr = address(backend);
            self.put_backend(BackendSpec { id: index, addr, generation: 1, ifindex: IFINDEX });
            self.put_slot(addr.is_ipv6(), index, index);
        }
        self.put_frontend(SocketAddr::new(addr.ip(), 0), 0, (0, 0), 0);
        self.put_frontend(addr, proto, (first, backends.len() as u32), 0);
    }

    /// A counter of a hook.
    pub fn count(&self, hook: Hook, counter: Counter) -> u64 {
        self.counter(counter_index(hook, counter))
    }

    /// A drop reason of a hook.
    pub fn drops(&self, hook: Hook, reason: DropReason) -> u64 {
        self.counter(drop_index(hook, reason))
    }

    /// Every packet that was dropped at a hook.
    pub fn all_drops(&self, hook: Hook) -> u64 {
        DropReason::ALL.iter().map(|reason| self.drops(hook, *reason)).sum()
    }
}

/// Parses a socket address of a vector.
pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("not an address: {text}"))
}

/// The source a pod sees when it reaches itself, in every world.
pub fn hairpin_address(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0x5e1f])
    } else {
        IpAddr::from([169, 254, 42, 1])
    }
}
