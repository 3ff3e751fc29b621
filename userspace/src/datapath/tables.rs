// SPDX-License-Identifier: Apache-2.0
//! The service maps in the kernel as [`Tables`].

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError},
};
use pintle_abi::{
    addr::{V4, V6},
    device::Device,
    map::{self, MapSpec},
    plain::Plain,
    service::{Backend, Frontend, FrontendKey, backend_state, frontend_flags},
    settings::Settings,
};

use super::{
    batch,
    devices::DeviceRecord,
    entry::{AbiAddr, socket_protocol},
    object::LoadError,
};
use crate::{
    model::addr::{BackendAddr, FrontendAddr},
    reconcile::tables::{
        BackendRecord, Family, FrontendRecord, Realized, Redirect, Tables, WriteError,
    },
};

/// How often a write is tried that the kernel refuses for want of memory just now, or because
/// another CPU holds a lock.
const ATTEMPTS: u32 = 8;

/// The maps of one family.
struct FamilyMaps<A>
where
    FrontendKey<A>: aya::Pod,
    Backend<A>: aya::Pod,
{
    frontends: Taken<HashMap<MapData, FrontendKey<A>, Frontend>>,
    slots: Taken<Array<MapData, u32>>,
    backends: Taken<Array<MapData, Backend<A>>>,
    names: Names,
}

#[derive(Clone, Copy)]
struct Names {
    frontends: MapSpec,
    slots: MapSpec,
    backends: MapSpec,
}

const V4_NAMES: Names =
    Names { frontends: map::FRONTENDS_V4, slots: map::SLOTS_V4, backends: map::BACKENDS_V4 };
const V6_NAMES: Names =
    Names { frontends: map::FRONTENDS_V6, slots: map::SLOTS_V6, backends: map::BACKENDS_V6 };

/// A typed map, with what its wrapper hides.
struct Taken<M> {
    map: M,
    /// For reading in batches.
    fd: OwnedFd,
    capacity: u32,
}

/// The maps that the agent writes.
pub struct KernelTables {
    v4: FamilyMaps<V4>,
    v6: FamilyMaps<V6>,
    devices: Taken<HashMap<MapData, u32, Device>>,
    settings: Taken<Array<MapData, Settings>>,
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

    /// The settings of the node, zero where nobody has written them.
    pub fn settings(&self) -> Result<Settings, WriteError> {
        self.settings.map.get(&0, 0).map_err(|error| refused(&map::SETTINGS, error))
    }

    /// Writes the settings of the node.
    pub fn put_settings(&mut self, settings: Settings) -> Result<(), WriteError> {
        self.settings.map.set(0, settings, 0).map_err(|error| refused(&map::SETTINGS, error))
    }

    /// Says whether packets may be redirected at all; effective on the next packet.
    pub fn put_fast_path(&mut self, on: bool) -> Result<(), WriteError> {
        let settings = Settings { fast_path: u32::from(on), ..self.settings()? };
        self.put_settings(settings)
    }

