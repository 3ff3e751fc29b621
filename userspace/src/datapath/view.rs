// SPDX-License-Identifier: Apache-2.0
//! Read-only access to the pinned maps, for the command line and for the agent's start.
//!
//! Every map is checked against the ABI before the first read: a pin tells nothing of what it holds,
//! and the kernel would copy as many bytes as the *real* value has.

use std::{
    collections::HashMap,
    error::Error,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::PathBuf,
};

use aya::maps::{LpmTrie, Map, MapData, MapError, PerCpuArray};
use pintle_abi::{
    ABI_VERSION,
    addr::{Tuple, V4, V6},
    counter::{Hook, counter_in, drop_in},
    device::Device,
    flow::Flow,
    map::{self, MapSpec},
    plain::Plain,
    service::{Backend, Frontend, FrontendKey},
    settings::Settings,
};
use thiserror::Error as ThisError;

use super::{
    batch, clsact,
    entry::{
        self, AbiAddr, BackendEntry, Counted, CounterEntry, DeviceEntry, FlowEntry, FrontendEntry,
        MapFill, Place,
    },
    pins::Pins,
    policy_view::PolicyMaps,
    shape::shape,
};
use crate::{model::addr::Protocol, node::IfIndex};

/// Why the maps cannot be opened.
#[derive(Debug, ThisError)]
pub enum OpenError {
    /// The caller may not.
    #[error("open {}: permission denied", path.display())]
    Denied {
        /// The pin or directory.
        path: PathBuf,
    },
    /// There is no pin directory.
    #[error("nothing is loaded on this node")]
    NothingLoaded,
    /// Only other ABI versions are loaded.
    #[error("the loaded programs speak abi {}, this binary speaks abi {ABI_VERSION}", list(found))]
    OtherVersion {
        /// The versions, ascending.
        found: Vec<u32>,
    },
    /// A map differs from its definition, although the version is ours.
    #[error("the map {name} is not as this binary defines it: {what}")]
    Incompatible {
        /// The map.
        name: &'static str,
        /// The difference.
        what: String,
    },
    /// A map cannot be opened.
    #[error("open the map {name}")]
    Map {
        /// The map.
        name: &'static str,
        /// The kernel's answer.
        #[source]
        source: Box<MapError>,
    },
    /// The pin directory cannot be read.
    #[error("read {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A map cannot be read.
#[derive(Debug, ThisError)]
#[error("read the map {name}")]
pub struct ReadError {
    /// The map.
    pub name: &'static str,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

/// What can be read of a node's data path; implemented by [`View`], and by hand-made maps in tests.
pub trait Maps: PolicyMaps {
    /// Frontends with their backends, sorted by address.
    fn frontends(&self) -> Result<Vec<FrontendEntry>, ReadError>;
    /// Backends in use, sorted by address.
    fn backends(&self) -> Result<Vec<BackendEntry>, ReadError>;
    /// Tracked connections, in the order of the maps.
    fn flows(&self) -> Result<Vec<FlowEntry>, ReadError>;
    /// Pod interfaces, sorted by number.
    fn devices(&self) -> Result<Vec<DeviceEntry>, ReadError>;
    /// Every counter of every hook.
    fn counters(&self) -> Result<Vec<CounterEntry>, ReadError>;
    /// Fill level of the maps with wanted names, in the order of their definition. What is not wanted
    /// is not counted: a large array costs as much as everything else that a command reads.
    fn fill(&self, is_wanted: fn(&str) -> bool) -> Result<Vec<MapFill>, ReadError>;
    /// Attached programs, sorted by interface.
    fn links(&self) -> Result<Vec<(IfIndex, Hook)>, ReadError>;
}

/// The pinned maps of this binary's ABI version, opened and checked.
#[derive(Debug)]
pub struct View {
    pins: Pins,
    maps: Vec<Opened>,
}

#[derive(Debug)]
struct Opened {
    spec: MapSpec,
    data: MapData,
    capacity: u64,
    count: fn(&View, &MapSpec) -> Result<Option<u64>, ReadError>,
}

impl View {
    /// Opens every map below the pin directory.
    pub fn open(pins: Pins) -> Result<Self, OpenError> {
        let dir = pins.maps();
        if let Err(source) = fs::read_dir(&dir) {
            return Err(match source.kind() {
                io::ErrorKind::PermissionDenied => OpenError::Denied { path: dir },
                io::ErrorKind::NotFound => not_loaded(&pins),
                _ => OpenError::Directory { path: dir, source },
            });
        }
        let maps: Result<_, _> = map::ALL.iter().map(|spec| open(&pins, *spec)).collect();
        Ok(Self { maps: maps?, pins })
    }

