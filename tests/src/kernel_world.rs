// SPDX-License-Identifier: Apache-2.0
//! The loaded programs as a [`World`]: packets go through `BPF_PROG_TEST_RUN`.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray},
    programs::{TestRun as _, TestRunOptions},
};
use pintle::datapath::object;
use pintle_abi::{
    addr::{Tuple, V4, V6, proto},
    counter::Hook,
    device::{Device, device_flags},
    flow::Flow,
    plain::Plain,
    service::{Backend, Frontend, FrontendKey},
    settings::Settings,
};

use crate::world::{BackendSpec, FlowSpec, IFINDEX, Verdict, World, hairpin_address};

/// MTU of the interface that clients sit behind.
pub const MTU: u32 = 1500;

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
        let (IpAddr::V4(v4), IpAddr::V6(v6)) = (hairpin_address(false), hairpin_address(true))
        else {
            unreachable!("one address of each family")
        };
        let settings = Settings {
            hash_key: 0x5eed,
            fast_path: 1,
            hairpin_v4: V4::from(v4),
            hairpin_v6: V6::from(v6),
            pad: 0,
        };
        let device = Device { flags: device_flags::FAST, mtu: MTU };
        world.array::<Settings>("SETTINGS").set(0, settings, 0).context("write settings")?;
        world.hash::<u32, Device>("DEVICES").insert(IFINDEX, device, 0).context("write device")?;
        Ok(world)
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

    /// An array of the object.
    pub fn array<V: Pod>(&mut self, name: &str) -> Array<&mut MapData, V> {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        Array::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs a hook on a frame `repeat` times; returns the code, the frame and ns per run.
    pub fn run(&mut self, hook: Hook, frame: &[u8], repeat: u32) -> Result<(i32, Vec<u8>, u64)> {
        let mut out = vec![0_u8; frame.len() + 256];
        let mut context = [0_u8; SKB_LEN];
        context[SKB_IFINDEX..SKB_IFINDEX + 4].copy_from_slice(&IFINDEX.to_ne_bytes());
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

    fn flows(&self, v6: bool, protocol: u8) -> Vec<FlowSpec> {
        let name = flow_map(v6, protocol);
        let map = self.ebpf.map(name).unwrap_or_else(|| panic!("no map {name}"));
        if v6 { flows::<V6>(map) } else { flows::<V4>(map) }
    }

    fn forget_flows(&mut self) {
        for protocol in [proto::TCP, proto::UDP] {
            forget::<V4>(self.hash(flow_map(false, protocol)));
            forget::<V6>(self.hash(flow_map(true, protocol)));
        }
    }
}

fn frontend_key<A>(addr: A, port: u16, proto: u8) -> FrontendKey<A> {
    FrontendKey { addr, port: port.to_be(), proto, scope: 0 }
}

/// A backend as the map holds it; generation 0 stands for a free id.
pub fn backend_value<A>(addr: A, spec: BackendSpec) -> Backend<A> {
    Backend {
        addr,
        ifindex: spec.ifindex,
        generation: spec.generation,
        mtu: MTU,
        port: spec.addr.port().to_be(),
        state: u16::from(spec.generation != 0),
    }
}

fn flow_map(v6: bool, protocol: u8) -> &'static str {
    match (v6, protocol) {
        (false, proto::TCP) => "TCP_FLOWS_V4",
        (true, proto::TCP) => "TCP_FLOWS_V6",
        (false, _) => "UDP_FLOWS_V4",
        (true, _) => "UDP_FLOWS_V6",
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
pub fn spec_of<A>(flow: &Flow<A>) -> FlowSpec {
    FlowSpec {
        flags: flow.flags,
        backend: flow.backend,
        forward: flow.forward,
        reply: flow.reply,
        packets: flow.packets,
    }
}

fn forget<A>(mut map: HashMap<&mut MapData, Tuple<A>, Flow<A>>)
where
    A: Copy,
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    let keys: Vec<Tuple<A>> = map.keys().filter_map(Result::ok).collect();
    for key in keys {
        map.remove(&key).unwrap_or_else(|error| panic!("remove a flow: {error}"));
    }
}
