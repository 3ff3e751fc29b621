// SPDX-License-Identifier: Apache-2.0
//! The maps of each family.

use pintle_abi::{
    addr::{Tuple, V4, V6},
    affinity::{Affinity, AffinityKey},
    device::Device,
    exit::KnownExit,
    flow::Flow,
    fragment::{Fragment, FragmentKey, HELD_FRAME_LEN, Held},
    policy::{Endpoint, OtherFlow, OtherKey},
    service::{Backend, Frontend, FrontendKey},
    settings::Settings,
    socket::Connection,
    source_range::{Prefix, SourceRange},
};

use crate::{
    kernel::{Array, Hash, LruHash, MappedArray, PerCpuArray, PrefixTrie, SocketStorage},
    maps,
};

/// The maps of a transport protocol: where its flows live, and where they go when that is full.
#[derive(Clone, Copy)]
pub struct FlowMaps<A: 'static> {
    /// Never evicts.
    pub main: &'static Hash<Tuple<A>, Flow<A>>,
    /// Evicts what was not used for long; what finds no room is dropped if there is none.
    pub overflow: Option<&'static LruHash<Tuple<A>, Flow<A>>>,
}

/// The maps of a family. Functions and not a table: a look-up that names its map is inlined by the
/// kernel.
pub trait Tables: Sized + 'static {
    /// Service addresses.
    fn frontends() -> &'static Hash<FrontendKey<Self>, Frontend>;
    /// Slots.
    fn slots() -> &'static MappedArray<u32>;
    /// Backends.
    fn backends() -> &'static Array<Backend<Self>>;
    /// Which backend a client of a service has.
    fn affinity() -> &'static LruHash<AffinityKey<Self>, Affinity>;
    /// Who may use a service.
    fn source_ranges() -> &'static PrefixTrie<SourceRange<Self>, u32>;
    /// The cluster's service addresses.
    fn cluster_ranges() -> &'static Array<Prefix<Self>>;
    /// Fragmented datagrams.
    fn fragments() -> &'static LruHash<FragmentKey<Self>, Fragment>;
    /// Fragments that wait for their first one.
    fn held() -> &'static Array<Held<Self>>;
    /// Their frames.
    fn held_frames() -> &'static Array<[u8; HELD_FRAME_LEN]>;
    /// The flows of TCP.
    fn tcp_flows() -> FlowMaps<Self>;
    /// The flows of UDP.
    fn udp_flows() -> FlowMaps<Self>;
    /// The flows of SCTP.
    fn sctp_flows() -> FlowMaps<Self>;
    /// Classes of pods and nodes.
    fn peers() -> &'static Hash<Self, u32>;
    /// Classes of other addresses.
    fn peer_ranges() -> &'static PrefixTrie<Self, u32>;
    /// Connected sockets that were translated when they dialled.
    fn sockets() -> &'static SocketStorage<Connection<Self>>;
    /// Conversations without ports.
    fn other_flows() -> &'static LruHash<OtherKey<Self>, OtherFlow>;
    /// Where the node's routes lead.
    fn exits() -> &'static PerCpuArray<KnownExit<Self>>;
    /// The source that a pod sees when it reaches itself through a service.
    fn hairpin_address(settings: &Settings) -> Self;
    /// The address that stands for masqueraded clients where the way out has none.
    fn node_address(settings: &Settings) -> Self;
    /// The addresses of pods.
    fn pods(settings: &Settings) -> &Prefix<Self>;
    /// The address of a device.
    fn own_address(device: &Device) -> Self;
    /// The address of a pod.
    fn pod_address(endpoint: &Endpoint) -> Self;
}

