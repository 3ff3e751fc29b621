// SPDX-License-Identifier: Apache-2.0
//! A data path under test: the host build of the programs, or the loaded ones.
//!
//! Packet vectors ([`crate::vectors`]) are written once against this and run on both.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use pintle_abi::{
    addr::{V4, V6, proto},
    counter::{Counter, Hook, counter_index, drop_index},
    drop_reason::DropReason,
    service::wildcard_flags,
    settings::Settings,
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

/// MTU of the interface that clients sit behind.
pub const MTU: u32 = 1500;

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

/// The two maps that hold the flows of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The one that never evicts.
    Main,
    /// The one for flows that find the first full.
    Overflow,
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
    /// Every flow entry of a protocol in a table.
    fn flows(&self, v6: bool, proto: u8, table: Table) -> Vec<FlowSpec>;
    /// Makes every flow entry look idle for that much longer.
    fn age_flows(&mut self, ns: u64);
    /// Makes every first fragment look older.
    fn age_fragments(&mut self, ns: u64);
    /// Removes every flow entry, as eviction would; main entries only, or both.
    fn forget_flows(&mut self, which: Forget);
    /// Fills a flow map with entries of other connections until it takes no more.
    fn fill_flows(&mut self, v6: bool, proto: u8);
}

/// Which flow entries to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// Aliases and main entries.
    Everything,
    /// Main entries only: half of each pair.
    Mains,
}

/// The protocols that have flows, with the word for each.
const FLOW_PROTOCOLS: [(u8, &str); 2] = [(proto::TCP, "tcp"), (proto::UDP, "udp")];

impl dyn World + '_ {
    /// Sends a frame through a hook and parses what comes out.
    pub fn send(&mut self, hook: Hook, frame: &Frame) -> (Verdict, Frame) {
        let (verdict, bytes) = self.send_bytes(hook, &frame.bytes());
        (verdict, Frame::parse(&bytes))
    }

    /// Sends a frame through `from_pod`; it must come out like that.
    #[track_caller]
    pub fn from_pod(&mut self, frame: &Frame, verdict: Verdict, expected: &Frame) {
        assert_eq!(self.send(Hook::FromPod, frame), (verdict, expected.clone()));
    }

    /// Sends a frame through `to_pod`; it must pass and come out like that.
    #[track_caller]
    pub fn to_pod(&mut self, frame: &Frame, expected: &Frame) {
        assert_eq!(self.send(Hook::ToPod, frame), (Verdict::Pass, expected.clone()));
    }

    /// Sends a frame through `from_pod`; it must be dropped.
    #[track_caller]
    pub fn drops(&mut self, frame: &Frame) {
        let (verdict, _) = self.send_bytes(Hook::FromPod, &frame.bytes());
        assert_eq!(verdict, Verdict::Drop);
    }

    /// Sends bytes through a hook; they must pass as they are.
    #[track_caller]
    pub fn untouched(&mut self, hook: Hook, bytes: &[u8]) {
        assert_eq!(self.send_bytes(hook, bytes), (Verdict::Pass, bytes.to_vec()));
    }

    /// Writes a service with local backends: slots and backends from id and slot `first` on,
    /// frontend and wildcard.
    pub fn service(&mut self, addr: SocketAddr, proto: u8, first: u32, backends: &[SocketAddr]) {
        self.service_behind(IFINDEX, (addr, proto), first, backends);
    }

    /// The same behind an interface; 0 for backends that the host's stack leads to.
    pub fn service_behind(
        &mut self,
        ifindex: u32,
        (addr, proto): (SocketAddr, u8),
        first: u32,
        backends: &[SocketAddr],
    ) {
        for (index, backend) in (first..).zip(backends) {
            self.put_backend(BackendSpec { id: index, addr: *backend, generation: 1, ifindex });
            self.put_slot(backend.is_ipv6(), index, index);
        }
        self.put_frontend(SocketAddr::new(addr.ip(), 0), 0, (0, 0), wildcard_flags::CLUSTER);
        self.put_frontend(addr, proto, (first, backends.len() as u32), 0);
    }

    /// Every counter and drop that is not 0.
    fn moved(&self) -> String {
        let mut text = String::new();
        let mut add = |count: u64, hook: Hook, what: &str| {
            if count > 0 {
                let separator = if text.is_empty() { "" } else { ", " };
                let _ = write!(text, "{separator}{}: {count} {what}", hook.as_str());
            }
        };
        for hook in Hook::ALL {
            for counter in Counter::ALL {
                add(self.counter(counter_index(*hook, *counter)), *hook, counter.as_str());
            }
            for reason in DropReason::ALL {
                let what = format!("dropped ({})", reason.as_str());
                add(self.counter(drop_index(*hook, *reason)), *hook, &what);
            }
        }
        text
    }

    /// How many flow entries there are.
    fn flow_counts(&self) -> String {
        let mut counts = Vec::new();
        for (proto, word) in FLOW_PROTOCOLS {
            for (table, name) in [(Table::Main, "flows"), (Table::Overflow, "overflow flows")] {
                let count = |v6| self.flows(v6, proto, table).len();
                let sum = count(false) + count(true);
                if sum > 0 {
                    counts.push(format!("{sum} {word} {name}"));
                }
            }
        }
        counts.join(", ")
    }

    /// Exactly this has moved since the world began.
    #[track_caller]
    pub fn expect(&self, moved: &str) {
        let separator = if self.flow_counts().is_empty() { "" } else { ", " };
        assert_eq!(format!("{}{separator}{}", self.moved(), self.flow_counts()), moved);
    }

    /// Exactly these counters have moved since the world began; the maps hold what they hold.
    #[track_caller]
    pub fn expect_counters(&self, moved: &str) {
        assert_eq!(self.moved(), moved);
    }

    /// A counter of a hook.
    pub fn count(&self, hook: Hook, counter: Counter) -> u64 {
        self.counter(counter_index(hook, counter))
    }

    /// A drop reason of a hook.
    pub fn dropped(&self, hook: Hook, reason: DropReason) -> u64 {
        self.counter(drop_index(hook, reason))
    }
}

/// The source a pod sees when it reaches itself, in every world.
pub fn hairpin_address(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0x5e1f])
    } else {
        IpAddr::from([169, 254, 42, 1])
    }
}

/// The settings of every world.
pub fn settings() -> Settings {
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (hairpin_address(false), hairpin_address(true)) else {
        unreachable!("one address of each family")
    };
    Settings {
        hash_key: 0x5eed,
        fast_path: 1,
        hairpin_v4: V4::from(v4),
        hairpin_v6: V6::from(v6),
        ..Settings::default()
    }
}
