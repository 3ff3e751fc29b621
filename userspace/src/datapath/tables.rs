// SPDX-License-Identifier: Apache-2.0
//! The service maps in the kernel as [`Tables`].

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use pintle_abi::{
    addr::{V4, V6},
    device::Device,
    map::{self, MapSpec},
    plain::Plain,
    service::{Backend, Frontend, FrontendKey as AbiKey, backend_state, scope},
    settings::Settings,
    source_range::{Prefix, SourceRange},
};

use super::{
    batch,
    entry::{AbiAddr, socket_protocol},
    mapped::MappedArray,
    object::LoadError,
    persist::{persist, removed},
    range,
};
use crate::{
    model::{
        addr::{BackendAddr, FrontendAddr, FrontendKey, Scope},
        cidr::Cidr,
    },
    reconcile::tables::{
        BackendRecord, Family, FrontendRecord, Realized, Redirect, Tables, WriteError,
    },
};

/// The maps of one family.
struct FamilyMaps<A>
where
    AbiKey<A>: aya::Pod,
    Backend<A>: aya::Pod,
    SourceRange<A>: aya::Pod,
    Prefix<A>: aya::Pod,
{
    frontends: Taken<HashMap<MapData, AbiKey<A>, Frontend>>,
    slots: MappedArray,
    /// Programs that are loaded later know it by the number of its descriptor.
    _slots: Taken<Array<MapData, u32>>,
    backends: Taken<Array<MapData, Backend<A>>>,
    sources: Taken<LpmTrie<MapData, SourceRange<A>, u32>>,
    cluster: Taken<Array<MapData, Prefix<A>>>,
    names: Names,
}

#[derive(Clone, Copy)]
struct Names {
    frontends: MapSpec,
    slots: MapSpec,
    backends: MapSpec,
    sources: MapSpec,
    cluster: MapSpec,
}

const V4_NAMES: Names = Names {
    frontends: map::FRONTENDS_V4,
    slots: map::SLOTS_V4,
    backends: map::BACKENDS_V4,
    sources: map::SOURCE_RANGES_V4,
    cluster: map::CLUSTER_RANGES_V4,
};
const V6_NAMES: Names = Names {
    frontends: map::FRONTENDS_V6,
    slots: map::SLOTS_V6,
    backends: map::BACKENDS_V6,
    sources: map::SOURCE_RANGES_V6,
    cluster: map::CLUSTER_RANGES_V6,
};

/// A typed map, with what its wrapper hides.
pub(super) struct Taken<M> {
    pub(super) map: M,
    /// For reading in batches.
    pub(super) fd: OwnedFd,
    pub(super) capacity: u32,
}

/// The maps that the agent writes.
pub struct KernelTables {
    v4: FamilyMaps<V4>,
    v6: FamilyMaps<V6>,
    pub(super) devices: Taken<HashMap<MapData, u32, Device>>,
    pub(super) settings: Taken<Array<MapData, Settings>>,
}

impl KernelTables {
    /// Takes the maps out of a loaded object.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            v4: FamilyMaps::take(ebpf, V4_NAMES)?,
            v6: FamilyMaps::take(ebpf, V6_NAMES)?,
            devices: take(ebpf, &map::DEVICES)?,
            settings: take(ebpf, &map::SETTINGS)?,
        })
    }

    /// Reads what the maps hold.
    pub fn realized(&self) -> io::Result<Realized> {
        let mut realized = Realized::default();
        self.v4.read(Family::V4, &mut realized)?;
        self.v6.read(Family::V6, &mut realized)?;
        Ok(realized)
    }
}

impl Tables for KernelTables {
    fn slot_capacity(&self, family: Family) -> u32 {
        match family {
            Family::V4 => self.v4.slots.entries(),
            Family::V6 => self.v6.slots.entries(),
        }
    }

    fn backend_capacity(&self, family: Family) -> u32 {
        match family {
            Family::V4 => self.v4.backends.capacity,
            Family::V6 => self.v6.backends.capacity,
        }
    }

    fn frontend_capacity(&self, family: Family) -> u32 {
        match family {
            Family::V4 => self.v4.frontends.capacity,
            Family::V6 => self.v6.frontends.capacity,
        }
    }

    fn source_range_capacity(&self, family: Family) -> u32 {
        match family {
            Family::V4 => self.v4.sources.capacity,
            Family::V6 => self.v6.sources.capacity,
        }
    }

    fn put_backends(
        &mut self,
        family: Family,
        records: &[(u32, BackendRecord)],
    ) -> Result<(), WriteError> {
        match family {
            Family::V4 => self.v4.put_backends(records),
            Family::V6 => self.v6.put_backends(records),
        }
    }

    fn put_slots(&mut self, family: Family, base: u32, ids: &[u32]) -> Result<(), WriteError> {
        match family {
            Family::V4 => self.v4.put_slots(base, ids),
            Family::V6 => self.v6.put_slots(base, ids),
        }
    }

