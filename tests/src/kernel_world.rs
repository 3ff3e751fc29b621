// SPDX-License-Identifier: Apache-2.0
//! The loaded programs as a [`World`]: packets go through `BPF_PROG_TEST_RUN`.

use std::{
    net::IpAddr,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, lpm_trie::Key as TrieKey},
    programs::{TestRun as _, TestRunOptions},
};
use pintle::datapath::object;
use pintle_abi::{
    addr::{Tuple, V4, V6},
    affinity::{Affinity, AffinityKey},
    counter::Hook,
    device::Device,
    exit::KnownExit,
    flow::Flow,
    fragment::{Fragment, FragmentKey, Held},
    policy::{
        Allowed, AllowedKey, Denied, DeniedKey, Endpoint, OtherFlow, OtherKey, PolicyPort, Row,
        RowKey,
    },
    service::{Frontend, FrontendKey},
    settings::Settings,
    source_range::{Prefix, SourceRange},
};

use crate::world::{
    BackendSpec, Exit, FlowSpec, Forget, FrontendSpec, IFINDEX, KernelFlow, Origin, Range, Table,
    Verdict, World, device, settings,
};

mod early;
mod flows;
mod tables;

use early::{Clock, Uplink};

use flows::{FLOW_MAPS, flow_map};

/// Entries of the maps of a small world.
const SMALL: u32 = 1024;

/// Offsets of `ingress_ifindex` and `ifindex` in `__sk_buff`, and the struct's length.
const SKB_INGRESS_IFINDEX: usize = 36;
const SKB_IFINDEX: usize = 40;
const SKB_LEN: usize = 192;

/// The programs of this build, with maps of their own.
pub struct KernelWorld {
    ebpf: Ebpf,
    uplink: Option<Uplink>,
    clock: Clock,
}

impl KernelWorld {
    /// Loads the programs and writes the settings.
    pub fn load(sizes: &object::Sizes) -> Result<Self> {
        let mut world = Self { ebpf: object::load(None, sizes)?, uplink: None, clock: Clock::Goes };
        world.put_settings(&settings());
        world.put_device(&device());
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
        world.clear();
        world
    }

