// SPDX-License-Identifier: Apache-2.0
//! The host build of the programs as a [`World`]: plain functions, plain memory, a clock to turn.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::{
    addr::{Tuple, V4, V6, proto},
    counter::Hook,
    device::{Device, device_flags},
    flow::{Flow, flow_flags},
    fragment::HELD_FRAME_LEN,
    service::Frontend,
};
use pintle_ebpf::{
    family::{Family, Version},
    held,
    hooks::{Entrance, FromNet, FromPod, Next, Step, ToNet, entrance, to_pod},
    kernel::{self, Hash, IfPresent},
    maps,
    packet::{ChecksumKind, Covered, Packet, Refused},
    reject, report,
};

use crate::{
    kernel_world::{backend_value, frontend_key, spec_of},
    world::{BackendSpec, FlowSpec, Forget, IFINDEX, MTU, Table, Verdict, World, settings},
};

/// Most elements of any map, so that a flow map can be filled.
const ENTRIES: u32 = 1024;

/// How many programs the kernel lets follow one another (`MAX_TAIL_CALL_CNT`).
const CHAIN: usize = 33;

/// The host build, with the maps of this thread.
pub struct HostWorld {
    offload: Offload,
    reinjected: Vec<Vec<u8>>,
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
        kernel::reset();
        kernel::limit(ENTRIES);
        let device = Device { flags: device_flags::FAST, mtu: MTU, ..Device::default() };
        write(maps::SETTINGS.get(0), settings());
        put(&maps::DEVICES, &IFINDEX, &device);
        Self { offload, reinjected: Vec::new() }
    }
}

impl HostWorld {
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
    fn put_frontend(&mut self, addr: SocketAddr, proto: u8, slots: (u32, u32), flags: u32) {
        let (base, count) = slots;
        let service = u32::from(addr.port());
        let value = Frontend { service, base, count, flags, affinity_seconds: 0 };
        match addr.ip() {
            IpAddr::V4(ip) => {
                put(&maps::FRONTENDS_V4, &frontend_key(V4::from(ip), addr.port(), proto), &value);
            }
            IpAddr::V6(ip) => {
                put(&maps::FRONTENDS_V6, &frontend_key(V6::from(ip), addr.port(), proto), &value);
            }
        }
    }

    fn remove_frontend(&mut self, addr: SocketAddr, proto: u8) {
        match addr.ip() {
            IpAddr::V4(ip) => {
                maps::FRONTENDS_V4.remove(&frontend_key(V4::from(ip), addr.port(), proto));
            }
            IpAddr::V6(ip) => {
                maps::FRONTENDS_V6.remove(&frontend_key(V6::from(ip), addr.port(), proto));
            }
        }
    }

    fn put_slot(&mut self, v6: bool, slot: u32, backend: u32) {
        write(if v6 { maps::SLOTS_V6.get(slot) } else { maps::SLOTS_V4.get(slot) }, backend);
    }

    fn put_backend(&mut self, spec: BackendSpec) {
        match spec.addr.ip() {
            IpAddr::V4(ip) => {
                write(maps::BACKENDS_V4.get(spec.id), backend_value(V4::from(ip), spec));
            }
            IpAddr::V6(ip) => {
                write(maps::BACKENDS_V6.get(spec.id), backend_value(V6::from(ip), spec));
            }
        }
    }

    fn send_bytes(&mut self, hook: Hook, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let mut buffer = Buffer {
            bytes: frame.to_vec(),
            linear: 0,
            offload: self.offload,
            reinjected: Vec::new(),
            from_host: hook == Hook::ToNet,
        };
        let verdict = match frame[12..14] {
            [0x08, 0x00] => run::<V4>(&mut buffer, hook),
            [0x86, 0xdd] => run::<V6>(&mut buffer, hook),
            _ => Verdict::Pass,
        };
        self.reinjected.append(&mut buffer.reinjected);
        (verdict, buffer.bytes)
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

    fn age_fragments(&mut self, ns: u64) {
        kernel::advance(ns);
    }

    fn forget_flows(&mut self, which: Forget) {
        for protocol in [proto::TCP, proto::UDP] {
            for table in [Table::Main, Table::Overflow] {
                forget(flow_map::<V4>(protocol, table), which);
                forget(flow_map::<V6>(protocol, table), which);
            }
        }
    }

    fn fill_flows(&mut self, v6: bool, protocol: u8) {
        match v6 {
            true => fill(flow_map::<V6>(protocol, Table::Main)),
            false => fill(flow_map::<V4>(protocol, Table::Main)),
        }
    }
}

/// Makes even the overflow map of a protocol refuse new flows, as a kernel without memory does.
pub fn fill_overflow<F: Family>(protocol: u8) {
    fill(flow_map::<F>(protocol, Table::Overflow));
}

/// Follows a packet from program to program, as `tc.rs` does by tail calls.
fn run<F: Family>(buffer: &mut Buffer, hook: Hook) -> Verdict {
    let family = Version::<F>::THIS;
    let mut step = match hook {
        Hook::FromPod => entrance::handle::<FromPod, F, _>(buffer, family),
        Hook::ToPod => to_pod::handle(buffer, family),
        Hook::FromNet => entrance::handle::<FromNet, F, _>(buffer, family),
        Hook::ToNet => entrance::handle::<ToNet, F, _>(buffer, family),
    };
    for _ in 0..=CHAIN {
        if let Some(verdict) = verdict(step) {
            return verdict;
        }
        step = match hook {
            Hook::FromPod => take::<FromPod, F>(buffer, step),
            Hook::FromNet => take::<FromNet, F>(buffer, step),
            Hook::ToNet => take::<ToNet, F>(buffer, step),
            Hook::ToPod if step.next == Next::Icmp => to_pod::icmp(buffer, family),
            Hook::ToPod => to_pod::unusual(buffer, family),
        };
    }
    report::dropped(hook, step.failure());
    Verdict::Drop
}

/// What becomes of the packet, if nothing is left to do.
fn verdict(step: Step) -> Option<Verdict> {
    match step.next {
        Next::Pass => Some(Verdict::Pass),
        Next::Drop => Some(Verdict::Drop),
        Next::Deliver | Next::Send | Next::Receive => Some(Verdict::Deliver),
        Next::Unusual
        | Next::Icmp
        | Next::Connect
        | Next::Restore
        | Next::Hold
        | Next::Release
        | Next::Refuse => None,
    }
}

/// Takes a rare step of a hook where connections begin.
fn take<E: Entrance, F: Family>(buffer: &mut Buffer, step: Step) -> Step {
    let family = Version::<F>::THIS;
    match step.next {
        Next::Pass | Next::Drop | Next::Deliver | Next::Send | Next::Receive => step,
        Next::Unusual => entrance::unusual::<E, F, _>(buffer, step.argument),
        Next::Icmp => entrance::icmp::<E, F, _>(buffer, family),
        Next::Connect => entrance::connect::<E, F, _>(buffer, step.argument),
        Next::Restore => entrance::restore::<E, F, _>(buffer, family),
        Next::Hold => held::hold::<E, F, _>(buffer, family),
        Next::Release => entrance::release::<E, F, _>(buffer, family),
        Next::Refuse => reject::refuse::<E, F, _>(buffer, step.argument),
    }
}

fn flow_map<F: Family>(protocol: u8, table: Table) -> &'static Hash<Tuple<F>, Flow<F>> {
    let flows = if protocol == proto::TCP { F::tcp_flows() } else { F::udp_flows() };
    match table {
        Table::Main => flows.main,
        Table::Overflow => flows.overflow,
    }
}

