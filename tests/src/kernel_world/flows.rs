// SPDX-License-Identifier: Apache-2.0
//! The maps in which the programs keep what they have seen: flows, first fragments, affinity.

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues},
};
use pintle_abi::{
    addr::{Tuple, proto},
    affinity::{Affinity, AffinityKey},
    exit::{EXIT_SHIFT, KnownExit},
    flow::{Flow, flow_flags},
    fragment::{Fragment, FragmentKey},
    plain::Plain,
    policy::{OtherFlow, OtherKey},
};

use crate::world::{FlowSpec, Forget, Table};

pub(super) const FLOW_MAPS: [(u8, Table); 5] = [
    (proto::TCP, Table::Main),
    (proto::TCP, Table::Overflow),
    (proto::UDP, Table::Main),
    (proto::UDP, Table::Overflow),
    (proto::SCTP, Table::Main),
];

/// Whether a protocol has a map of that kind.
pub(super) fn is_there(protocol: u8, table: Table) -> bool {
    FLOW_MAPS.contains(&(protocol, table))
}

pub(super) fn flow_map(v6: bool, protocol: u8, table: Table) -> &'static str {
    match (protocol, table, v6) {
        (proto::TCP, Table::Main, false) => "TCP_FLOWS_V4",
        (proto::TCP, Table::Main, true) => "TCP_FLOWS_V6",
        (proto::TCP, Table::Overflow, false) => "TCP_OVERFLOW_V4",
        (proto::TCP, Table::Overflow, true) => "TCP_OVERFLOW_V6",
        (proto::SCTP, _, false) => "SCTP_FLOWS_V4",
        (proto::SCTP, _, true) => "SCTP_FLOWS_V6",
        (_, Table::Main, false) => "UDP_FLOWS_V4",
        (_, Table::Main, true) => "UDP_FLOWS_V6",
        (_, Table::Overflow, false) => "UDP_OVERFLOW_V4",
        (_, Table::Overflow, true) => "UDP_OVERFLOW_V6",
    }
}

pub(super) fn flows<A: Plain>(map: &Map) -> Vec<FlowSpec>
where
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    let map = HashMap::<_, Tuple<A>, Flow<A>>::try_from(map)
        .unwrap_or_else(|error| panic!("flow map: {error}"));
    map.iter().filter_map(Result::ok).map(|(_, flow)| FlowSpec::of(&flow)).collect()
}

pub(super) type FlowMap<'a, A> = HashMap<&'a mut MapData, Tuple<A>, Flow<A>>;

pub(super) fn elements<A: Copy>(map: &FlowMap<'_, A>) -> Vec<(Tuple<A>, Flow<A>)>
where
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    map.iter().filter_map(Result::ok).collect()
}

pub(super) fn age<A: Copy>(mut map: FlowMap<'_, A>, ns: u64)
where
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    for (key, mut flow) in elements(&map) {
        flow.last_seen_ns = flow.last_seen_ns.wrapping_sub(ns);
        map.insert(key, flow, 0).unwrap_or_else(|error| panic!("age a flow: {error}"));
    }
}

pub(super) fn age_first<A: Copy>(mut map: HashMap<&mut MapData, FragmentKey<A>, Fragment>, ns: u64)
where
    FragmentKey<A>: Pod,
{
    let all: Vec<_> = map.iter().filter_map(Result::ok).collect();
    for (key, mut first) in all {
        first.seen_ns = first.seen_ns.wrapping_sub(ns);
        map.insert(key, first, 0).unwrap_or_else(|error| panic!("age a fragment: {error}"));
    }
}

pub(super) fn age_other<A: Copy>(mut map: HashMap<&mut MapData, OtherKey<A>, OtherFlow>, ns: u64)
where
    OtherKey<A>: Pod,
{
    let all: Vec<_> = map.iter().filter_map(Result::ok).collect();
    for (key, mut flow) in all {
        flow.last_seen_ns = flow.last_seen_ns.wrapping_sub(ns);
        map.insert(key, flow, 0).unwrap_or_else(|error| panic!("age a conversation: {error}"));
    }
}

pub(super) fn age_exits<A: Copy>(mut map: PerCpuArray<&mut MapData, KnownExit<A>>, ns: u64)
where
    KnownExit<A>: Pod,
{
    for index in 0..map.len() {
        let known = map.get(&index, 0).unwrap_or_else(|error| panic!("read an exit: {error}"));
        let mut known = known.to_vec();
        for known in &mut known {
            known.period = known.period.wrapping_sub((ns >> EXIT_SHIFT) as u32);
        }
        let aged = PerCpuValues::try_from(known).map_err(MapError::from);
        aged.and_then(|known| map.set(index, known, 0))
            .unwrap_or_else(|error| panic!("age an exit: {error}"));
    }
}

pub(super) fn age_affinity<A: Copy>(
    mut map: HashMap<&mut MapData, AffinityKey<A>, Affinity>,
    ns: u64,
) where
    AffinityKey<A>: Pod,
{
    let all: Vec<_> = map.iter().filter_map(Result::ok).collect();
    for (key, mut used) in all {
        used.last_used_ns = used.last_used_ns.wrapping_sub(ns);
        map.insert(key, used, 0).unwrap_or_else(|error| panic!("age a client: {error}"));
    }
}

pub(super) fn forget<A: Copy>(mut map: FlowMap<'_, A>, which: Forget)
where
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    for (key, flow) in elements(&map) {
        if which.includes(flow.flags & flow_flags::ALIAS != 0) {
            map.remove(&key).unwrap_or_else(|error| panic!("remove a flow: {error}"));
        }
    }
}

pub(super) fn fill<A: Copy + Default>(mut map: FlowMap<'_, A>)
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