    /// The node's settings.
    pub fn settings(&self) -> Result<Settings, ReadError> {
        let mut found = Settings::default();
        self.for_each(&map::SETTINGS, |_: &u32, settings: &Settings| found = *settings)?;
        Ok(found)
    }

    pub(super) fn for_each<K: Plain + Default, V: Plain + Default>(
        &self,
        spec: &MapSpec,
        visit: impl FnMut(&K, &V),
    ) -> Result<(), ReadError> {
        let name = spec.name;
        batch::for_each(self.fd(spec)?, visit).map_err(|source| ReadError { name, source })
    }

    fn opened(&self, spec: &MapSpec) -> Result<&Opened, ReadError> {
        let found = self.maps.iter().find(|map| map.spec.name == spec.name);
        found.ok_or_else(|| ReadError { name: spec.name, source: io::ErrorKind::NotFound.into() })
    }

    pub(super) fn fd(&self, spec: &MapSpec) -> Result<BorrowedFd<'_>, ReadError> {
        Ok(self.opened(spec)?.data.fd().as_fd())
    }

    fn frontends_of<A: AbiAddr>(
        &self,
        [frontends, slots]: [&MapSpec; 2],
        into: &mut Vec<FrontendEntry>,
    ) -> Result<(), ReadError>
    where
        FrontendKey<A>: Plain + Default,
    {
        let mut found = Vec::new();
        self.for_each(frontends, |key: &FrontendKey<A>, value: &Frontend| {
            found.extend(entry::frontend(key, value));
        })?;
        // Read after the frontends: the slots of a frontend are written before it is.
        let mut ids = Vec::new();
        let end = found.iter().map(|(_, range)| range.end).max().unwrap_or(0);
        let name = slots.name;
        batch::for_each_below(self.fd(slots)?, end, |_: &u32, id: &u32| ids.push(*id))
            .map_err(|source| ReadError { name, source })?;
        into.extend(found.into_iter().map(|(mut frontend, range)| {
            frontend.backends = ids.get(range).unwrap_or_default().to_vec();
            frontend.backends.sort_unstable();
            frontend.backends.dedup();
            frontend
        }));
        Ok(())
    }

    fn backends_of<A: AbiAddr>(&self, spec: &MapSpec) -> Result<Vec<BackendEntry>, ReadError>
    where
        Backend<A>: Plain + Default,
    {
        let mut found = Vec::new();
        self.for_each(spec, |id: &u32, value: &Backend<A>| {
            found.extend(entry::backend(*id, value))
        })?;
        Ok(found)
    }

    /// The flow map of a protocol, and its overflow map if it has one.
    fn flows_of<A: AbiAddr, const N: usize>(
        &self,
        protocol: Protocol,
        maps: [&MapSpec; N],
        into: &mut Vec<FlowEntry>,
    ) -> Result<(), ReadError>
    where
        Tuple<A>: Plain + Default,
        Flow<A>: Plain + Default,
    {
        let first = into.len();
        let mut pending = HashMap::new();
        for (spec, is_overflow) in maps.into_iter().zip([false, true]) {
            self.for_each(spec, |key: &Tuple<A>, value: &Flow<A>| {
                into.extend(entry::flow(protocol, is_overflow, key, value));
                pending.extend(entry::pending(key, value));
            })?;
        }
        for flow in &mut into[first..] {
            if let Some((packets, bytes)) = pending.get(&[flow.client, flow.frontend, flow.backend])
            {
                flow.packets += packets;
                flow.bytes += bytes;
            }
        }
        Ok(())
    }

