// SPDX-License-Identifier: Apache-2.0
//! Every map: what it holds, who writes it, who reads it. Sizes are defaults; the loader sets them.

use pintle_abi::{
    addr::{Tuple, V4, V6},
    affinity::{Affinity, AffinityKey},
    counter::COUNTER_ENTRIES,
    device::Device,
    exit::KnownExit,
    flow::Flow,
    fragment::{Fragment, FragmentKey, HELD_ENTRIES, HELD_FRAME_LEN, Held},
    map,
    policy::{
        Allowed, AllowedKey, Denied, DeniedKey, Endpoint, OtherFlow, OtherKey, PolicyPort, Row,
        RowKey,
    },
    service::{Backend, Frontend, FrontendKey},
    settings::Settings,
    socket::{Connection, Datagram, DatagramKey, UdpSocket},
    source_range::{Prefix, SourceRange},
};

use crate::kernel::{
    Array, Hash, LruHash, MappedArray, PerCpuArray, PrefixTrie, SocketStorage, Steps,
};

macro_rules! maps {
    ($($(#[$meta:meta])* $name:ident: $ty:ty = $entries:expr;)*) => {$(
        $(#[$meta])*
        #[cfg_attr(target_arch = "bpf", unsafe(no_mangle), unsafe(link_section = "maps"))]
        pub static $name: $ty = <$ty>::new($entries);
    )*};
}

maps! {
    /// Service address → slots. Written by the agent.
    FRONTENDS_V4: Hash<FrontendKey<V4>, Frontend> = map::FRONTENDS_V4.entries;
    /// Service address → slots. Written by the agent.
    FRONTENDS_V6: Hash<FrontendKey<V6>, Frontend> = map::FRONTENDS_V6.entries;
    /// Slot → backend id. Written by the agent, before the frontend that leads to it.
    SLOTS_V4: MappedArray<u32> = map::SLOTS_V4.entries;
    /// Slot → backend id. Written by the agent, before the frontend that leads to it.
    SLOTS_V6: MappedArray<u32> = map::SLOTS_V6.entries;
    /// Backend id → backend. Written by the agent, before the slot that leads to it.
    BACKENDS_V4: Array<Backend<V4>> = map::BACKENDS_V4.entries;
    /// Backend id → backend. Written by the agent, before the slot that leads to it.
    BACKENDS_V6: Array<Backend<V6>> = map::BACKENDS_V6.entries;
    /// Canonical tuple → flow. Written by the programs; the agent removes what has expired.
    TCP_FLOWS_V4: Hash<Tuple<V4>, Flow<V4>> = map::TCP_FLOWS_V4.entries;
    /// Canonical tuple → flow. Written by the programs; the agent removes what has expired.
    TCP_FLOWS_V6: Hash<Tuple<V6>, Flow<V6>> = map::TCP_FLOWS_V6.entries;
    /// Canonical tuple → flow. Written by the programs; the agent removes what has expired.
    UDP_FLOWS_V4: Hash<Tuple<V4>, Flow<V4>> = map::UDP_FLOWS_V4.entries;
    /// Canonical tuple → flow. Written by the programs; the agent removes what has expired.
    UDP_FLOWS_V6: Hash<Tuple<V6>, Flow<V6>> = map::UDP_FLOWS_V6.entries;
    /// Canonical tuple → flow. Written by the programs; the agent removes what has expired.
    SCTP_FLOWS_V4: Hash<Tuple<V4>, Flow<V4>> = map::SCTP_FLOWS_V4.entries;
    /// Canonical tuple → flow. Written by the programs; the agent removes what has expired.
    SCTP_FLOWS_V6: Hash<Tuple<V6>, Flow<V6>> = map::SCTP_FLOWS_V6.entries;
    /// Flows that found the flow map full. Written by the programs.
    TCP_OVERFLOW_V4: LruHash<Tuple<V4>, Flow<V4>> = map::TCP_OVERFLOW_V4.entries;
    /// Flows that found the flow map full. Written by the programs.
    TCP_OVERFLOW_V6: LruHash<Tuple<V6>, Flow<V6>> = map::TCP_OVERFLOW_V6.entries;
    /// Flows that found the flow map full. Written by the programs.
    UDP_OVERFLOW_V4: LruHash<Tuple<V4>, Flow<V4>> = map::UDP_OVERFLOW_V4.entries;
    /// Flows that found the flow map full. Written by the programs.
    UDP_OVERFLOW_V6: LruHash<Tuple<V6>, Flow<V6>> = map::UDP_OVERFLOW_V6.entries;
    /// Fragmented datagram → its ports. Written by the programs.
    FRAGMENTS_V4: LruHash<FragmentKey<V4>, Fragment> = map::FRAGMENTS_V4.entries;
    /// Fragmented datagram → its ports. Written by the programs.
    FRAGMENTS_V6: LruHash<FragmentKey<V6>, Fragment> = map::FRAGMENTS_V6.entries;
    /// Fragments that wait for their first one. Written by the programs.
    HELD_V4: Array<Held<V4>> = HELD_ENTRIES;
    /// Fragments that wait for their first one. Written by the programs.
    HELD_V6: Array<Held<V6>> = HELD_ENTRIES;
    /// Their frames. Written by the programs.
    HELD_FRAMES_V4: Array<[u8; HELD_FRAME_LEN]> = HELD_ENTRIES;
    /// Their frames. Written by the programs.
    HELD_FRAMES_V6: Array<[u8; HELD_FRAME_LEN]> = HELD_ENTRIES;
    /// A first fragment while others are sent in its buffer. Written by the programs.
    FIRST_FRAME: PerCpuArray<[u8; HELD_FRAME_LEN]> = 1;
    /// Client of a service port → its backend. Written by the programs.
    AFFINITY_V4: LruHash<AffinityKey<V4>, Affinity> = map::AFFINITY_V4.entries;
    /// Client of a service port → its backend. Written by the programs.
    AFFINITY_V6: LruHash<AffinityKey<V6>, Affinity> = map::AFFINITY_V6.entries;
    /// Service port and address → 1. Written by the agent.
    SOURCE_RANGES_V4: PrefixTrie<SourceRange<V4>, u32> = map::SOURCE_RANGES_V4.entries;
    /// Service port and address → 1. Written by the agent.
    SOURCE_RANGES_V6: PrefixTrie<SourceRange<V6>, u32> = map::SOURCE_RANGES_V6.entries;
    /// The cluster's service addresses. Written by the agent.
    CLUSTER_RANGES_V4: Array<Prefix<V4>> = map::CLUSTER_RANGES_V4.entries;
    /// The cluster's service addresses. Written by the agent.
    CLUSTER_RANGES_V6: Array<Prefix<V6>> = map::CLUSTER_RANGES_V6.entries;
    /// Connected UDP socket → its backend. Written by the programs, read by the agent.
    UDP_SOCKETS: Hash<u64, UdpSocket> = map::UDP_SOCKETS.entries;
    /// UDP socket that is not connected, and a service or backend → the other of both. Written by the
    /// programs.
    DATAGRAMS_V4: LruHash<DatagramKey<V4>, Datagram<V4>> = map::DATAGRAMS_V4.entries;
    /// UDP socket that is not connected, and a service or backend → the other of both. Written by the
    /// programs.
    DATAGRAMS_V6: LruHash<DatagramKey<V6>, Datagram<V6>> = map::DATAGRAMS_V6.entries;
    /// Ifindex of a pod's interface → the pod's addresses and rulesets. Written by the agent.
    ENDPOINTS: Hash<u32, Endpoint> = map::ENDPOINTS.entries;
    /// Address of a pod or node → its class. Written by the agent.
    PEERS_V4: Hash<V4, u32> = map::PEERS_V4.entries;
    /// Address of a pod or node → its class. Written by the agent.
    PEERS_V6: Hash<V6, u32> = map::PEERS_V6.entries;
    /// Other addresses → their class. Written by the agent.
    PEER_RANGES_V4: PrefixTrie<V4, u32> = map::PEER_RANGES_V4.entries;
    /// Other addresses → their class. Written by the agent.
    PEER_RANGES_V6: PrefixTrie<V6, u32> = map::PEER_RANGES_V6.entries;
    /// Ruleset, protocol and port → port class. Written by the agent.
    POLICY_PORTS: PrefixTrie<PolicyPort, u32> = map::POLICY_PORTS.entries;
    /// Ruleset and class → verdicts. Written by the agent, before the endpoints and classes that lead to them.
    POLICY_ROWS: Hash<RowKey, Row> = map::POLICY_ROWS.entries;
    /// Conversation without ports → what was allowed. Written by the programs.
    OTHER_FLOWS_V4: LruHash<OtherKey<V4>, OtherFlow> = map::OTHER_FLOWS_V4.entries;
    /// Conversation without ports → what was allowed. Written by the programs.
    OTHER_FLOWS_V6: LruHash<OtherKey<V6>, OtherFlow> = map::OTHER_FLOWS_V6.entries;
    /// Why packets were denied → how many. Written by the programs.
    DENIED: LruHash<DeniedKey, Denied> = map::DENIED.entries;
    /// What allowed connections → how many. Written by the programs.
    ALLOWED: LruHash<AllowedKey, Allowed> = map::ALLOWED.entries;
    /// Ifindex → what the programs may do there. Written by the agent.
    DEVICES: Hash<u32, Device> = map::DEVICES.entries;
    /// Hook and counter → count. Written by the programs.
    COUNTERS: PerCpuArray<u64> = COUNTER_ENTRIES;
    /// Settings of the node. Written by the agent.
    SETTINGS: Array<Settings> = map::SETTINGS.entries;
    /// When a flow was last put into an overflow map, `CLOCK_MONOTONIC` in ns; spares the look-up
    /// there while nothing is in it. Written by the programs.
    OVERFLOW_SEEN: Array<u64> = map::OVERFLOW_SEEN.entries;
    /// Budget of refusals, see [`crate::reject`]. Written by the programs.
    REFUSALS: PerCpuArray<[u64; 2]> = map::REFUSALS.entries;
    /// Hash of where packets came in, and between whom → how XDP sends them on. Written by the programs.
    EXITS_V4: PerCpuArray<KnownExit<V4>> = map::EXITS_V4.entries;
    /// Hash of where packets came in, and between whom → how XDP sends them on. Written by the programs.
    EXITS_V6: PerCpuArray<KnownExit<V6>> = map::EXITS_V6.entries;
    /// A tick, and the time then. Written by the programs.
    CLOCK: PerCpuArray<[u64; 2]> = map::CLOCK.entries;
    /// Rare step → program. Written by the loader.
    RARE_STEPS: Steps = map::RARE_STEPS.entries;
    /// Step of XDP → program. Written by the loader.
    XDP_STEPS: Steps = map::XDP_STEPS.entries;
    /// The argument of the step of XDP that this CPU takes: its context has no room for one.
    XDP_ARGUMENT: PerCpuArray<u32> = map::XDP_ARGUMENT.entries;
}

/// Connected socket → what it dialled. Written by the programs.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle), unsafe(link_section = ".maps"))]
pub static SOCKETS_V4: SocketStorage<Connection<V4>> = SocketStorage::new();
/// Connected socket → what it dialled. Written by the programs.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle), unsafe(link_section = ".maps"))]
pub static SOCKETS_V6: SocketStorage<Connection<V6>> = SocketStorage::new();

/// The settings of the node; those of an empty map while the agent has written none.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    // SAFETY: array elements live as long as the map, which lives as long as the program.
    SETTINGS.get(0).map(|settings| unsafe { &*settings })
}
