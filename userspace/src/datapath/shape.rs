// SPDX-License-Identifier: Apache-2.0
//! What each map of the ABI is: its type and the sizes of what it holds.

use aya::maps::MapType;
use pintle_abi::{
    addr::{Tuple, V4, V6},
    affinity::{Affinity, AffinityKey},
    device::Device,
    flow::Flow,
    fragment::{Fragment, FragmentKey},
    policy::{
        Allowed, AllowedKey, Denied, DeniedKey, Endpoint, OtherFlow, OtherKey, PolicyPort, Row,
        RowKey,
    },
    service::{Backend, Frontend, FrontendKey},
    settings::Settings,
    socket::{Connection, Datagram, DatagramKey, UdpSocket},
    source_range::{Prefix, SourceRange},
};

/// Type, key size and value size of a map, by its name without the address family.
pub(super) fn shape(name: &str) -> Option<(MapType, u32, u32)> {
    fn family<A>(stem: &str) -> Option<(MapType, usize, usize)> {
        Some(match stem {
            "FRONTENDS" => (MapType::Hash, size_of::<FrontendKey<A>>(), size_of::<Frontend>()),
            "SLOTS" => (MapType::Array, 4, 4),
            "BACKENDS" => (MapType::Array, 4, size_of::<Backend<A>>()),
            "TCP_FLOWS" | "UDP_FLOWS" | "SCTP_FLOWS" => {
                (MapType::Hash, size_of::<Tuple<A>>(), size_of::<Flow<A>>())
            }
            "TCP_OVERFLOW" | "UDP_OVERFLOW" => {
                (MapType::LruHash, size_of::<Tuple<A>>(), size_of::<Flow<A>>())
            }
            "AFFINITY" => (MapType::LruHash, size_of::<AffinityKey<A>>(), size_of::<Affinity>()),
            // The length of the prefix stands before the rest of the key.
            "SOURCE_RANGES" => (MapType::LpmTrie, 4 + size_of::<SourceRange<A>>(), 4),
            "PEERS" => (MapType::Hash, size_of::<A>(), 4),
            "PEER_RANGES" => (MapType::LpmTrie, 4 + size_of::<A>(), 4),
            "OTHER_FLOWS" => (MapType::LruHash, size_of::<OtherKey<A>>(), size_of::<OtherFlow>()),
            "CLUSTER_RANGES" => (MapType::Array, 4, size_of::<Prefix<A>>()),
            "SOCKETS" => (MapType::SkStorage, 4, size_of::<Connection<A>>()),
            "DATAGRAMS" => {
                (MapType::LruHash, size_of::<DatagramKey<A>>(), size_of::<Datagram<A>>())
            }
            "FRAGMENTS" => (MapType::LruHash, size_of::<FragmentKey<A>>(), size_of::<Fragment>()),
            _ => return None,
        })
    }
    let (map_type, key, value) = match (name.strip_suffix("_V4"), name.strip_suffix("_V6")) {
        (Some(stem), _) => family::<V4>(stem)?,
        (_, Some(stem)) => family::<V6>(stem)?,
        _ => match name {
            "UDP_SOCKETS" => (MapType::Hash, 8, size_of::<UdpSocket>()),
            "ENDPOINTS" => (MapType::Hash, 4, size_of::<Endpoint>()),
            "POLICY_PORTS" => (MapType::LpmTrie, 4 + size_of::<PolicyPort>(), 4),
            "POLICY_ROWS" => (MapType::Hash, size_of::<RowKey>(), size_of::<Row>()),
            "DENIED" => (MapType::LruHash, size_of::<DeniedKey>(), size_of::<Denied>()),
            "ALLOWED" => (MapType::LruHash, size_of::<AllowedKey>(), size_of::<Allowed>()),
            "DEVICES" => (MapType::Hash, 4, size_of::<Device>()),
            "COUNTERS" => (MapType::PerCpuArray, 4, 8),
            "SETTINGS" => (MapType::Array, 4, size_of::<Settings>()),
            "OVERFLOW_SEEN" => (MapType::Array, 4, 8),
            "REFUSALS" => (MapType::PerCpuArray, 4, 16),
            "RARE_STEPS" => (MapType::ProgramArray, 4, 4),
            _ => return None,
        },
    };
    Some((map_type, key as u32, value as u32))
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
