// SPDX-License-Identifier: Apache-2.0
//! Emptying maps, and counting what is in them.

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use pintle_abi::{
    service::{Frontend, FrontendKey},
    source_range::SourceRange,
};

pub(super) fn frontends<A>(map: &Map) -> usize
where
    FrontendKey<A>: Pod,
{
    let map = HashMap::<_, FrontendKey<A>, Frontend>::try_from(map)
        .unwrap_or_else(|error| panic!("frontends: {error}"));
    map.keys().count()
}

pub(super) fn source_ranges<A>(map: &Map) -> usize
where
    SourceRange<A>: Pod,
{
    let map = LpmTrie::<_, SourceRange<A>, u32>::try_from(map)
        .unwrap_or_else(|error| panic!("source ranges: {error}"));
    map.keys().count()
}

pub(super) fn clear<K: Pod, V: Pod>(mut map: HashMap<&mut MapData, K, V>) {
    let keys: Vec<K> = map.keys().filter_map(Result::ok).collect();
    for key in keys {
        map.remove(&key).unwrap_or_else(|error| panic!("empty a map: {error}"));
    }
}

pub(super) fn clear_trie<K: Pod>(mut map: LpmTrie<&mut MapData, K, u32>) {
    let keys: Vec<_> = map.keys().filter_map(Result::ok).collect();
    for key in keys {
        map.remove(&key).unwrap_or_else(|error| panic!("empty a map: {error}"));
    }
}

pub(super) fn zero<V: Pod + Default>(mut map: Array<&mut MapData, V>) {
    for index in 0..map.len() {
        map.set(index, V::default(), 0).unwrap_or_else(|error| panic!("clear an array: {error}"));
    }
}

pub(super) fn fill_per_cpu<V: Pod>(mut map: PerCpuArray<&mut MapData, V>, value: V) {
    let cpus = nr_cpus().unwrap_or_else(|(_, error)| panic!("count the CPUs: {error}"));
    for index in 0..map.len() {
        let values = PerCpuValues::try_from(vec![value; cpus])
            .unwrap_or_else(|error| panic!("fill an array: {error}"));
        map.set(index, values, 0).unwrap_or_else(|error| panic!("fill an array: {error}"));
    }
}
