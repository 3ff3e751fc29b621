// SPDX-License-Identifier: Apache-2.0
//! A data path under test: the host build of the programs, or the loaded ones.
//!
//! Packet vectors ([`crate::vectors`]) are written once against this and run on both.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use pintle_abi::{
    addr::{V4, V6},
    counter::Hook,
    device::{Device, device_flags},
    policy::{Allowed, AllowedKey, Denied, DeniedKey, Endpoint, PolicyPort, Row, RowKey},
    service::wildcard_flags,
    settings::Settings,
};

use crate::frame::Frame;

mod expect;
mod spec;

pub use spec::{BackendSpec, FlowSpec, FrontendSpec, KernelFlow, Place, Range};

/// The interface that every hook of a vector is at: loopback, which exists in every namespace.
pub const IFINDEX: u32 = 1;

/// MTU of that interface.
pub const MTU: u32 = 1500;

/// What a hook did with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On to the next program.
    Pass,
    /// Dropped.
    Drop,
    /// Redirected past what comes next.
    Deliver,
}

/// Where a packet goes from a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// On to the next program, and to the host's stack or out of the device.
    Next,
    /// Nowhere.
    Drop,
    /// Into the pod behind the vectors' interface.
    Pod,
    /// To where the node's routes lead.
    Routes,
    /// Into the host's stack.
    Host,
}

impl Exit {
    /// What the kernel shows of it.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Next => Verdict::Pass,
            Self::Drop => Verdict::Drop,
            Self::Pod | Self::Routes | Self::Host => Verdict::Deliver,
        }
    }
}

/// Where a packet was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By this host.
    Host,
    /// Elsewhere: it came in at a device.
    Elsewhere,
    /// By this host, and it came in at loopback.
    Loopback,
}

/// A device at which packets come in that were made elsewhere.
const UPLINK: u32 = 7;

impl Origin {
    /// Where the packets of a hook are made, unless a vector says otherwise.
    fn usual(hook: Hook) -> Self {
        if hook == Hook::ToNet { Self::Host } else { Self::Elsewhere }
    }

    /// The device at which such a packet comes in; 0 for none.
    pub(crate) fn arrived_at(self) -> u32 {
        match self {
            Self::Host => 0,
            Self::Elsewhere => UPLINK,
            Self::Loopback => IFINDEX,
        }
    }
}

/// The two maps that hold the flows of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The one that never evicts.
    Main,
    /// The one for flows that find the first full.
    Overflow,
}

/// Which flow entries to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// Aliases and main entries.
    Everything,
    /// Main entries only: half of each pair.
    Mains,
    /// Aliases only: the other half.
    Aliases,
}

impl Forget {
    pub(crate) fn includes(self, alias: bool) -> bool {
        match self {
            Self::Everything => true,
            Self::Mains => !alias,
            Self::Aliases => alias,
        }
    }
}

/// The data path under test.
pub trait World {
    /// Makes it as empty as a new one.
    fn clear(&mut self);
    /// Writes the settings.
    fn put_settings(&mut self, settings: &Settings);
    /// Writes what is known of the vectors' interface.
    fn put_device(&mut self, device: &Device);
    /// Writes a frontend.
    fn put_frontend(&mut self, frontend: &FrontendSpec);
    /// Removes a frontend.
    fn remove_frontend(&mut self, frontend: &FrontendSpec);
    /// Writes a slot.
    fn put_slot(&mut self, v6: bool, slot: u32, backend: u32);
    /// Writes a backend.
    fn put_backend(&mut self, backend: BackendSpec);
    /// Lets clients in a range use a service port that has source ranges.
    fn put_source_range(&mut self, service: u32, range: Range);
    /// Takes that back.
    fn remove_source_range(&mut self, service: u32, range: Range);
    /// Writes a range of the cluster's service addresses.
    fn put_cluster_range(&mut self, index: u32, range: Range);
    /// Writes what is known of the pod behind an interface, or that nothing is.
    fn put_endpoint(&mut self, ifindex: u32, endpoint: Option<&Endpoint>);
    /// Writes the class of a pod's or node's address.
    fn put_peer(&mut self, ip: IpAddr, class: u32);
    /// Writes the class of other addresses.
    fn put_peer_range(&mut self, range: Range, class: u32);
    /// Writes the port class of a prefix of a ruleset's ports.
    fn put_policy_port(&mut self, bits: u32, key: PolicyPort, class: u32);
    /// Writes the verdicts of a ruleset about a class.
    fn put_row(&mut self, key: RowKey, row: Row);
    /// Why packets were denied.
    fn denied(&self) -> Vec<(DeniedKey, Denied)>;
    /// What allowed connections, and how many.
    fn allowed(&self) -> Vec<(AllowedKey, Allowed)>;
    /// Makes every conversation without ports look idle for that much longer.
    fn age_other_flows(&mut self, ns: u64);
    /// How many frontends and source ranges there are.
    fn service_entries(&self) -> usize;
    /// Writes a connection that the kernel's own connection tracking translates.
    fn put_kernel_flow(&mut self, flow: &KernelFlow);
    /// Sends raw bytes from somewhere through a hook.
    fn send_from(&mut self, origin: Origin, hook: Hook, frame: &[u8]) -> (Verdict, Vec<u8>);
    /// Where the last packet went; `None` if this world cannot tell.
    fn exit(&self) -> Option<Exit>;
    /// A counter, summed over CPUs.
    fn counter(&self, index: u32) -> u64;
    /// Every flow entry of a protocol in a table.
    fn flows(&self, v6: bool, proto: u8, table: Table) -> Vec<FlowSpec>;
    /// Lets time pass.
    fn wait(&mut self, time: Duration);
    /// Makes every flow entry look idle for that much longer.
    fn age_flows(&mut self, ns: u64);
    /// Makes every client's last use of a service with affinity look older.
    fn age_affinity(&mut self, ns: u64);
    /// Makes every first fragment look older.
    fn age_fragments(&mut self, ns: u64);
    /// Makes every answer of the forwarding table look older.
    fn age_exits(&mut self, ns: u64);
    /// Removes every flow entry, as eviction would; main entries only, or both.
    fn forget_flows(&mut self, which: Forget);
    /// Fills a flow map with entries of other connections until it takes no more.
    fn fill_flows(&mut self, v6: bool, proto: u8);