fn flows<F: Family>(protocol: u8, table: Table) -> Vec<FlowSpec> {
    let elements = flow_map::<F>(protocol, table).elements();
    // SAFETY: an element of this thread's maps.
    elements.into_iter().map(|(_, flow)| spec_of(unsafe { &*flow })).collect()
}

fn forget<F: Family>(map: &Hash<Tuple<F>, Flow<F>>, which: Forget) {
    for (key, flow) in map.elements() {
        // SAFETY: an element of this thread's maps.
        let flags = unsafe { (*flow).flags };
        if which == Forget::Everything || flags & flow_flags::ALIAS == 0 {
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

/// A frame in memory of which only a part can be read directly, as with the kernel's buffers.
struct Buffer {
    bytes: Vec<u8>,
    linear: usize,
    offload: Offload,
    reinjected: Vec<Vec<u8>>,
    from_host: bool,
}

impl Packet for Buffer {
    fn start(&self) -> usize {
        self.bytes.as_ptr() as usize
    }

    fn end(&self) -> usize {
        self.start() + self.linear
    }

    fn len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn ifindex(&self) -> u32 {
        IFINDEX
    }

    fn is_from_host(&self) -> bool {
        self.from_host
    }

    fn way_out<F: Family>(&self, _to: F) -> u32 {
        0
    }

    fn ethertype(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[12], self.bytes[13]])
    }

    fn pull(&mut self, len: u32) -> Result<(), Refused> {
        if len as usize > self.bytes.len() {
            return Err(Refused);
        }
        self.linear = self.linear.max(len as usize);
        Ok(())
    }

    fn fix_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        covered: Covered,
        kind: ChecksumKind,
    ) -> Result<(), Refused> {
        let place = offset as usize..offset as usize + 2;
        let field = self.bytes.get_mut(place).ok_or(Refused)?;
        let old = u16::from_ne_bytes([field[0], field[1]]);
        if kind == ChecksumKind::Udp && old == 0 {
            return Ok(());
        }
        let sum = match (self.offload, covered) {
            (Offload::None, _) => !sum(!old, difference),
            (Offload::Partial, Covered::PseudoHeader) => sum(old, difference),
            (Offload::Partial, Covered::Payload) => old,
        };
        let new = if kind == ChecksumKind::Udp && sum == 0 { 0xffff } else { sum };
        field.copy_from_slice(&new.to_ne_bytes());
        Ok(())
    }

    fn grow(&mut self, len: u32) -> Result<(), Refused> {
        self.bytes.splice(14..14, std::iter::repeat_n(0, len as usize));
        self.linear = 0;
        Ok(())
    }

    fn save(&mut self, to: *mut [u8; HELD_FRAME_LEN]) -> Result<(), Refused> {
        // SAFETY: an element of this thread's maps.
        let place = unsafe { &mut *to };
        place.get_mut(..self.bytes.len()).ok_or(Refused)?.copy_from_slice(&self.bytes);
        Ok(())
    }

    fn replace(&mut self, from: *const [u8; HELD_FRAME_LEN], len: u32) -> Result<(), Refused> {
        // SAFETY: an element of this thread's maps.
        let place = unsafe { &*from };
        self.bytes = place.get(..len as usize).ok_or(Refused)?.to_vec();
        self.linear = 0;
        Ok(())
    }

    fn reinject(&mut self) -> Result<(), Refused> {
        self.reinjected.push(self.bytes.clone());
        Ok(())
    }

    fn truncate(&mut self, len: u32) -> Result<(), Refused> {
        self.bytes.truncate(len as usize);
        self.linear = self.linear.min(self.bytes.len());
        Ok(())
    }
}

fn sum(word: u16, difference: u32) -> u16 {
    let mut sum = u32::from(word) + (difference & 0xffff) + (difference >> 16);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
