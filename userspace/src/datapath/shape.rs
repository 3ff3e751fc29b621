// SPDX-License-Identifier: Apache-2.0
//! What every map has to be so that it can be read, and how its entries are counted.

use aya::maps::MapType;
use pintle_abi::{
    addr::{Tuple, V4, V6},
    affinity::{Affinity, AffinityKey},
    device::Device,
    exit::KnownExit,
    flow::Flow,
    fragment::{Fragment, FragmentKey},
    map::MapSpec,
    plain::Plain,
    policy::{
        Allowed, AllowedKey, Denied, DeniedKey, Endpoint, OtherFlow, OtherKey, PolicyPort, Row,
        RowKey,
    },
    service::{Backend, Frontend, FrontendKey},
    settings::Settings,
    socket::{Connection, Datagram, DatagramKey, UdpSocket},
    source_range::{Prefix, SourceRange},
};

use super::view::{ReadError, View};

/// A map's type, sizes and fill.
pub(super) struct Shape {
    pub kind: MapType,
    pub key_size: u32,
    pub value_size: u32,
    /// How many entries there are; `None` if all of them always are.
    pub count: fn(&View, &MapSpec) -> Result<Option<u64>, ReadError>,
}

impl Shape {
    fn new<K, V>(kind: MapType) -> Self {
        let (key_size, value_size) = (size_of::<K>() as u32, size_of::<V>() as u32);
        Self { kind, key_size, value_size, count: |_, _| Ok(None) }
    }

    fn hash<K: Plain + Default, V: Plain + Default>() -> Self {
        Self { count: View::entries::<K, V>, ..Self::new::<K, V>(MapType::Hash) }
    }

    fn lru_hash<K: Plain + Default, V: Plain + Default>() -> Self {
        Self { kind: MapType::LruHash, ..Self::hash::<K, V>() }
    }

    fn trie<K: aya::Pod>() -> Self {
        // The length of the prefix stands before the rest of the key.
        let key_size = (size_of::<u32>() + size_of::<K>()) as u32;
        Self { key_size, count: View::prefixes::<K>, ..Self::new::<K, u32>(MapType::LpmTrie) }
    }

    fn array<V>() -> Self {
        Self::new::<u32, V>(MapType::Array)
    }
}

/// The shape of a map that each family has, by its name without the family.
macro_rules! of_family {
    ($stem:expr, $A:ty) => {
        match $stem {
            "FRONTENDS" => Shape::hash::<FrontendKey<$A>, Frontend>(),
            "SLOTS" => Shape::array::<u32>(),
            "BACKENDS" => Shape { count: View::used_ids::<$A>, ..Shape::array::<Backend<$A>>() },
            "TCP_FLOWS" | "UDP_FLOWS" | "SCTP_FLOWS" => Shape::hash::<Tuple<$A>, Flow<$A>>(),
            "TCP_OVERFLOW" | "UDP_OVERFLOW" => Shape::lru_hash::<Tuple<$A>, Flow<$A>>(),
            "FRAGMENTS" => Shape::lru_hash::<FragmentKey<$A>, Fragment>(),
            "AFFINITY" => Shape::lru_hash::<AffinityKey<$A>, Affinity>(),
            "SOURCE_RANGES" => Shape::trie::<SourceRange<$A>>(),
            "CLUSTER_RANGES" => Shape::array::<Prefix<$A>>(),
            "SOCKETS" => Shape::new::<u32, Connection<$A>>(MapType::SkStorage),
            "DATAGRAMS" => Shape::lru_hash::<DatagramKey<$A>, Datagram<$A>>(),
            "PEERS" => Shape::hash::<$A, u32>(),
            "PEER_RANGES" => Shape::trie::<$A>(),
            "EXITS" => Shape::new::<u32, KnownExit<$A>>(MapType::PerCpuArray),
            "OTHER_FLOWS" => Shape::lru_hash::<OtherKey<$A>, OtherFlow>(),
            _ => return None,
        }
    };
}

/// The shape of a map, by its name.
pub(super) fn shape(name: &str) -> Option<Shape> {
    Some(match (name.strip_suffix("_V4"), name.strip_suffix("_V6")) {
        (Some(stem), _) => of_family!(stem, V4),
        (_, Some(stem)) => of_family!(stem, V6),
        _ => match name {
            "UDP_SOCKETS" => Shape::hash::<u64, UdpSocket>(),
            "ENDPOINTS" => Shape::hash::<u32, Endpoint>(),
            "POLICY_PORTS" => Shape::trie::<PolicyPort>(),
            "POLICY_ROWS" => Shape::hash::<RowKey, Row>(),
            "DENIED" => Shape::lru_hash::<DeniedKey, Denied>(),
            "ALLOWED" => Shape::lru_hash::<AllowedKey, Allowed>(),
            "DEVICES" => Shape::hash::<u32, Device>(),
            "COUNTERS" => Shape::new::<u32, u64>(MapType::PerCpuArray),
            "SETTINGS" => Shape::array::<Settings>(),
            "OVERFLOW_SEEN" => Shape::array::<u64>(),
            "REFUSALS" => Shape::new::<u32, [u64; 2]>(MapType::PerCpuArray),
            "CLOCK" => Shape::new::<u32, [u64; 2]>(MapType::PerCpuArray),
            "XDP_ARGUMENT" => Shape::new::<u32, u32>(MapType::PerCpuArray),
            "RARE_STEPS" | "XDP_STEPS" => Shape::new::<u32, u32>(MapType::ProgramArray),
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_has_a_shape() {
        for spec in pintle_abi::map::ALL {
            assert!(shape(spec.name).is_some(), "{}", spec.name);
        }
    }
}
