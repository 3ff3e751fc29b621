// SPDX-License-Identifier: Apache-2.0
//! The loaded programs as a [`World`]: packets go through `BPF_PROG_TEST_RUN`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuValues},
    programs::{TestRun as _, TestRunOptions},
    util::nr_cpus,
};
use pintle::datapath::object;
use pintle_abi::{
    addr::{Tuple, V4, V6, proto},
    counter::Hook,
    device::{Device, device_flags},
    flow::{Flow, flow_flags},
    fragment::{Fragment, FragmentKey, Held},
    plain::Plain,
    service::{Backend, Frontend, FrontendKey},
    settings::Settings,
};

use crate::world::{BackendSpec, FlowSpec, Forget, IFINDEX, MTU, Table, Verdict, World, settings};

/// Entries of the maps of a small world.
const SMALL: u32 = 1024;

/// Offset of `ifindex` in `__sk_buff`, and the struct's length up to there.
const SKB_IFINDEX: usize = 40;
const SKB_LEN: usize = 192;

/// The programs of this build, with maps of their own.
pub struct KernelWorld {
    ebpf: Ebpf,
}

impl KernelWorld {
    /// Loads the programs and writes the settings.
    pub fn load(sizes: &object::Sizes) -> Result<Self> {
        let mut world = Self { ebpf: object::load(None, sizes)? };
        let device = Device { flags: device_flags::FAST, mtu: MTU, ..Device::default() };
        world.array::<Settings>("SETTINGS").set(0, settings(), 0).context("write settings")?;
        world.hash::<u32, Device>("DEVICES").insert(IFINDEX, device, 0).context("write device")?;
        Ok(world)
    }

    /// The same with small maps, which load fast and can be filled.
    pub fn small() -> Self {
        let sized = pintle_abi::map::ALL.iter().filter(|spec| spec.entries > SMALL);
        let sizes = sized.map(|spec| (spec.name.to_owned(), SMALL)).collect();
        Self::load(&sizes).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The one small world of this process, as empty as a new one: loading takes longer than any
    /// vector.
    pub fn shared() -> MutexGuard<'static, Self> {
        static WORLD: LazyLock<Mutex<KernelWorld>> =
            LazyLock::new(|| Mutex::new(KernelWorld::small()));
        // Another vector may have failed in the middle.
        let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
        world.reset();
        world
    }

    fn reset(&mut self) {
        self.forget_flows(Forget::Everything);
        clear::<FrontendKey<V4>, Frontend>(self.hash("FRONTENDS_V4"));
        clear::<FrontendKey<V6>, Frontend>(self.hash("FRONTENDS_V6"));
        clear::<FragmentKey<V4>, Fragment>(self.hash("FRAGMENTS_V4"));
        clear::<FragmentKey<V6>, Fragment>(self.hash("FRAGMENTS_V6"));
        zero::<Held<V4>>(self.array("HELD_V4"));
        zero::<Held<V6>>(self.array("HELD_V6"));
        zero::<u64>(self.array("OVERFLOW_SEEN"));
        zero_per_cpu::<u64>(self.per_cpu("COUNTERS"));
        zero_per_cpu::<[u64; 2]>(self.per_cpu("REFUSALS"));
    }

    /// The loaded object.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// A hash map of the object.
    pub fn hash<K: Pod, V: Pod>(&mut self, name: &str) -> HashMap<&mut MapData, K, V> {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        HashMap::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Descriptor of a hash map of the object.
    pub fn map_fd(&self, name: &str) -> Result<std::os::fd::RawFd> {
        use std::os::fd::{AsFd as _, AsRawFd as _};
        match self.ebpf.map(name) {
            Some(Map::HashMap(data)) => Ok(data.fd().as_fd().as_raw_fd()),
            _ => anyhow::bail!("no hash map {name}"),
        }
    }

    /// An array of the object.
    pub fn array<V: Pod>(&mut self, name: &str) -> Array<&mut MapData, V> {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        Array::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn per_cpu<V: Pod>(&mut self, name: &str) -> PerCpuArray<&mut MapData, V> {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        PerCpuArray::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs a hook on a frame `repeat` times; returns the code, the frame and ns per run.
    pub fn run(&mut self, hook: Hook, frame: &[u8], repeat: u32) -> Result<(i32, Vec<u8>, u64)> {
        let mut out = vec![0_u8; frame.len() + 256];
        let context = context();
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            repeat,
            ..TestRunOptions::new()
        };
        let program = object::classifier(&mut self.ebpf, hook.as_str())?;
        let result = program.test_run(options).context("test run")?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value as i32, out, result.duration.as_nanos() as u64))
    }
}

/// A `__sk_buff` for a test run at the clients' interface.
pub fn context() -> Vec<u8> {
    let mut context = vec![0; SKB_LEN];
    context[SKB_IFINDEX..SKB_IFINDEX + 4].copy_from_slice(&IFINDEX.to_ne_bytes());
    context
}