macro_rules! tables {
    (
        $family:ty, $hairpin:ident, $node:ident, $pods:ident, $own:ident,
        maps { $($name:ident: $ty:ty = $map:ident;)* }
        flows { $($flows:ident = $main:ident, $overflow:expr;)* }
    ) => {
        impl Tables for $family {
            $(
                #[inline(always)]
                fn $name() -> &'static $ty {
                    &maps::$map
                }
            )*
            $(
                #[inline(always)]
                fn $flows() -> FlowMaps<Self> {
                    FlowMaps { main: &maps::$main, overflow: $overflow }
                }
            )*
            #[inline(always)]
            fn hairpin_address(settings: &Settings) -> Self {
                settings.$hairpin
            }
            #[inline(always)]
            fn node_address(settings: &Settings) -> Self {
                settings.$node
            }
            #[inline(always)]
            fn pods(settings: &Settings) -> &Prefix<Self> {
                &settings.$pods
            }
            #[inline(always)]
            fn own_address(device: &Device) -> Self {
                device.$own
            }
            #[inline(always)]
            fn pod_address(endpoint: &Endpoint) -> Self {
                endpoint.$own
            }
        }
    };
}

tables! {
    V4, hairpin_v4, node_v4, pods_v4, v4,
    maps {
        frontends: Hash<FrontendKey<Self>, Frontend> = FRONTENDS_V4;
        slots: MappedArray<u32> = SLOTS_V4;
        backends: Array<Backend<Self>> = BACKENDS_V4;
        affinity: LruHash<AffinityKey<Self>, Affinity> = AFFINITY_V4;
        source_ranges: PrefixTrie<SourceRange<Self>, u32> = SOURCE_RANGES_V4;
        cluster_ranges: Array<Prefix<Self>> = CLUSTER_RANGES_V4;
        fragments: LruHash<FragmentKey<Self>, Fragment> = FRAGMENTS_V4;
        held: Array<Held<Self>> = HELD_V4;
        held_frames: Array<[u8; HELD_FRAME_LEN]> = HELD_FRAMES_V4;
        peers: Hash<Self, u32> = PEERS_V4;
        peer_ranges: PrefixTrie<Self, u32> = PEER_RANGES_V4;
        sockets: SocketStorage<Connection<Self>> = SOCKETS_V4;
        other_flows: LruHash<OtherKey<Self>, OtherFlow> = OTHER_FLOWS_V4;
        exits: PerCpuArray<KnownExit<Self>> = EXITS_V4;
    }
    flows {
        tcp_flows = TCP_FLOWS_V4, Some(&maps::TCP_OVERFLOW_V4);
        udp_flows = UDP_FLOWS_V4, Some(&maps::UDP_OVERFLOW_V4);
        sctp_flows = SCTP_FLOWS_V4, None;
    }
}

tables! {
    V6, hairpin_v6, node_v6, pods_v6, v6,
    maps {
        frontends: Hash<FrontendKey<Self>, Frontend> = FRONTENDS_V6;
        slots: MappedArray<u32> = SLOTS_V6;
        backends: Array<Backend<Self>> = BACKENDS_V6;
        affinity: LruHash<AffinityKey<Self>, Affinity> = AFFINITY_V6;
        source_ranges: PrefixTrie<SourceRange<Self>, u32> = SOURCE_RANGES_V6;
        cluster_ranges: Array<Prefix<Self>> = CLUSTER_RANGES_V6;
        fragments: LruHash<FragmentKey<Self>, Fragment> = FRAGMENTS_V6;
        held: Array<Held<Self>> = HELD_V6;
        held_frames: Array<[u8; HELD_FRAME_LEN]> = HELD_FRAMES_V6;
        peers: Hash<Self, u32> = PEERS_V6;
        peer_ranges: PrefixTrie<Self, u32> = PEER_RANGES_V6;
        sockets: SocketStorage<Connection<Self>> = SOCKETS_V6;
        other_flows: LruHash<OtherKey<Self>, OtherFlow> = OTHER_FLOWS_V6;
        exits: PerCpuArray<KnownExit<Self>> = EXITS_V6;
    }
    flows {
        tcp_flows = TCP_FLOWS_V6, Some(&maps::TCP_OVERFLOW_V6);
        udp_flows = UDP_FLOWS_V6, Some(&maps::UDP_OVERFLOW_V6);
        sctp_flows = SCTP_FLOWS_V6, None;
    }
}