    /// Number of entries of a hash map.
    pub(super) fn entries<K: Plain + Default, V: Plain + Default>(
        &self,
        spec: &MapSpec,
    ) -> Result<Option<u64>, ReadError> {
        let mut entries = 0;
        self.for_each(spec, |_: &K, _: &V| entries += 1)?;
        Ok(Some(entries))
    }

    /// Number of entries of a trie, which the kernel does not read in batches everywhere.
    pub(super) fn prefixes<K: aya::Pod>(&self, spec: &MapSpec) -> Result<Option<u64>, ReadError> {
        let name = spec.name;
        let failed = |source: MapError| ReadError { name, source: io::Error::other(source) };
        let data = MapData::from_pin(self.pins.map(spec)).map_err(failed)?;
        let trie: LpmTrie<_, K, u32> = Map::LpmTrie(data).try_into().map_err(failed)?;
        let count = trie.keys().try_fold(0, |count, key| key.map(|_| count + 1));
        count.map(Some).map_err(failed)
    }

    /// Number of backends: their map is an array, where ids that are free have an entry, too.
    pub(super) fn used_ids<A: AbiAddr>(&self, spec: &MapSpec) -> Result<Option<u64>, ReadError>
    where
        Backend<A>: Plain + Default,
    {
        Ok(Some(self.backends_of::<A>(spec)?.len() as u64))
    }
}

impl Maps for View {
    fn frontends(&self) -> Result<Vec<FrontendEntry>, ReadError> {
        let mut found = Vec::new();
        self.frontends_of::<V4>([&map::FRONTENDS_V4, &map::SLOTS_V4], &mut found)?;
        self.frontends_of::<V6>([&map::FRONTENDS_V6, &map::SLOTS_V6], &mut found)?;
        found.sort_by_key(|frontend| frontend.key);
        Ok(found)
    }

    fn backends(&self) -> Result<Vec<BackendEntry>, ReadError> {
        let mut found = self.backends_of::<V4>(&map::BACKENDS_V4)?;
        found.extend(self.backends_of::<V6>(&map::BACKENDS_V6)?);
        found.sort_by_key(|backend| (backend.addr, backend.id));
        Ok(found)
    }

    fn flows(&self) -> Result<Vec<FlowEntry>, ReadError> {
        let mut found = Vec::new();
        let (tcp, udp, sctp) = (Protocol::Tcp, Protocol::Udp, Protocol::Sctp);
        self.flows_of::<V4, _>(tcp, [&map::TCP_FLOWS_V4, &map::TCP_OVERFLOW_V4], &mut found)?;
        self.flows_of::<V6, _>(tcp, [&map::TCP_FLOWS_V6, &map::TCP_OVERFLOW_V6], &mut found)?;
        self.flows_of::<V4, _>(udp, [&map::UDP_FLOWS_V4, &map::UDP_OVERFLOW_V4], &mut found)?;
        self.flows_of::<V6, _>(udp, [&map::UDP_FLOWS_V6, &map::UDP_OVERFLOW_V6], &mut found)?;
        self.flows_of::<V4, _>(sctp, [&map::SCTP_FLOWS_V4], &mut found)?;
        self.flows_of::<V6, _>(sctp, [&map::SCTP_FLOWS_V6], &mut found)?;
        Ok(found)
    }

    fn devices(&self) -> Result<Vec<DeviceEntry>, ReadError> {
        let mut found = Vec::new();
        self.for_each(&map::DEVICES, |index: &u32, value: &Device| {
            found.push(entry::device(*index, value));
        })?;
        found.sort_by_key(|device| device.index);
        Ok(found)
    }