/// `TC_ACT_*` of `linux/pkt_cls.h`; the programs return no others.
fn verdict(code: i32) -> Verdict {
    match code {
        -1 => Verdict::Pass,
        2 => Verdict::Drop,
        7 => Verdict::Deliver,
        code => panic!("the program returned {code}"),
    }
}

impl World for KernelWorld {
    fn put_frontend(&mut self, addr: SocketAddr, proto: u8, slots: (u32, u32), flags: u32) {
        let (base, count) = slots;
        let service = u32::from(addr.port());
        let value = Frontend { service, base, count, flags, affinity_seconds: 0 };
        let written = match addr.ip() {
            IpAddr::V4(ip) => {
                let key = frontend_key(V4::from(ip), addr.port(), proto);
                self.hash::<_, Frontend>("FRONTENDS_V4").insert(key, value, 0)
            }
            IpAddr::V6(ip) => {
                let key = frontend_key(V6::from(ip), addr.port(), proto);
                self.hash::<_, Frontend>("FRONTENDS_V6").insert(key, value, 0)
            }
        };
        written.unwrap_or_else(|error| panic!("write frontend {addr}: {error}"));
    }

    fn remove_frontend(&mut self, addr: SocketAddr, proto: u8) {
        let removed = match addr.ip() {
            IpAddr::V4(ip) => {
                let key = frontend_key(V4::from(ip), addr.port(), proto);
                self.hash::<_, Frontend>("FRONTENDS_V4").remove(&key)
            }
            IpAddr::V6(ip) => {
                let key = frontend_key(V6::from(ip), addr.port(), proto);
                self.hash::<_, Frontend>("FRONTENDS_V6").remove(&key)
            }
        };
        removed.unwrap_or_else(|error| panic!("remove frontend {addr}: {error}"));
    }

    fn put_slot(&mut self, v6: bool, slot: u32, backend: u32) {
        let name = if v6 { "SLOTS_V6" } else { "SLOTS_V4" };
        let written = self.array::<u32>(name).set(slot, backend, 0);
        written.unwrap_or_else(|error| panic!("write slot {slot}: {error}"));
    }

    fn put_backend(&mut self, spec: BackendSpec) {
        let written = match spec.addr.ip() {
            IpAddr::V4(ip) => {
                self.array("BACKENDS_V4").set(spec.id, backend_value(V4::from(ip), spec), 0)
            }
            IpAddr::V6(ip) => {
                self.array("BACKENDS_V6").set(spec.id, backend_value(V6::from(ip), spec), 0)
            }
        };
        written.unwrap_or_else(|error| panic!("write backend {}: {error}", spec.id));
    }

    fn send_bytes(&mut self, hook: Hook, frame: &[u8]) -> (Verdict, Vec<u8>) {
        match self.run(hook, frame, 1) {
            Ok((code, bytes, _)) => (verdict(code), bytes),
            Err(error) => panic!("{}: {error:#}", hook.as_str()),
        }
    }

    fn counter(&self, index: u32) -> u64 {
        let map = self.ebpf.map("COUNTERS").unwrap_or_else(|| panic!("no map COUNTERS"));
        let counters = PerCpuArray::<_, u64>::try_from(map)
            .unwrap_or_else(|error| panic!("COUNTERS: {error}"));
        let values = counters.get(&index, 0).unwrap_or_else(|error| panic!("{index}: {error}"));
        values.iter().sum()
    }

    fn flows(&self, v6: bool, protocol: u8, table: Table) -> Vec<FlowSpec> {
        let name = flow_map(v6, protocol, table);
        let map = self.ebpf.map(name).unwrap_or_else(|| panic!("no map {name}"));
        if v6 { flows::<V6>(map) } else { flows::<V4>(map) }
    }

    fn age_flows(&mut self, ns: u64) {
        for (protocol, table) in FLOW_MAPS {
            age::<V4>(self.hash(flow_map(false, protocol, table)), ns);
            age::<V6>(self.hash(flow_map(true, protocol, table)), ns);
        }
    }

    fn age_fragments(&mut self, ns: u64) {
        age_first::<V4>(self.hash("FRAGMENTS_V4"), ns);
        age_first::<V6>(self.hash("FRAGMENTS_V6"), ns);
    }

    fn forget_flows(&mut self, which: Forget) {
        for (protocol, table) in FLOW_MAPS {
            forget::<V4>(self.hash(flow_map(false, protocol, table)), which);
            forget::<V6>(self.hash(flow_map(true, protocol, table)), which);
        }
    }

    fn fill_flows(&mut self, v6: bool, protocol: u8) {
        let name = flow_map(v6, protocol, Table::Main);
        if v6 { fill::<V6>(self.hash(name)) } else { fill::<V4>(self.hash(name)) }
    }
}

pub(crate) fn frontend_key<A>(addr: A, port: u16, proto: u8) -> FrontendKey<A> {
    FrontendKey { addr, port: port.to_be(), proto, scope: 0 }
}

