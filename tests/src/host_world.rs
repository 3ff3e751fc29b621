// SPDX-License-Identifier: Apache-2.0
//! The host build of the programs as a [`World`]: plain functions, plain memory, a clock to turn.

use std::{net::IpAddr, time::Duration};

use pintle_abi::{
    addr::{Tuple, V4, V6, proto},
    counter::Hook,
    device::Device,
    flow::{Flow, flow_flags},
    policy::{Allowed, AllowedKey, Denied, DeniedKey, Endpoint, PolicyPort, Row, RowKey},
    settings::Settings,
    source_range::Prefix,
};
use pintle_ebpf::{
    family::{Family, FlowMaps, Version},
    held,
    hooks::{Entrance, FromNet, FromPod, Next, Step, ToNet, ToPod, entrance, judge, sctp, to_pod},
    kernel::{self, Hash, IfPresent},
    maps, reject, report,
};

use crate::world::{
    BackendSpec, Exit, FlowSpec, Forget, FrontendSpec, IFINDEX, KernelFlow, Origin, Range, Table,
    Verdict, World, device, settings,
};

mod buffer;
mod early;

use buffer::Buffer;

/// Most elements of any map, so that a flow map can be filled.
const ENTRIES: u32 = 1024;

/// How many programs the kernel lets follow one another (`MAX_TAIL_CALL_CNT`).
const CHAIN: usize = 33;

/// The host build, with the maps of this thread.
pub struct HostWorld {
    offload: Offload,
    xdp: bool,
    exits: bool,
    reinjected: Vec<Vec<u8>>,
    place: Place,
    exit: Option<Exit>,
}

/// Where packets are.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The interface whose hook they are at.
    pub ifindex: u32,
    /// The interface through which the node's routes lead, whereto ever; 0 if they do not.
    pub way_out: u32,
    /// The socket that sends them, if it is known.
    pub socket: Option<u64>,
}

/// What a transport checksum holds when a frame comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// The checksum.
    None,
    /// The sum of the pseudo-header; the device adds the rest (`CHECKSUM_PARTIAL`).
    Partial,
}

impl HostWorld {
    /// Empties this thread's maps and writes the settings.
    pub fn new(offload: Offload) -> Self {
        let place = Place { ifindex: IFINDEX, way_out: 0, socket: None };
        let mut world =
            Self { offload, xdp: false, exits: true, reinjected: Vec::new(), place, exit: None };
        world.clear();
        world
    }

    /// The same with XDP, which finds a way out for everything.
    pub fn with_xdp(offload: Offload) -> Self {
        Self { xdp: true, ..Self::new(offload) }
    }

    /// Whether XDP finds a way out of the node from now on.
    pub fn set_exits(&mut self, exits: bool) {
        self.exits = exits;
    }

    /// Puts the packets that follow somewhere.
    pub fn place(&mut self, place: Place) {
        self.place = place;
    }

    /// Writes what is known of any interface.
    pub fn put_device_at(&mut self, ifindex: u32, device: &Device) {
        put(&maps::DEVICES, &ifindex, device);
    }

    /// The frames that the programs sent anew since the last call.
    pub fn reinjected(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.reinjected)
    }
}

fn write<T>(place: Option<*mut T>, value: T) {
    let place = place.unwrap_or_else(|| panic!("the map is too small"));
    // SAFETY: an element of this thread's maps.
    unsafe { *place = value };
}

fn put<K: Copy, V: Copy>(map: &Hash<K, V>, key: &K, value: &V) {
    map.insert(key, value, IfPresent::Replace).unwrap_or_else(|error| panic!("{error:?}"));
}

impl World for HostWorld {
    fn clear(&mut self) {
        kernel::reset();
        kernel::limit(ENTRIES);
        self.put_settings(&settings());
        self.put_device(&device());
    }

    fn put_settings(&mut self, settings: &Settings) {
        write(maps::SETTINGS.get(0), *settings);
    }

    fn put_device(&mut self, device: &Device) {
        self.put_device_at(IFINDEX, device);
    }

    fn put_frontend(&mut self, spec: &FrontendSpec) {
        let value = spec.value();
        match spec.addr.ip() {
            IpAddr::V4(ip) => put(&maps::FRONTENDS_V4, &spec.key(V4::from(ip)), &value),
            IpAddr::V6(ip) => put(&maps::FRONTENDS_V6, &spec.key(V6::from(ip)), &value),
        }
    }