    fn counters(&self) -> Result<Vec<CounterEntry>, ReadError> {
        let name = map::COUNTERS.name;
        let failed = |source: MapError| ReadError { name, source: io::Error::other(source) };
        let data = MapData::from_pin(self.pins.map(&map::COUNTERS)).map_err(failed)?;
        let array: PerCpuArray<_, u64> = Map::PerCpuArray(data).try_into().map_err(failed)?;
        let mut found = Vec::new();
        for place in Place::all() {
            for counted in Counted::all() {
                let index = match counted {
                    Counted::Event(counter) => counter_in(place.row(), counter),
                    Counted::Drop(reason) => drop_in(place.row(), reason),
                };
                let values = array.get(&index, 0).map_err(failed)?;
                let value = values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value));
                found.push(CounterEntry { place, counted, value });
            }
        }
        Ok(found)
    }

    fn fill(&self, is_wanted: fn(&str) -> bool) -> Result<Vec<MapFill>, ReadError> {
        let fill = |map: &Opened| {
            Ok(MapFill {
                name: map.spec.name,
                entries: (map.count)(self, &map.spec)?,
                capacity: map.capacity,
                bytes: memory(&map.data),
            })
        };
        // Socket storage is as large as there are sockets.
        let counted = |map: &&Opened| map.capacity > 0 && is_wanted(map.spec.name);
        self.maps.iter().filter(counted).map(fill).collect()
    }

    fn links(&self) -> Result<Vec<(IfIndex, Hook)>, ReadError> {
        let name = "links";
        let mut found = self.pins.list_links().map_err(|source| ReadError { name, source })?;
        for device in self.devices()? {
            for hook in Hook::ALL {
                let filters = clsact::filters(device.index, *hook)
                    .map_err(|source| ReadError { name: "clsact filters", source })?;
                if filters.iter().any(|filter| filter.is_ours(*hook)) {
                    found.push((device.index, *hook));
                }
            }
        }
        found.sort_by_key(|(index, hook)| (*index, *hook as u32));
        Ok(found)
    }
}

fn open(pins: &Pins, spec: MapSpec) -> Result<Opened, OpenError> {
    let name = spec.name;
    let path = pins.map(&spec);
    let failed = |error: MapError| match is_denied(&error) {
        true => OpenError::Denied { path: path.clone() },
        false => OpenError::Map { name, source: Box::new(error) },
    };
    let data = MapData::from_pin(&path).map_err(failed)?;
    let info = data.info().map_err(failed)?;
    let found = (info.map_type().map_err(failed)?, info.key_size(), info.value_size());
    let words = |(kind, key, value)| format!("{kind:?} of {key} to {value} bytes");
    let incompatible = |expected: String| {
        let what = format!("{}, not {expected}", words(found));
        OpenError::Incompatible { name, what }
    };
    let shape = shape(name).ok_or_else(|| incompatible(String::new()))?;
    let expected = (shape.kind, shape.key_size, shape.value_size);
    if expected != found {
        return Err(incompatible(words(expected)));
    }
    let capacity = u64::from(info.max_entries());
    Ok(Opened { spec, data, capacity, count: shape.count })
}

fn not_loaded(pins: &Pins) -> OpenError {
    match pins.versions() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            OpenError::Denied { path: pins.root().to_owned() }
        }
        Ok(mut found) => {
            found.retain(|version| *version != ABI_VERSION);
            match found.is_empty() {
                true => OpenError::NothingLoaded,
                false => OpenError::OtherVersion { found },
            }
        }
        Err(_) => OpenError::NothingLoaded,
    }
}

fn is_denied(error: &MapError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Kernel memory of a map as `/proc` tells it (exact since Linux 6.4, estimated before).
fn memory(data: &MapData) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd());
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
}

fn list(versions: &[u32]) -> String {
    versions.iter().map(u32::to_string).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_root_and_another_version_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || View::open(Pins::new(dir.path())).unwrap_err().to_string();
        assert_eq!(open(), "nothing is loaded on this node");
        fs::create_dir_all(dir.path().join("v9999/maps")).unwrap();
        let expected =
            format!("the loaded programs speak abi 9999, this binary speaks abi {ABI_VERSION}");
        assert_eq!(open(), expected);
    }
}