    fn put_frontend(
        &mut self,
        FrontendKey { addr, scope }: &FrontendKey,
        record: &FrontendRecord,
    ) -> Result<(), WriteError> {
        match addr.ip {
            IpAddr::V4(ip) => self.v4.put_frontend(key(V4::from(ip), addr, *scope), record),
            IpAddr::V6(ip) => self.v6.put_frontend(key(V6::from(ip), addr, *scope), record),
        }
    }

    fn remove_frontend(
        &mut self,
        FrontendKey { addr, scope }: &FrontendKey,
    ) -> Result<(), WriteError> {
        match addr.ip {
            IpAddr::V4(ip) => self.v4.remove_frontend(key(V4::from(ip), addr, *scope)),
            IpAddr::V6(ip) => self.v6.remove_frontend(key(V6::from(ip), addr, *scope)),
        }
    }

    fn put_wildcard(&mut self, ip: IpAddr, flags: u32) -> Result<(), WriteError> {
        let record = FrontendRecord { flags, ..FrontendRecord::default() };
        match ip {
            IpAddr::V4(ip) => self.v4.put_frontend(wildcard(V4::from(ip)), &record),
            IpAddr::V6(ip) => self.v6.put_frontend(wildcard(V6::from(ip)), &record),
        }
    }

    fn remove_wildcard(&mut self, ip: IpAddr) -> Result<(), WriteError> {
        match ip {
            IpAddr::V4(ip) => self.v4.remove_frontend(wildcard(V4::from(ip))),
            IpAddr::V6(ip) => self.v6.remove_frontend(wildcard(V6::from(ip))),
        }
    }

    fn put_source_range(
        &mut self,
        family: Family,
        service: u32,
        range: Cidr,
    ) -> Result<(), WriteError> {
        match family {
            Family::V4 => self.v4.put_source_range(service, range),
            Family::V6 => self.v6.put_source_range(service, range),
        }
    }

    fn remove_source_range(
        &mut self,
        family: Family,
        service: u32,
        range: Cidr,
    ) -> Result<(), WriteError> {
        match family {
            Family::V4 => self.v4.remove_source_range(service, range),
            Family::V6 => self.v6.remove_source_range(service, range),
        }
    }

    fn put_cluster_range(
        &mut self,
        family: Family,
        index: u32,
        range: Option<Cidr>,
    ) -> Result<(), WriteError> {
        match family {
            Family::V4 => self.v4.put_cluster_range(index, range),
            Family::V6 => self.v6.put_cluster_range(index, range),
        }
    }
}

impl<A: AbiAddr> FamilyMaps<A>
where
    AbiKey<A>: Plain + Default,
    Backend<A>: Plain + Default,
    SourceRange<A>: Plain,
    Prefix<A>: Plain + Default,
{
    fn take(ebpf: &mut Ebpf, names: Names) -> Result<Self, LoadError> {
        let slots = take(ebpf, &names.slots)?;
        Ok(Self {
            frontends: take(ebpf, &names.frontends)?,
            slots: mapped(&slots, &names.slots)?,
            _slots: slots,
            backends: take(ebpf, &names.backends)?,
            sources: take(ebpf, &names.sources)?,
            cluster: take(ebpf, &names.cluster)?,
            names,
        })
    }

    fn put_backends(&self, records: &[(u32, BackendRecord)]) -> Result<(), WriteError> {
        let (ids, values): (Vec<u32>, Vec<_>) =
            records.iter().map(|(id, record)| (*id, backend(record))).unzip();
        let fd = self.backends.fd.as_fd();
        persist(&self.names.backends, || Ok(batch::update::<u32, Backend<A>>(fd, &ids, &values)?))
    }

    fn put_slots(&self, base: u32, ids: &[u32]) -> Result<(), WriteError> {
        persist(&self.names.slots, || Ok(self.slots.write(base, ids)?))
    }

    fn put_frontend(&mut self, key: AbiKey<A>, record: &FrontendRecord) -> Result<(), WriteError> {
        let value = Frontend {
            service: record.service,
            base: record.base,
            count: record.count,
            flags: record.flags,
            affinity_seconds: record.affinity_seconds,
        };
        persist(&self.names.frontends, || self.frontends.map.insert(key, value, 0))
    }

    fn remove_frontend(&mut self, key: AbiKey<A>) -> Result<(), WriteError> {
        removed(&self.names.frontends, self.frontends.map.remove(&key))
    }

    fn put_source_range(&mut self, service: u32, range: Cidr) -> Result<(), WriteError> {
        let Some(key) = range::source_key::<A>(service, range) else { return Ok(()) };
        persist(&self.names.sources, || self.sources.map.insert(&key, 1, 0))
    }

    fn remove_source_range(&mut self, service: u32, range: Cidr) -> Result<(), WriteError> {
        let Some(key) = range::source_key::<A>(service, range) else { return Ok(()) };
        removed(&self.names.sources, self.sources.map.remove(&key))
    }

    fn put_cluster_range(&mut self, index: u32, range: Option<Cidr>) -> Result<(), WriteError> {
        let prefix = range.and_then(range::prefix::<A>).unwrap_or_default();
        persist(&self.names.cluster, || self.cluster.map.set(index, prefix, 0))
    }

    fn read(&self, family: Family, realized: &mut Realized) -> io::Result<()> {
        let mut found = Vec::new();
        let frontends = self.frontends.fd.as_fd();
        batch::for_each(frontends, |key: &AbiKey<A>, value: &Frontend| {
            let ip = key.addr.ip();
            let Some(protocol) = socket_protocol(key.proto) else {
                realized.wildcards.push((ip, value.flags));
                return;
            };
            let Some(scope) = Scope::of(key.scope) else { return };
            let addr = FrontendAddr { ip, port: u16::from_be(key.port), protocol };
            let record = FrontendRecord {
                service: value.service,
                base: value.base,
                count: value.count,
                flags: value.flags,
                affinity_seconds: value.affinity_seconds,
            };
            let range = value.base as usize..value.base.saturating_add(value.count) as usize;
            found.push((FrontendKey { addr, scope }, record, range));
        })?;
        let slots = |range| self.slots.read(range);
        let found = found.into_iter().map(|(key, record, range)| (key, record, slots(range)));
        realized.frontends.extend(found);
        self.read_ranges(realized)?;
        let backends = self.backends.fd.as_fd();
        batch::for_each(backends, |id: &u32, value: &Backend<A>| {
            if value.generation != 0 {
                realized.backends.push((family, *id, record(value)));
            }
        })
    }

    fn read_ranges(&self, realized: &mut Realized) -> io::Result<()> {
        for key in self.sources.map.keys() {
            let key: Key<SourceRange<A>> = key.map_err(io::Error::other)?;
            realized.source_ranges.extend(range::of_source_key(&key));
        }
        let cluster = self.cluster.fd.as_fd();
        batch::for_each(cluster, |index: &u32, prefix: &Prefix<A>| {
            realized.cluster_ranges.extend(range::of_prefix(prefix).map(|range| (*index, range)));
        })
    }
}

