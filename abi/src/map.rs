// SPDX-License-Identifier: Apache-2.0
//! Names of the maps, which are also the names of their pins, and their default sizes.

/// A map: its name in the object and as a pin, and how many entries it has by default.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// Name in the object file and in the pin directory.
    pub name: &'static str,
    /// Default number of entries.
    pub entries: u32,
}

impl MapSpec {
    /// Whether the programs rely on its number of entries, so that nobody may choose another.
    pub fn is_fixed(&self) -> bool {
        const FIXED: [MapSpec; 12] = [
            CLUSTER_RANGES_V4,
            CLUSTER_RANGES_V6,
            COUNTERS,
            SETTINGS,
            OVERFLOW_SEEN,
            REFUSALS,
            EXITS_V4,
            EXITS_V6,
            CLOCK,
            RARE_STEPS,
            XDP_STEPS,
            XDP_ARGUMENT,
        ];
        FIXED.iter().any(|fixed| fixed.name == self.name)
    }
}

macro_rules! maps {
    ($($(#[$meta:meta])* $name:ident = $entries:expr;)*) => {
        $(
            $(#[$meta])*
            pub const $name: MapSpec = MapSpec { name: stringify!($name), entries: $entries };
        )*
        /// Every map.
        pub const ALL: &[MapSpec] = &[$($name,)*];
    };
}

maps! {
    /// Hash: service address → slots (`FrontendKey` → `Frontend`).
    FRONTENDS_V4 = 65_536;
    /// The same for IPv6.
    FRONTENDS_V6 = 65_536;
    /// Array: slot → backend id of IPv4.
    SLOTS_V4 = 262_144;
    /// Array: slot → backend id of IPv6.
    SLOTS_V6 = 262_144;
    /// Array: backend id → `Backend`.
    BACKENDS_V4 = 131_072;
    /// The same for IPv6.
    BACKENDS_V6 = 131_072;
    /// Hash: canonical tuple → `Flow`. Never evicts.
    TCP_FLOWS_V4 = 262_144;
    /// The same for IPv6.
    TCP_FLOWS_V6 = 262_144;
    /// Hash: canonical tuple → `Flow`. Never evicts.
    UDP_FLOWS_V4 = 131_072;
    /// The same for IPv6.
    UDP_FLOWS_V6 = 131_072;
    /// Hash: canonical tuple → `Flow`. Never evicts, and has no overflow map.
    SCTP_FLOWS_V4 = 16_384;
    /// The same for IPv6.
    SCTP_FLOWS_V6 = 16_384;
    /// LRU hash: flows for which the flow map had no room.
    TCP_OVERFLOW_V4 = 4_096;
    /// The same for IPv6.
    TCP_OVERFLOW_V6 = 4_096;
    /// LRU hash: flows for which the flow map had no room.
    UDP_OVERFLOW_V4 = 4_096;
    /// The same for IPv6.
    UDP_OVERFLOW_V6 = 4_096;
    /// LRU hash: fragmented datagram → its ports.
    FRAGMENTS_V4 = 4_096;
    /// The same for IPv6.
    FRAGMENTS_V6 = 4_096;
    /// LRU hash: client of a service port → `Affinity`.
    AFFINITY_V4 = 16_384;
    /// The same for IPv6.
    AFFINITY_V6 = 16_384;
    /// Longest-prefix trie: service port and address → 1, who may use it.
    SOURCE_RANGES_V4 = 16_384;
    /// The same for IPv6.
    SOURCE_RANGES_V6 = 16_384;
    /// Array: `Prefix` of cluster addresses; what is in none of the frontends is dropped.
    CLUSTER_RANGES_V4 = crate::source_range::CLUSTER_RANGES;
    /// The same for IPv6.
    CLUSTER_RANGES_V6 = crate::source_range::CLUSTER_RANGES;
    /// Socket storage: connected socket → `Connection`. As large as there are sockets.
    SOCKETS_V4 = 0;
    /// The same for IPv6.
    SOCKETS_V6 = 0;
    /// Hash: cookie of a connected UDP socket → `UdpSocket`.
    UDP_SOCKETS = 65_536;
    /// LRU hash: UDP socket that is not connected, and a service or backend → the other of both.
    DATAGRAMS_V4 = 16_384;
    /// The same for IPv6.
    DATAGRAMS_V6 = 16_384;
    /// Hash: ifindex of a pod's interface → `Endpoint`.
    ENDPOINTS = 4_096;
    /// Hash: address of a pod or node → its class.
    PEERS_V4 = 131_072;
    /// The same for IPv6.
    PEERS_V6 = 131_072;
    /// Longest-prefix trie: addresses that are not in `PEERS_*` → their class.
    PEER_RANGES_V4 = 16_384;
    /// The same for IPv6.
    PEER_RANGES_V6 = 16_384;
    /// Longest-prefix trie: `PolicyPort` → port class.
    POLICY_PORTS = 65_536;
    /// Hash: `RowKey` → `Row`.
    POLICY_ROWS = 262_144;
    /// LRU hash: conversation without ports → `OtherFlow`.
    OTHER_FLOWS_V4 = 4_096;
    /// The same for IPv6.
    OTHER_FLOWS_V6 = 4_096;
    /// LRU hash: why packets were denied → `Denied`.
    DENIED = 4_096;
    /// LRU hash: bit of a row → `Allowed`.
    ALLOWED = 4_096;
    /// Hash: ifindex → `Device`.
    DEVICES = 4_096;
    /// Per-CPU array of u64: hook and counter → count.
    COUNTERS = crate::counter::COUNTER_ENTRIES;
    /// Array of one: `Settings`.
    SETTINGS = 1;
    /// Array of one u64: when an overflow map was last written.
    OVERFLOW_SEEN = 1;
    /// Per-CPU array of one: how many refusals were answered in the current window.
    REFUSALS = 1;
    /// Per-CPU array: hash of where packets came in, and between whom → `KnownExit`. A power of two.
    EXITS_V4 = 1_024;
    /// The same for IPv6.
    EXITS_V6 = 1_024;
    /// Per-CPU array of one: a tick, and the time then, `CLOCK_MONOTONIC` in ns.
    CLOCK = 1;
    /// Program array: rare step → program.
    RARE_STEPS = crate::step::RareStep::PLACES;
    /// Program array: step of XDP → program.
    XDP_STEPS = crate::step::XdpStep::PLACES;
    /// Per-CPU array of one u32: the argument of the step of XDP that is being taken.
    XDP_ARGUMENT = 1;
}