    fn remove_frontend(&mut self, spec: &FrontendSpec) {
        match spec.addr.ip() {
            IpAddr::V4(ip) => maps::FRONTENDS_V4.remove(&spec.key(V4::from(ip))),
            IpAddr::V6(ip) => maps::FRONTENDS_V6.remove(&spec.key(V6::from(ip))),
        }
    }

    fn put_slot(&mut self, v6: bool, slot: u32, backend: u32) {
        write(if v6 { maps::SLOTS_V6.get(slot) } else { maps::SLOTS_V4.get(slot) }, backend);
    }

    fn put_backend(&mut self, spec: BackendSpec) {
        match spec.addr.ip() {
            IpAddr::V4(ip) => write(maps::BACKENDS_V4.get(spec.id), spec.value(V4::from(ip))),
            IpAddr::V6(ip) => write(maps::BACKENDS_V6.get(spec.id), spec.value(V6::from(ip))),
        }
    }

    fn put_source_range(&mut self, service: u32, range: Range) {
        let inserted = match range.ip {
            IpAddr::V4(ip) => {
                let (bits, key) = Range::key(service, V4::from(ip), range.bits);
                maps::SOURCE_RANGES_V4.insert(bits, key, 1)
            }
            IpAddr::V6(ip) => {
                let (bits, key) = Range::key(service, V6::from(ip), range.bits);
                maps::SOURCE_RANGES_V6.insert(bits, key, 1)
            }
        };
        inserted.unwrap_or_else(|error| panic!("{error:?}"));
    }

    fn remove_source_range(&mut self, service: u32, range: Range) {
        match range.ip {
            IpAddr::V4(ip) => {
                let (bits, key) = Range::key(service, V4::from(ip), range.bits);
                maps::SOURCE_RANGES_V4.remove(bits, key);
            }
            IpAddr::V6(ip) => {
                let (bits, key) = Range::key(service, V6::from(ip), range.bits);
                maps::SOURCE_RANGES_V6.remove(bits, key);
            }
        }
    }

    fn put_endpoint(&mut self, ifindex: u32, endpoint: Option<&Endpoint>) {
        match endpoint {
            Some(endpoint) => put(&maps::ENDPOINTS, &ifindex, endpoint),
            None => maps::ENDPOINTS.remove(&ifindex),
        }
    }

    fn put_peer(&mut self, ip: IpAddr, class: u32) {
        match ip {
            IpAddr::V4(ip) => put(&maps::PEERS_V4, &V4::from(ip), &class),
            IpAddr::V6(ip) => put(&maps::PEERS_V6, &V6::from(ip), &class),
        }
    }

    fn put_peer_range(&mut self, range: Range, class: u32) {
        let inserted = match range.ip {
            IpAddr::V4(ip) => maps::PEER_RANGES_V4.insert(range.bits, ip.into(), class),
            IpAddr::V6(ip) => maps::PEER_RANGES_V6.insert(range.bits, ip.into(), class),
        };
        inserted.unwrap_or_else(|error| panic!("{error:?}"));
    }

    fn put_policy_port(&mut self, bits: u32, key: PolicyPort, class: u32) {
        let inserted = maps::POLICY_PORTS.insert(bits, key, class);
        inserted.unwrap_or_else(|error| panic!("{error:?}"));
    }

    fn put_row(&mut self, key: RowKey, row: Row) {
        put(&maps::POLICY_ROWS, &key, &row);
    }

    fn denied(&self) -> Vec<(DeniedKey, Denied)> {
        let elements = maps::DENIED.elements().into_iter();
        // SAFETY: an element of this thread's maps.
        elements.map(|(key, denied)| (key, unsafe { *denied })).collect()
    }

    fn allowed(&self) -> Vec<(AllowedKey, Allowed)> {
        let elements = maps::ALLOWED.elements().into_iter();
        // SAFETY: an element of this thread's maps.
        elements.map(|(key, allowed)| (key, unsafe { *allowed })).collect()
    }

    fn age_other_flows(&mut self, ns: u64) {
        kernel::advance(ns);
    }

    fn service_entries(&self) -> usize {
        let frontends = maps::FRONTENDS_V4.len() + maps::FRONTENDS_V6.len();
        frontends + maps::SOURCE_RANGES_V4.len() + maps::SOURCE_RANGES_V6.len()
    }