    /// Says which addresses stand for masqueraded clients where the way out has none of its own.
    pub fn put_node_addresses(
        &mut self,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> Result<(), WriteError> {
        let node_v4 = v4.map(V4::from).unwrap_or_default();
        let node_v6 = v6.map(V6::from).unwrap_or_default();
        let settings = self.settings()?;
        if (settings.node_v4, settings.node_v6) == (node_v4, node_v6) {
            return Ok(());
        }
        self.put_settings(Settings { node_v4, node_v6, ..settings })
    }

    /// Says whether connections of kube-proxy's are being taken over; effective on the next packet.
    pub fn put_take_over(&mut self, on: bool) -> Result<(), WriteError> {
        let settings = Settings { take_over: u32::from(on), ..self.settings()? };
        self.put_settings(settings)
    }

    /// Tells the programs of an interface.
    pub fn put_device(&mut self, ifindex: u32, record: &DeviceRecord) -> Result<(), WriteError> {
        let device = Device::from(record);
        persist(&map::DEVICES, || self.devices.map.insert(ifindex, device, 0))
    }

    /// Forgets an interface.
    pub fn remove_device(&mut self, ifindex: u32) -> Result<(), WriteError> {
        match self.devices.map.remove(&ifindex) {
            Err(MapError::KeyNotFound) | Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(refused(&map::DEVICES, error)),
        }
    }

    /// Interfaces that the programs know.
    pub fn device_indices(&self) -> Vec<u32> {
        self.devices.map.keys().filter_map(Result::ok).collect()
    }
}

impl Tables for KernelTables {
    fn slot_capacity(&self, family: Family) -> u32 {
        match family {
            Family::V4 => self.v4.slots.capacity,
            Family::V6 => self.v6.slots.capacity,
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
        addr: &FrontendAddr,
        record: &FrontendRecord,
    ) -> Result<(), WriteError> {
        let (port, proto) = (addr.port, addr.protocol.number());
        match addr.ip {
            IpAddr::V4(ip) => self.v4.put_frontend(key(V4::from(ip), port, proto), record),
            IpAddr::V6(ip) => self.v6.put_frontend(key(V6::from(ip), port, proto), record),
        }
    }

    fn remove_frontend(&mut self, addr: &FrontendAddr) -> Result<(), WriteError> {
        let (port, proto) = (addr.port, addr.protocol.number());
        match addr.ip {
            IpAddr::V4(ip) => self.v4.remove_frontend(key(V4::from(ip), port, proto)),
            IpAddr::V6(ip) => self.v6.remove_frontend(key(V6::from(ip), port, proto)),
        }
    }

    fn put_wildcard(&mut self, ip: IpAddr) -> Result<(), WriteError> {
        // `silent` is the bit of `wildcard_flags::CLUSTER`.
        let record = FrontendRecord { silent: true, ..FrontendRecord::default() };
        match ip {
            IpAddr::V4(ip) => self.v4.put_frontend(key(V4::from(ip), 0, 0), &record),
            IpAddr::V6(ip) => self.v6.put_frontend(key(V6::from(ip), 0, 0), &record),
        }
    }

    fn remove_wildcard(&mut self, ip: IpAddr) -> Result<(), WriteError> {
        match ip {
            IpAddr::V4(ip) => self.v4.remove_frontend(key(V4::from(ip), 0, 0)),
            IpAddr::V6(ip) => self.v6.remove_frontend(key(V6::from(ip), 0, 0)),
        }
    }
}

impl<A: AbiAddr> FamilyMaps<A>
where
    FrontendKey<A>: Plain + Default,
    Backend<A>: Plain + Default,
{
    fn take(ebpf: &mut Ebpf, names: Names) -> Result<Self, LoadError> {
        Ok(Self {
            frontends: take(ebpf, &names.frontends)?,
            slots: take(ebpf, &names.slots)?,
            backends: take(ebpf, &names.backends)?,
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
        let slots: Vec<u32> = (base..).take(ids.len()).collect();
        let fd = self.slots.fd.as_fd();
        persist(&self.names.slots, || Ok(batch::update(fd, &slots, ids)?))
    }

    fn put_frontend(
        &mut self,
        key: FrontendKey<A>,
        record: &FrontendRecord,
    ) -> Result<(), WriteError> {
        let value = Frontend {
            service: record.service,
            base: record.base,
            count: record.count,
            flags: if record.silent { frontend_flags::DROP } else { 0 },
            affinity_seconds: record.affinity_seconds,
        };
        persist(&self.names.frontends, || self.frontends.map.insert(key, value, 0))
    }

    fn remove_frontend(&mut self, key: FrontendKey<A>) -> Result<(), WriteError> {
        match self.frontends.map.remove(&key) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(refused(&self.names.frontends, error)),
        }
    }

    fn read(&self, family: Family, realized: &mut Realized) -> io::Result<()> {
        let mut slots = Vec::new();
        batch::for_each(self.slots.fd.as_fd(), |_: &u32, id: &u32| slots.push(*id))?;
        let frontends = self.frontends.fd.as_fd();
        batch::for_each(frontends, |key: &FrontendKey<A>, value: &Frontend| {
            let ip = key.addr.ip();
            let Some(protocol) = socket_protocol(key.proto) else {
                realized.wildcards.push(ip);
                return;
            };
            let addr = FrontendAddr { ip, port: u16::from_be(key.port), protocol };
            let record = FrontendRecord {
                service: value.service,
                base: value.base,
                count: value.count,
                silent: value.flags & frontend_flags::DROP != 0,
                affinity_seconds: value.affinity_seconds,
            };
            let range = value.base as usize..value.base.saturating_add(value.count) as usize;
            let ids = slots.get(range).unwrap_or_default().to_vec();
            realized.frontends.push((addr, record, ids));
        })?;
        let backends = self.backends.fd.as_fd();
        batch::for_each(backends, |id: &u32, value: &Backend<A>| {
            if value.generation != 0 {
                realized.backends.push((family, *id, record(value)));
            }
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
        state: match record.addr {
            Some(_) => backend_state::LIVE,
            None => backend_state::FREE,
        },
    }
}

fn record<A: AbiAddr>(value: &Backend<A>) -> BackendRecord {
    let addr = BackendAddr { ip: value.addr.ip(), port: u16::from_be(value.port) };
    let redirect = Redirect { ifindex: value.ifindex, mtu: value.mtu };
    BackendRecord {
        addr: (value.state != backend_state::FREE).then_some(addr),
        generation: value.generation,
        redirect: (value.ifindex != 0).then_some(redirect),
    }
}

fn key<A>(addr: A, port: u16, proto: u8) -> FrontendKey<A> {
    FrontendKey { addr, port: port.to_be(), proto, scope: 0 }
}

fn take<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    spec: &MapSpec,
) -> Result<Taken<M>, LoadError> {
    let map = ebpf.take_map(spec.name).ok_or(LoadError::Incomplete(spec.name))?;
    let failed = |source| LoadError::Pin { path: spec.name.to_owned(), source };
    let (Map::HashMap(data) | Map::Array(data)) = &map else {
        return Err(LoadError::Incomplete(spec.name));
    };
    let capacity = data.info().map_err(failed)?.max_entries();
    let fd = data.fd().as_fd().try_clone_to_owned().map_err(|error| failed(error.into()))?;
    Ok(Taken { map: M::try_from(map).map_err(failed)?, fd, capacity })
}

/// Writes, and again if the kernel says that it cannot just now.
fn persist(
    spec: &MapSpec,
    mut write: impl FnMut() -> Result<(), MapError>,
) -> Result<(), WriteError> {
    let mut attempt = 1;
    loop {
        match write() {
            Ok(()) => return Ok(()),
            Err(error) if attempt < ATTEMPTS && is_transient(&error) => attempt += 1,
            Err(error) => return Err(refused(spec, error)),
        }
    }
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => error.raw_os_error(),
        _ => None,
    }
}

fn is_transient(error: &MapError) -> bool {
    matches!(errno(error), Some(libc::EBUSY | libc::ENOMEM | libc::EAGAIN | libc::EINTR))
}

fn is_missing(error: &MapError) -> bool {
    errno(error) == Some(libc::ENOENT)
}

fn refused(spec: &MapSpec, error: MapError) -> WriteError {
    WriteError { map: spec.name, source: Box::new(error) }
}