    /// Sends raw bytes through a hook.
    fn send_bytes(&mut self, hook: Hook, frame: &[u8]) -> (Verdict, Vec<u8>) {
        self.send_from(Origin::usual(hook), hook, frame)
    }
}

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

    /// Sends a frame through a hook; it must go there and come out like that.
    #[track_caller]
    pub fn takes(&mut self, hook: Hook, frame: &Frame, exit: Exit, expected: &Frame) {
        let went = self.send(hook, frame);
        assert_eq!((&went.1, went.0), (expected, exit.verdict()), "of {}", hook.as_str());
        self.went(exit);
    }

    /// A frame that came in elsewhere leaves through `to_net`; it must pass and come out like that.
    #[track_caller]
    pub fn forwards(&mut self, frame: &Frame, expected: &Frame) {
        let went = self.send_from(Origin::Elsewhere, Hook::ToNet, &frame.bytes());
        assert_eq!((went.0, &Frame::parse(&went.1)), (Verdict::Pass, expected));
    }

    /// The last packet went there, as far as the world can tell.
    #[track_caller]
    pub fn went(&self, exit: Exit) {
        assert_eq!(self.exit().unwrap_or(exit), exit);
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
        let place = if ifindex == 0 { Place::Remote } else { Place::Local };
        for (id, addr) in (first..).zip(backends) {
            let spec = BackendSpec { id, addr: *addr, generation: 1, ifindex, place };
            self.put_backend(spec);
            self.put_slot(addr.is_ipv6(), id, id);
        }
        self.put_frontend(&FrontendSpec::wildcard(addr.ip(), wildcard_flags::CLUSTER));
        let slots = (first, backends.len() as u32);
        self.put_frontend(&FrontendSpec::new(addr, proto, slots));
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

/// The address that stands for masqueraded clients, in every world.
pub fn node_address(v6: bool) -> IpAddr {
    if v6 { IpAddr::from([0xfd00, 168, 0, 0, 0, 0, 0, 1]) } else { IpAddr::from([192, 168, 0, 1]) }
}

/// The source ports of masqueraded clients, in every world.
pub const MASQUERADE: std::ops::Range<u16> = 50_000..60_000;

/// What every world knows of the vectors' interface: packets may be redirected from and to it.
pub fn device() -> Device {
    Device { flags: device_flags::FAST, mtu: MTU, ..Device::default() }
}

/// The settings of every world.
pub fn settings() -> Settings {
    let both = |address: fn(bool) -> IpAddr| match (address(false), address(true)) {
        (IpAddr::V4(v4), IpAddr::V6(v6)) => (V4::from(v4), V6::from(v6)),
        _ => unreachable!("one address of each family"),
    };
    let (hairpin_v4, hairpin_v6) = both(hairpin_address);
    let (node_v4, node_v6) = both(node_address);
    Settings {
        hash_key: 0x5eed,
        fast_path: 1,
        hairpin_v4,
        hairpin_v6,
        node_v4,
        node_v6,
        masquerade_base: MASQUERADE.start,
        masquerade_count: MASQUERADE.end - MASQUERADE.start,
        ..Settings::default()
    }
}