fn backend<A: AbiAddr>(record: &BackendRecord) -> Backend<A> {
    let redirect = record.redirect.unwrap_or(Redirect { ifindex: 0, mtu: 0 });
    Backend {
        addr: record.addr.and_then(|addr| A::of(addr.ip)).unwrap_or_default(),
        ifindex: redirect.ifindex,
        generation: record.generation,
        mtu: redirect.mtu,
        port: record.addr.map_or(0, |addr| addr.port).to_be(),
        state: match (record.addr, record.local) {
            (Some(_), true) => backend_state::LOCAL,
            (Some(_), false) => backend_state::LIVE,
            (None, _) => backend_state::FREE,
        },
    }
}

fn record<A: AbiAddr>(value: &Backend<A>) -> BackendRecord {
    let addr = BackendAddr { ip: value.addr.ip(), port: u16::from_be(value.port) };
    let redirect = Redirect { ifindex: value.ifindex, mtu: value.mtu };
    BackendRecord {
        addr: (value.state != backend_state::FREE).then_some(addr),
        generation: value.generation,
        local: value.state == backend_state::LOCAL,
        redirect: (value.ifindex != 0).then_some(redirect),
    }
}

fn key<A>(ip: A, addr: &FrontendAddr, scope: Scope) -> AbiKey<A> {
    let (port, proto) = (addr.port.to_be(), addr.protocol.number());
    AbiKey { addr: ip, port, proto, scope: scope.number() }
}

fn wildcard<A>(addr: A) -> AbiKey<A> {
    AbiKey { addr, port: 0, proto: 0, scope: scope::INTERNAL }
}

/// Takes a map out of a loaded object.
pub(super) fn take<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    spec: &MapSpec,
) -> Result<Taken<M>, LoadError> {
    let map = ebpf.take_map(spec.name).ok_or(LoadError::Incomplete(spec.name))?;
    let failed = |source| LoadError::Pin { path: spec.name.to_owned(), source };
    let (Map::HashMap(data) | Map::Array(data) | Map::LpmTrie(data)) = &map else {
        return Err(LoadError::Incomplete(spec.name));
    };
    let capacity = data.info().map_err(failed)?.max_entries();
    let fd = data.fd().as_fd().try_clone_to_owned().map_err(|error| failed(error.into()))?;
    Ok(Taken { map: M::try_from(map).map_err(failed)?, fd, capacity })
}

fn mapped(taken: &Taken<Array<MapData, u32>>, spec: &MapSpec) -> Result<MappedArray, LoadError> {
    MappedArray::new(taken.fd.as_fd(), taken.capacity)
        .map_err(|source| LoadError::Memory { map: spec.name, source })
}