    fn put_cluster_range(&mut self, index: u32, range: Range) {
        match (range.ip, range.mask()) {
            (IpAddr::V4(addr), IpAddr::V4(mask)) => {
                let prefix = Prefix { addr: V4::from(addr), mask: V4::from(mask) };
                write(maps::CLUSTER_RANGES_V4.get(index), prefix);
            }
            (IpAddr::V6(addr), IpAddr::V6(mask)) => {
                let prefix = Prefix { addr: V6::from(addr), mask: V6::from(mask) };
                write(maps::CLUSTER_RANGES_V6.get(index), prefix);
            }
            _ => unreachable!("a mask has the family of its address"),
        }
    }

    fn put_kernel_flow(&mut self, flow: &KernelFlow) {
        match (flow.client.ip(), flow.service.ip()) {
            (IpAddr::V4(client), IpAddr::V4(service)) => {
                put_kernel_flow::<V4>(flow, client.into(), service.into());
            }
            (IpAddr::V6(client), IpAddr::V6(service)) => {
                put_kernel_flow::<V6>(flow, client.into(), service.into());
            }
            _ => panic!("a connection of two families"),
        }
    }

    fn send_from(&mut self, origin: Origin, hook: Hook, frame: &[u8]) -> (Verdict, Vec<u8>) {
        if self.xdp
            && hook == Hook::FromNet
            && let Some((exit, bytes)) =
                early::send(Buffer::of_driver(frame, self.place, self.exits))
        {
            self.exit = Some(exit);
            return (exit.verdict(), bytes);
        }
        let mut buffer = Buffer::new(frame, self.offload, origin, self.place);
        let exit = match frame[12..14] {
            [0x08, 0x00] => run::<V4>(&mut buffer, hook),
            [0x86, 0xdd] => run::<V6>(&mut buffer, hook),
            _ => Exit::Next,
        };
        self.reinjected.append(&mut buffer.reinjected);
        self.exit = Some(exit);
        (exit.verdict(), buffer.bytes)
    }

    fn exit(&self) -> Option<Exit> {
        self.exit
    }

    fn counter(&self, index: u32) -> u64 {
        // SAFETY: an element of this thread's maps.
        maps::COUNTERS.get(index).map_or(0, |count| unsafe { *count })
    }

    fn flows(&self, v6: bool, protocol: u8, table: Table) -> Vec<FlowSpec> {
        match v6 {
            true => flows::<V6>(protocol, table),
            false => flows::<V4>(protocol, table),
        }
    }

    fn age_flows(&mut self, ns: u64) {
        kernel::advance(ns);
    }

    fn age_affinity(&mut self, ns: u64) {
        kernel::advance(ns);
    }

    fn age_fragments(&mut self, ns: u64) {
        kernel::advance(ns);
    }

    fn wait(&mut self, time: Duration) {
        kernel::advance(time.as_nanos() as u64);
    }

    fn age_exits(&mut self, ns: u64) {
        kernel::advance(ns);
    }

    fn forget_flows(&mut self, which: Forget) {
        for protocol in [proto::TCP, proto::UDP, proto::SCTP] {
            for table in [Table::Main, Table::Overflow] {
                flow_map::<V4>(protocol, table).inspect(|map| forget(map, which));
                flow_map::<V6>(protocol, table).inspect(|map| forget(map, which));
            }
        }
    }

    fn fill_flows(&mut self, v6: bool, protocol: u8) {
        match v6 {
            true => fill(main_map::<V6>(protocol)),
            false => fill(main_map::<V4>(protocol)),
        }
    }
}

/// Makes even the overflow map of a protocol refuse new flows, as a kernel without memory does.
pub fn fill_overflow<F: Family>(protocol: u8) {
    flow_map::<F>(protocol, Table::Overflow).inspect(|map| fill(map));
}

/// Follows a packet from program to program, as `tc.rs` does by tail calls.
fn run<F: Family>(buffer: &mut Buffer, hook: Hook) -> Exit {
    let family = Version::<F>::THIS;
    let mut step = match hook {
        Hook::FromPod => entrance::handle::<FromPod, F, _>(buffer, family),
        Hook::ToPod => to_pod::handle(buffer, family),
        Hook::FromNet => entrance::handle::<FromNet, F, _>(buffer, family),
        Hook::Xdp => panic!("frames meet XDP on their way to from_net"),
        Hook::ToNet => entrance::handle::<ToNet, F, _>(buffer, family),
    };
    for _ in 0..=CHAIN {
        if let Some(exit) = exit(step) {
            return exit;
        }
        step = match hook {
            Hook::FromPod => take::<FromPod, F>(buffer, step),
            Hook::FromNet | Hook::Xdp => take::<FromNet, F>(buffer, step),
            Hook::ToNet => take::<ToNet, F>(buffer, step),
            Hook::ToPod if step.next == Next::Icmp => to_pod::icmp(buffer, family),
            Hook::ToPod if step.next == Next::Sctp => to_pod::sctp(buffer, family),
            Hook::ToPod if step.next == Next::Judge => judge::to_pod(buffer, family),
            Hook::ToPod if step.next == Next::Direct => {
                judge::direct::<ToPod, F, _>(buffer, family)
            }
            Hook::ToPod => to_pod::unusual(buffer, family),
        };
    }
    report::dropped(hook, step.failure());
    Exit::Drop
}