/// A backend as the map holds it; generation 0 stands for a free id.
pub(crate) fn backend_value<A>(addr: A, spec: BackendSpec) -> Backend<A> {
    Backend {
        addr,
        ifindex: spec.ifindex,
        generation: spec.generation,
        mtu: MTU,
        port: spec.addr.port().to_be(),
        state: u16::from(spec.generation != 0),
    }
}

const FLOW_MAPS: [(u8, Table); 4] = [
    (proto::TCP, Table::Main),
    (proto::TCP, Table::Overflow),
    (proto::UDP, Table::Main),
    (proto::UDP, Table::Overflow),
];

fn flow_map(v6: bool, protocol: u8, table: Table) -> &'static str {
    match (protocol, table, v6) {
        (proto::TCP, Table::Main, false) => "TCP_FLOWS_V4",
        (proto::TCP, Table::Main, true) => "TCP_FLOWS_V6",
        (proto::TCP, Table::Overflow, false) => "TCP_OVERFLOW_V4",
        (proto::TCP, Table::Overflow, true) => "TCP_OVERFLOW_V6",
        (_, Table::Main, false) => "UDP_FLOWS_V4",
        (_, Table::Main, true) => "UDP_FLOWS_V6",
        (_, Table::Overflow, false) => "UDP_OVERFLOW_V4",
        (_, Table::Overflow, true) => "UDP_OVERFLOW_V6",
    }
}

fn flows<A: Plain>(map: &Map) -> Vec<FlowSpec>
where
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    let map = HashMap::<_, Tuple<A>, Flow<A>>::try_from(map)
        .unwrap_or_else(|error| panic!("flow map: {error}"));
    map.iter().filter_map(Result::ok).map(|(_, flow)| spec_of(&flow)).collect()
}

/// What vectors look at of a flow entry.
pub(crate) fn spec_of<A>(flow: &Flow<A>) -> FlowSpec {
    FlowSpec {
        flags: flow.flags,
        backend: flow.backend,
        forward: flow.forward,
        reply: flow.reply,
        packets: flow.packets,
    }
}

fn clear<K: Pod, V: Pod>(mut map: HashMap<&mut MapData, K, V>) {
    let keys: Vec<K> = map.keys().filter_map(Result::ok).collect();
    for key in keys {
        map.remove(&key).unwrap_or_else(|error| panic!("empty a map: {error}"));
    }
}

fn zero<V: Pod + Default>(mut map: Array<&mut MapData, V>) {
    for index in 0..map.len() {
        map.set(index, V::default(), 0).unwrap_or_else(|error| panic!("clear an array: {error}"));
    }
}

fn zero_per_cpu<V: Pod + Default>(mut map: PerCpuArray<&mut MapData, V>) {
    let cpus = nr_cpus().unwrap_or_else(|(_, error)| panic!("count the CPUs: {error}"));
    for index in 0..map.len() {
        let values = PerCpuValues::try_from(vec![V::default(); cpus])
            .unwrap_or_else(|error| panic!("clear an array: {error}"));
        map.set(index, values, 0).unwrap_or_else(|error| panic!("clear an array: {error}"));
    }
}

type FlowMap<'a, A> = HashMap<&'a mut MapData, Tuple<A>, Flow<A>>;

fn elements<A: Copy>(map: &FlowMap<'_, A>) -> Vec<(Tuple<A>, Flow<A>)>
where
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    map.iter().filter_map(Result::ok).collect()
}

fn age<A: Copy>(mut map: FlowMap<'_, A>, ns: u64)
where
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    for (key, mut flow) in elements(&map) {
        flow.last_seen_ns = flow.last_seen_ns.wrapping_sub(ns);
        map.insert(key, flow, 0).unwrap_or_else(|error| panic!("age a flow: {error}"));
    }
}

fn age_first<A: Copy>(mut map: HashMap<&mut MapData, FragmentKey<A>, Fragment>, ns: u64)
where
    FragmentKey<A>: Pod,
{
    let all: Vec<_> = map.iter().filter_map(Result::ok).collect();
    for (key, mut first) in all {
        first.seen_ns = first.seen_ns.wrapping_sub(ns);
        map.insert(key, first, 0).unwrap_or_else(|error| panic!("age a fragment: {error}"));
    }
}

fn forget<A: Copy>(mut map: FlowMap<'_, A>, which: Forget)
where
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    for (key, flow) in elements(&map) {
        if which == Forget::Everything || flow.flags & flow_flags::ALIAS == 0 {
            map.remove(&key).unwrap_or_else(|error| panic!("remove a flow: {error}"));
        }
    }
}

fn fill<A: Copy + Default>(mut map: FlowMap<'_, A>)
where
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    for index in 0_u32.. {
        let (src_port, dst_port) = ((index >> 16) as u16, index as u16);
        let key = Tuple { src_port, dst_port, ..Tuple::default() };
        if map.insert(key, Flow::default(), 1).is_err() {
            return;
        }
    }
}