    /// The same with XDP, and routes for everything.
    pub fn shared_with_xdp() -> MutexGuard<'static, Self> {
        static WORLD: LazyLock<Mutex<KernelWorld>> = LazyLock::new(|| {
            let mut world = KernelWorld::small();
            object::load_xdp(world.ebpf()).unwrap_or_else(|error| panic!("{error:#}"));
            let uplink = Uplink::new().unwrap_or_else(|error| panic!("{error:#}"));
            let written = world.hash("DEVICES").insert(uplink.index(), uplink.device(), 0);
            written.unwrap_or_else(|error| panic!("write device: {error}"));
            world.uplink = Some(uplink);
            Mutex::new(world)
        });
        let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
        world.clear();
        early::stay_on_a_cpu();
        world.set_clock(Clock::Goes);
        world
    }

    /// The same, where time does not pass for XDP but in [`World::wait`].
    pub fn shared_with_xdp_at_rest() -> MutexGuard<'static, Self> {
        let mut world = Self::shared_with_xdp();
        world.set_clock(Clock::Held);
        world
    }

    fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
        tables::fill_per_cpu(self.per_cpu("CLOCK"), clock.value());
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

    fn trie<K: Pod>(&mut self, name: &str) -> LpmTrie<&mut MapData, K, u32> {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        LpmTrie::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn per_cpu<V: Pod>(&mut self, name: &str) -> PerCpuArray<&mut MapData, V> {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
        PerCpuArray::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn elements<K: Pod, V: Pod>(&self, name: &str) -> Vec<(K, V)> {
        let map = self.ebpf.map(name).unwrap_or_else(|| panic!("no map {name}"));
        let map =
            HashMap::<_, K, V>::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"));
        map.iter().filter_map(Result::ok).collect()
    }

    fn clear_policies(&mut self) {
        tables::clear::<u32, Endpoint>(self.hash("ENDPOINTS"));
        tables::clear::<V4, u32>(self.hash("PEERS_V4"));
        tables::clear::<V6, u32>(self.hash("PEERS_V6"));
        tables::clear_trie::<V4>(self.trie("PEER_RANGES_V4"));
        tables::clear_trie::<V6>(self.trie("PEER_RANGES_V6"));
        tables::clear_trie::<PolicyPort>(self.trie("POLICY_PORTS"));
        tables::clear::<RowKey, Row>(self.hash("POLICY_ROWS"));
        tables::clear::<OtherKey<V4>, OtherFlow>(self.hash("OTHER_FLOWS_V4"));
        tables::clear::<OtherKey<V6>, OtherFlow>(self.hash("OTHER_FLOWS_V6"));
        tables::clear::<DeniedKey, Denied>(self.hash("DENIED"));
        tables::clear::<AllowedKey, Allowed>(self.hash("ALLOWED"));
    }

    /// Runs a hook on a frame; returns the code and the frame.
    fn run(&mut self, origin: Origin, hook: Hook, frame: &[u8]) -> Result<(i32, Vec<u8>)> {
        let mut out = vec![0_u8; frame.len() + 256];
        let context = context(origin);
        // Loopback, where test runs take place, has the address of zeroes.
        let mut addressed = frame.to_vec();
        addressed[..6].fill(0);
        let options = TestRunOptions {
            data_in: Some(&addressed),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let program = object::classifier(&mut self.ebpf, hook.as_str())?;
        let result = program.test_run(options).context("test run")?;
        out.truncate(result.data_size_out as usize);
        if let Some(destination) = out.get_mut(..6).filter(|mac| *mac == [0; 6]) {
            destination.copy_from_slice(&frame[..6]);
        }
        Ok((result.return_value as i32, out))
    }
}

/// A `__sk_buff` for a test run at the vectors' interface.
pub fn context(origin: Origin) -> Vec<u8> {
    let mut context = vec![0; SKB_LEN];
    let mut put = |at: usize, ifindex: u32| {
        context[at..at + 4].copy_from_slice(&ifindex.to_ne_bytes());
    };
    put(SKB_IFINDEX, IFINDEX);
    put(SKB_INGRESS_IFINDEX, origin.arrived_at());
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
    fn clear(&mut self) {
        self.put_settings(&settings());
        self.put_device(&device());
        self.forget_flows(Forget::Everything);
        tables::clear::<FrontendKey<V4>, Frontend>(self.hash("FRONTENDS_V4"));
        tables::clear::<FrontendKey<V6>, Frontend>(self.hash("FRONTENDS_V6"));
        tables::clear::<AffinityKey<V4>, Affinity>(self.hash("AFFINITY_V4"));
        tables::clear::<AffinityKey<V6>, Affinity>(self.hash("AFFINITY_V6"));
        tables::clear::<FragmentKey<V4>, Fragment>(self.hash("FRAGMENTS_V4"));
        tables::clear::<FragmentKey<V6>, Fragment>(self.hash("FRAGMENTS_V6"));
        tables::clear_trie::<SourceRange<V4>>(self.trie("SOURCE_RANGES_V4"));
        tables::clear_trie::<SourceRange<V6>>(self.trie("SOURCE_RANGES_V6"));
        self.clear_policies();
        tables::zero::<Prefix<V4>>(self.array("CLUSTER_RANGES_V4"));
        tables::zero::<Prefix<V6>>(self.array("CLUSTER_RANGES_V6"));
        tables::zero::<Held<V4>>(self.array("HELD_V4"));
        tables::zero::<Held<V6>>(self.array("HELD_V6"));
        tables::zero::<u64>(self.array("OVERFLOW_SEEN"));
        tables::fill_per_cpu(self.per_cpu("COUNTERS"), 0_u64);
        tables::fill_per_cpu(self.per_cpu("REFUSALS"), [0_u64; 2]);
        // Large, and of XDP alone.
        if self.uplink.is_some() {
            tables::fill_per_cpu(self.per_cpu("EXITS_V4"), KnownExit::<V4>::default());
            tables::fill_per_cpu(self.per_cpu("EXITS_V6"), KnownExit::<V6>::default());
        }
    }

    fn put_settings(&mut self, settings: &Settings) {
        let written = self.array::<Settings>("SETTINGS").set(0, *settings, 0);
        written.unwrap_or_else(|error| panic!("write settings: {error}"));
    }

    fn put_device(&mut self, device: &Device) {
        let written = self.hash::<u32, Device>("DEVICES").insert(IFINDEX, device, 0);
        written.unwrap_or_else(|error| panic!("write device: {error}"));
    }

    fn put_frontend(&mut self, spec: &FrontendSpec) {
        let value = spec.value();
        let written = match spec.addr.ip() {
            IpAddr::V4(ip) => {
                self.hash::<_, Frontend>("FRONTENDS_V4").insert(spec.key(V4::from(ip)), value, 0)
            }
            IpAddr::V6(ip) => {
                self.hash::<_, Frontend>("FRONTENDS_V6").insert(spec.key(V6::from(ip)), value, 0)
            }
        };
        written.unwrap_or_else(|error| panic!("write frontend {}: {error}", spec.addr));
    }

    fn remove_frontend(&mut self, spec: &FrontendSpec) {
        let removed = match spec.addr.ip() {
            IpAddr::V4(ip) => {
                self.hash::<_, Frontend>("FRONTENDS_V4").remove(&spec.key(V4::from(ip)))
            }
            IpAddr::V6(ip) => {
                self.hash::<_, Frontend>("FRONTENDS_V6").remove(&spec.key(V6::from(ip)))
            }
        };
        removed.unwrap_or_else(|error| panic!("remove frontend {}: {error}", spec.addr));
    }

    fn put_slot(&mut self, v6: bool, slot: u32, backend: u32) {
        let name = if v6 { "SLOTS_V6" } else { "SLOTS_V4" };
        let written = self.array::<u32>(name).set(slot, backend, 0);
        written.unwrap_or_else(|error| panic!("write slot {slot}: {error}"));
    }

    fn put_backend(&mut self, spec: BackendSpec) {
        let written = match spec.addr.ip() {
            IpAddr::V4(ip) => self.array("BACKENDS_V4").set(spec.id, spec.value(V4::from(ip)), 0),
            IpAddr::V6(ip) => self.array("BACKENDS_V6").set(spec.id, spec.value(V6::from(ip)), 0),
        };
        written.unwrap_or_else(|error| panic!("write backend {}: {error}", spec.id));
    }

    fn put_source_range(&mut self, service: u32, range: Range) {
        let written = match range.ip {
            IpAddr::V4(ip) => {
                let (bits, key) = Range::key(service, V4::from(ip), range.bits);
                self.trie("SOURCE_RANGES_V4").insert(&TrieKey::new(bits, key), 1, 0)
            }
            IpAddr::V6(ip) => {
                let (bits, key) = Range::key(service, V6::from(ip), range.bits);
                self.trie("SOURCE_RANGES_V6").insert(&TrieKey::new(bits, key), 1, 0)
            }
        };
        written.unwrap_or_else(|error| panic!("write {range:?}: {error}"));
    }

    fn remove_source_range(&mut self, service: u32, range: Range) {
        let removed = match range.ip {
            IpAddr::V4(ip) => {
                let (bits, key) = Range::key(service, V4::from(ip), range.bits);
                self.trie("SOURCE_RANGES_V4").remove(&TrieKey::new(bits, key))
            }
            IpAddr::V6(ip) => {
                let (bits, key) = Range::key(service, V6::from(ip), range.bits);
                self.trie("SOURCE_RANGES_V6").remove(&TrieKey::new(bits, key))
            }
        };
        removed.unwrap_or_else(|error| panic!("remove {range:?}: {error}"));
    }

    fn put_endpoint(&mut self, ifindex: u32, endpoint: Option<&Endpoint>) {
        let mut endpoints = self.hash::<u32, Endpoint>("ENDPOINTS");
        let written = match endpoint {
            Some(endpoint) => endpoints.insert(ifindex, endpoint, 0),
            None => endpoints.remove(&ifindex),
        };
        written.unwrap_or_else(|error| panic!("write the pod at {ifindex}: {error}"));
    }

    fn put_peer(&mut self, ip: IpAddr, class: u32) {
        let written = match ip {
            IpAddr::V4(ip) => self.hash::<V4, u32>("PEERS_V4").insert(V4::from(ip), class, 0),
            IpAddr::V6(ip) => self.hash::<V6, u32>("PEERS_V6").insert(V6::from(ip), class, 0),
        };
        written.unwrap_or_else(|error| panic!("write the class of {ip}: {error}"));
    }

    fn put_peer_range(&mut self, range: Range, class: u32) {
        let written = match range.ip {
            IpAddr::V4(ip) => {
                let key = TrieKey::new(range.bits, V4::from(ip));
                self.trie("PEER_RANGES_V4").insert(&key, class, 0)
            }
            IpAddr::V6(ip) => {
                let key = TrieKey::new(range.bits, V6::from(ip));
                self.trie("PEER_RANGES_V6").insert(&key, class, 0)
            }
        };
        written.unwrap_or_else(|error| panic!("write the class of {range:?}: {error}"));
    }

    fn put_policy_port(&mut self, bits: u32, key: PolicyPort, class: u32) {
        let written = self.trie("POLICY_PORTS").insert(&TrieKey::new(bits, key), class, 0);
        written.unwrap_or_else(|error| panic!("write {key:?}: {error}"));
    }

    fn put_row(&mut self, key: RowKey, row: Row) {
        let written = self.hash::<RowKey, Row>("POLICY_ROWS").insert(key, row, 0);
        written.unwrap_or_else(|error| panic!("write {key:?}: {error}"));
    }

    fn denied(&self) -> Vec<(DeniedKey, Denied)> {
        self.elements("DENIED")
    }

    fn allowed(&self) -> Vec<(AllowedKey, Allowed)> {
        self.elements("ALLOWED")
    }

    fn age_other_flows(&mut self, ns: u64) {
        flows::age_other::<V4>(self.hash("OTHER_FLOWS_V4"), ns);
        flows::age_other::<V6>(self.hash("OTHER_FLOWS_V6"), ns);
    }

    fn service_entries(&self) -> usize {
        let map = |name| self.ebpf.map(name).unwrap_or_else(|| panic!("no map {name}"));
        tables::frontends::<V4>(map("FRONTENDS_V4"))
            + tables::frontends::<V6>(map("FRONTENDS_V6"))
            + tables::source_ranges::<V4>(map("SOURCE_RANGES_V4"))
            + tables::source_ranges::<V6>(map("SOURCE_RANGES_V6"))
    }

    fn put_cluster_range(&mut self, index: u32, range: Range) {
        let written = match (range.ip, range.mask()) {
            (IpAddr::V4(addr), IpAddr::V4(mask)) => {
                let prefix = Prefix { addr: V4::from(addr), mask: V4::from(mask) };
                self.array("CLUSTER_RANGES_V4").set(index, prefix, 0)
            }
            (IpAddr::V6(addr), IpAddr::V6(mask)) => {
                let prefix = Prefix { addr: V6::from(addr), mask: V6::from(mask) };
                self.array("CLUSTER_RANGES_V6").set(index, prefix, 0)
            }
            _ => unreachable!("a mask has the family of its address"),
        };
        written.unwrap_or_else(|error| panic!("write {range:?}: {error}"));
    }

    fn put_kernel_flow(&mut self, flow: &KernelFlow) {
        let name = |v6| flow_map(v6, flow.proto, Table::Main);
        let written = match (flow.client.ip(), flow.service.ip()) {
            (IpAddr::V4(client), IpAddr::V4(service)) => {
                let (key, value) = flow.entry(V4::from(client), V4::from(service));
                self.hash::<Tuple<V4>, Flow<V4>>(name(false)).insert(key, value, 0)
            }
            (IpAddr::V6(client), IpAddr::V6(service)) => {
                let (key, value) = flow.entry(V6::from(client), V6::from(service));
                self.hash::<Tuple<V6>, Flow<V6>>(name(true)).insert(key, value, 0)
            }
            _ => panic!("a connection of two families"),
        };
        written.unwrap_or_else(|error| panic!("write {flow:?}: {error}"));
    }

    fn send_from(&mut self, origin: Origin, hook: Hook, frame: &[u8]) -> (Verdict, Vec<u8>) {
        if hook == Hook::FromNet
            && let Some(uplink) = &self.uplink
            && let Some(sent) = uplink.send(&mut self.ebpf, frame)
        {
            return sent;
        }
        match self.run(origin, hook, frame) {
            Ok((code, bytes)) => (verdict(code), bytes),
            Err(error) => panic!("{}: {error:#}", hook.as_str()),
        }
    }

    fn exit(&self) -> Option<Exit> {
        None
    }

    fn counter(&self, index: u32) -> u64 {
        let map = self.ebpf.map("COUNTERS").unwrap_or_else(|| panic!("no map COUNTERS"));
        let counters = PerCpuArray::<_, u64>::try_from(map)
            .unwrap_or_else(|error| panic!("COUNTERS: {error}"));
        let values = counters.get(&index, 0).unwrap_or_else(|error| panic!("{index}: {error}"));
        values.iter().sum()
    }

    fn flows(&self, v6: bool, protocol: u8, table: Table) -> Vec<FlowSpec> {
        if !flows::is_there(protocol, table) {
            return Vec::new();
        }
        let name = flow_map(v6, protocol, table);
        let map = self.ebpf.map(name).unwrap_or_else(|| panic!("no map {name}"));
        if v6 { flows::flows::<V6>(map) } else { flows::flows::<V4>(map) }
    }

    fn age_flows(&mut self, ns: u64) {
        for (protocol, table) in FLOW_MAPS {
            flows::age::<V4>(self.hash(flow_map(false, protocol, table)), ns);
            flows::age::<V6>(self.hash(flow_map(true, protocol, table)), ns);
        }
    }

    fn age_affinity(&mut self, ns: u64) {
        flows::age_affinity::<V4>(self.hash("AFFINITY_V4"), ns);
        flows::age_affinity::<V6>(self.hash("AFFINITY_V6"), ns);
    }

    fn age_fragments(&mut self, ns: u64) {
        flows::age_first::<V4>(self.hash("FRAGMENTS_V4"), ns);
        flows::age_first::<V6>(self.hash("FRAGMENTS_V6"), ns);
    }

    fn wait(&mut self, time: Duration) {
        thread::sleep(time);
        self.set_clock(self.clock);
    }

    fn age_exits(&mut self, ns: u64) {
        flows::age_exits::<V4>(self.per_cpu("EXITS_V4"), ns);
        flows::age_exits::<V6>(self.per_cpu("EXITS_V6"), ns);
    }

    fn forget_flows(&mut self, which: Forget) {
        for (protocol, table) in FLOW_MAPS {
            flows::forget::<V4>(self.hash(flow_map(false, protocol, table)), which);
            flows::forget::<V6>(self.hash(flow_map(true, protocol, table)), which);
        }
    }

    fn fill_flows(&mut self, v6: bool, protocol: u8) {
        let name = flow_map(v6, protocol, Table::Main);
        if v6 { flows::fill::<V6>(self.hash(name)) } else { flows::fill::<V4>(self.hash(name)) }
    }
}