/// What becomes of the packet, if nothing is left to do.
fn exit(step: Step) -> Option<Exit> {
    match step.next {
        Next::Pass => Some(Exit::Next),
        Next::Drop => Some(Exit::Drop),
        Next::Deliver => Some(Exit::Pod),
        Next::Send => Some(Exit::Routes),
        Next::Receive => Some(Exit::Host),
        Next::Unusual
        | Next::Icmp
        | Next::Sctp
        | Next::SctpConnect
        | Next::Connect
        | Next::Restore
        | Next::Hold
        | Next::Release
        | Next::Refuse
        | Next::Judge
        | Next::Direct => None,
    }
}

/// Takes a rare step of a hook where connections begin.
fn take<E: Entrance, F: Family>(buffer: &mut Buffer, step: Step) -> Step {
    let family = Version::<F>::THIS;
    match step.next {
        Next::Pass | Next::Drop | Next::Deliver | Next::Send | Next::Receive => step,
        Next::Unusual => entrance::unusual::<E, F, _>(buffer, step.argument),
        Next::Icmp => entrance::icmp::<E, F, _>(buffer, family),
        Next::Sctp => sctp::handle::<E, F, _>(buffer, family),
        Next::SctpConnect => sctp::connect::<E, F, _>(buffer, step.argument),
        Next::Connect => entrance::connect::<E, F, _>(buffer, step.argument),
        Next::Restore => entrance::restore::<E, F, _>(buffer, family),
        Next::Hold => held::hold::<E, F, _>(buffer, family),
        Next::Release => entrance::release::<E, F, _>(buffer, family),
        Next::Judge => judge::entrance::<E, F, _>(buffer, family),
        Next::Direct => judge::direct::<E, F, _>(buffer, family),
        Next::Refuse => reject::refuse::<E, F, _>(buffer, step.argument),
    }
}

fn put_kernel_flow<F: Family>(flow: &KernelFlow, client: F, service: F) {
    let (key, value) = flow.entry(client, service);
    put(main_map::<F>(flow.proto), &key, &value);
}

/// A map of flows, if the protocol has it.
fn flow_map<F: Family>(protocol: u8, table: Table) -> Option<&'static Hash<Tuple<F>, Flow<F>>> {
    let flows = flow_maps::<F>(protocol);
    match table {
        Table::Main => Some(flows.main),
        Table::Overflow => flows.overflow,
    }
}

fn main_map<F: Family>(protocol: u8) -> &'static Hash<Tuple<F>, Flow<F>> {
    flow_maps::<F>(protocol).main
}

fn flow_maps<F: Family>(protocol: u8) -> FlowMaps<F> {
    match protocol {
        proto::TCP => F::tcp_flows(),
        proto::UDP => F::udp_flows(),
        _ => F::sctp_flows(),
    }
}

fn flows<F: Family>(protocol: u8, table: Table) -> Vec<FlowSpec> {
    let map = flow_map::<F>(protocol, table);
    let elements = map.map(Hash::elements).unwrap_or_default();
    // SAFETY: an element of this thread's maps.
    elements.into_iter().map(|(_, flow)| FlowSpec::of(unsafe { &*flow })).collect()
}

fn forget<F: Family>(map: &Hash<Tuple<F>, Flow<F>>, which: Forget) {
    for (key, flow) in map.elements() {
        // SAFETY: an element of this thread's maps.
        let flags = unsafe { (*flow).flags };
        if which.includes(flags & flow_flags::ALIAS != 0) {
            map.remove(&key);
        }
    }
}

fn fill<F: Family>(map: &Hash<Tuple<F>, Flow<F>>) {
    for index in 0_u32.. {
        let (src_port, dst_port) = ((index >> 16) as u16, index as u16);
        let key = Tuple { src_port, dst_port, ..Tuple::default() };
        if map.insert(&key, &Flow::default(), IfPresent::Refuse).is_err() {
            return;
        }
    }
}
