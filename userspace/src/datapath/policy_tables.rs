// SPDX-License-Identifier: Apache-2.0
//! The policy maps in the kernel as [`PolicyTables`].

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd as _,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use pintle_abi::{
    addr::{V4, V6},
    map::{self, MapSpec},
    plain::Plain,
    policy::{self as abi, PolicyPort},
    settings::Settings,
};

use super::{
    batch,
    entry::{AbiAddr, socket_protocol},
    object::LoadError,
    persist::{persist, persist_list, removed},
    range,
    tables::{KernelTables, Taken, take},
};
use crate::{
    model::{cidr::Cidr, ip::Family},
    node::IfIndex,
    policy::{ClassId, PortKey, PortPrefix, Row, RowKey, RulesetId},
    reconcile::{
        policies::tables::{EndpointRecord, PolicyMap, PolicyTables, Realized, Stopped, Written},
        tables::WriteError,
    },
};

/// The maps of one family.
struct Addresses<A: Plain> {
    peers: Taken<HashMap<MapData, A, u32>>,
    ranges: Taken<LpmTrie<MapData, A, u32>>,
    names: Names,
}

#[derive(Clone, Copy)]
struct Names {
    peers: MapSpec,
    ranges: MapSpec,
}

const V4_NAMES: Names = Names { peers: map::PEERS_V4, ranges: map::PEER_RANGES_V4 };
const V6_NAMES: Names = Names { peers: map::PEERS_V6, ranges: map::PEER_RANGES_V6 };

/// The policy maps, as the agent writes them.
pub struct KernelPolicyTables {
    ports: Taken<LpmTrie<MapData, PolicyPort, u32>>,
    rows: Taken<HashMap<MapData, abi::RowKey, abi::Row>>,
    v4: Addresses<V4>,
    v6: Addresses<V6>,
    endpoints: Taken<HashMap<MapData, u32, abi::Endpoint>>,
    /// A second handle on the map that is also of [`KernelTables`].
    settings: Array<MapData, Settings>,
}

impl KernelPolicyTables {
    /// Takes the maps out of a loaded object; the settings are shared with the service maps.
    pub fn take(ebpf: &mut Ebpf, services: &KernelTables) -> Result<Self, LoadError> {
        Ok(Self {
            ports: take(ebpf, &map::POLICY_PORTS)?,
            rows: take(ebpf, &map::POLICY_ROWS)?,
            v4: Addresses::take(ebpf, V4_NAMES)?,
            v6: Addresses::take(ebpf, V6_NAMES)?,
            endpoints: take(ebpf, &map::ENDPOINTS)?,
            settings: shared(services)?,
        })
    }

    /// Sets how policies hold: one of [`abi::policy_mode`].
    pub fn put_mode(&mut self, mode: u32) -> Result<(), WriteError> {
        persist(&map::SETTINGS, || {
            let settings = self.settings.get(&0, 0)?;
            self.settings.set(0, Settings { policy: mode, ..settings }, 0)
        })
    }

    /// Reads what the maps hold.
    pub fn realized(&self) -> io::Result<Realized> {
        let settings = self.settings.get(&0, 0).map_err(io::Error::other)?;
        let mut realized = Realized {
            epoch: settings.policy_epoch,
            is_on: settings.policy != abi::policy_mode::OFF,
            ..Realized::default()
        };
        for entry in self.ports.map.iter() {
            let (key, class) = entry.map_err(io::Error::other)?;
            realized.ports.extend(port_of(&key).map(|port| (port, class as u8)));
        }
        batch::for_each(self.rows.fd.as_fd(), |key: &abi::RowKey, row: &abi::Row| {
            let key = (RulesetId(key.ruleset), ClassId(key.class));
            realized.rows.push((key, Row { allow: row.allow, staged: row.staged }));
        })?;
        self.v4.read(&mut realized)?;
        self.v6.read(&mut realized)?;
        batch::for_each(self.endpoints.fd.as_fd(), |index: &u32, value: &abi::Endpoint| {
            realized.endpoints.push((IfIndex(*index), record(value)));
        })?;
        Ok(realized)
    }
}

impl PolicyTables for KernelPolicyTables {
    fn capacity(&self, map: PolicyMap) -> usize {
        // Linux before 6.13 refuses to replace an element of a trie that is full.
        let of_trie = |capacity: u32| capacity.saturating_sub(1) as usize;
        match map {
            PolicyMap::Ports => of_trie(self.ports.capacity),
            PolicyMap::Rows => self.rows.capacity as usize,
            PolicyMap::Ranges(Family::V4) => of_trie(self.v4.ranges.capacity),
            PolicyMap::Ranges(Family::V6) => of_trie(self.v6.ranges.capacity),
            PolicyMap::Peers(Family::V4) => self.v4.peers.capacity as usize,
            PolicyMap::Peers(Family::V6) => self.v6.peers.capacity as usize,
            PolicyMap::Endpoints => self.endpoints.capacity as usize,
        }
    }

    fn put_ports(&mut self, entries: &[(PortKey, u8)]) -> Written {
        each(entries, |(port, class)| {
            let key = port_key(port);
            persist(&map::POLICY_PORTS, || self.ports.map.insert(&key, u32::from(*class), 0))
        })
    }

    fn remove_ports(&mut self, keys: &[PortKey]) -> Written {
        each(keys, |port| removed(&map::POLICY_PORTS, self.ports.map.remove(&port_key(port))))
    }

    fn put_rows(&mut self, entries: &[(RowKey, Row)]) -> Written {
        let (keys, rows): (Vec<_>, Vec<_>) =
            entries.iter().map(|(key, row)| (row_key(key), row_value(row))).unzip();
        let fd = self.rows.fd.as_fd();
        persist_list(&map::POLICY_ROWS, |made| {
            batch::update_from::<abi::RowKey, abi::Row>(fd, &keys[made..], &rows[made..])
        })
    }

    fn remove_rows(&mut self, keys: &[RowKey]) -> Written {
        let keys: Vec<_> = keys.iter().map(row_key).collect();
        let fd = self.rows.fd.as_fd();
        persist_list(&map::POLICY_ROWS, |made| batch::remove_from::<abi::RowKey>(fd, &keys[made..]))
    }

    fn put_ranges(&mut self, entries: &[(Cidr, ClassId)]) -> Written {
        each(entries, |(range, class)| match range.family() {
            Family::V4 => self.v4.put_range(*range, *class),
            Family::V6 => self.v6.put_range(*range, *class),
        })
    }

    fn remove_ranges(&mut self, keys: &[Cidr]) -> Written {
        each(keys, |range| match range.family() {
            Family::V4 => self.v4.remove_range(*range),
            Family::V6 => self.v6.remove_range(*range),
        })
    }

    fn put_peers(&mut self, entries: &[(IpAddr, ClassId)]) -> Written {
        let mut made = 0;
        for same in entries.chunk_by(|(a, _), (b, _)| a.is_ipv4() == b.is_ipv4()) {
            let written = match same[0].0 {
                IpAddr::V4(_) => self.v4.put_peers(same),
                IpAddr::V6(_) => self.v6.put_peers(same),
            };
            written.map_err(|stopped| Stopped { made: made + stopped.made, ..stopped })?;
            made += same.len();
        }
        Ok(())
    }

    fn remove_peers(&mut self, keys: &[IpAddr]) -> Written {
        each(keys, |ip| match ip {
            IpAddr::V4(ip) => removed(&map::PEERS_V4, self.v4.peers.map.remove(&V4::from(*ip))),
            IpAddr::V6(ip) => removed(&map::PEERS_V6, self.v6.peers.map.remove(&V6::from(*ip))),
        })
    }

    fn put_endpoints(&mut self, entries: &[(IfIndex, EndpointRecord)]) -> Written {
        each(entries, |(index, record)| {
            let value = endpoint(record);
            persist(&map::ENDPOINTS, || self.endpoints.map.insert(index.0, value, 0))
        })
    }

    fn remove_endpoints(&mut self, keys: &[IfIndex]) -> Written {
        each(keys, |index| removed(&map::ENDPOINTS, self.endpoints.map.remove(&index.0)))
    }

    fn put_epoch(&mut self, epoch: u32) -> Result<(), WriteError> {
        persist(&map::SETTINGS, || {
            let settings = self.settings.get(&0, 0)?;
            self.settings.set(0, Settings { policy_epoch: epoch, ..settings }, 0)
        })
    }
}

impl<A: AbiAddr> Addresses<A> {
    fn take(ebpf: &mut Ebpf, names: Names) -> Result<Self, LoadError> {
        Ok(Self { peers: take(ebpf, &names.peers)?, ranges: take(ebpf, &names.ranges)?, names })
    }

    fn put_peers(&self, entries: &[(IpAddr, ClassId)]) -> Written {
        let known = entries.iter().filter_map(|(ip, class)| Some((A::of(*ip)?, class.0)));
        let (keys, classes): (Vec<A>, Vec<u32>) = known.unzip();
        let fd = self.peers.fd.as_fd();
        persist_list(&self.names.peers, |made| {
            batch::update_from::<A, u32>(fd, &keys[made..], &classes[made..])
        })
    }

    fn put_range(&mut self, range: Cidr, class: ClassId) -> Result<(), WriteError> {
        let Some(key) = range::key::<A>(range) else { return Ok(()) };
        persist(&self.names.ranges, || self.ranges.map.insert(&key, class.0, 0))
    }

    fn remove_range(&mut self, range: Cidr) -> Result<(), WriteError> {
        let Some(key) = range::key::<A>(range) else { return Ok(()) };
        removed(&self.names.ranges, self.ranges.map.remove(&key))
    }

    fn read(&self, realized: &mut Realized) -> io::Result<()> {
        batch::for_each(self.peers.fd.as_fd(), |ip: &A, class: &u32| {
            realized.peers.push((ip.ip(), ClassId(*class)));
        })?;
        for entry in self.ranges.map.iter() {
            let (key, class) = entry.map_err(io::Error::other)?;
            realized.ranges.extend(range::of_key(&key).map(|range| (range, ClassId(class))));
        }
        Ok(())
    }
}

/// Another handle on the map of settings.
fn shared(services: &KernelTables) -> Result<Array<MapData, Settings>, LoadError> {
    let failed = |source| LoadError::Pin { path: map::SETTINGS.name.to_owned(), source };
    let fd = services.settings.fd.try_clone().map_err(|error| failed(MapError::from(error)))?;
    let data = MapData::from_fd(fd).map_err(failed)?;
    Array::try_from(Map::Array(data)).map_err(failed)
}

/// Makes one write after the other.
fn each<E>(entries: &[E], mut write: impl FnMut(&E) -> Result<(), WriteError>) -> Written {
    for (made, entry) in entries.iter().enumerate() {
        write(entry).map_err(|error| Stopped { made, error })?;
    }
    Ok(())
}

fn port_key((ruleset, prefix): &PortKey) -> Key<PolicyPort> {
    // A trie compares from the highest bit on, so numbers are big-endian.
    let ruleset = ruleset.0.to_be();
    let data =
        PolicyPort { ruleset, proto: prefix.protocol.number(), pad: 0, port: prefix.port.to_be() };
    Key::new(abi::PROTOCOL_BITS + u32::from(prefix.bits), data)
}

/// What a key stands for; `None` if it is none of ours.
fn port_of(key: &Key<PolicyPort>) -> Option<PortKey> {
    let (bits, data) = (key.prefix_len(), key.data());
    let bits = u8::try_from(bits.checked_sub(abi::PROTOCOL_BITS)?).ok()?;
    let (protocol, port) = (socket_protocol(data.proto)?, u16::from_be(data.port));
    let prefix = PortPrefix { protocol, port, bits };
    Some((RulesetId(u32::from_be(data.ruleset)), prefix))
}

fn row_key((ruleset, class): &RowKey) -> abi::RowKey {
    abi::RowKey { ruleset: ruleset.0, class: class.0 }
}

fn row_value(row: &Row) -> abi::Row {
    abi::Row { allow: row.allow, staged: row.staged }
}

fn endpoint(record: &EndpointRecord) -> abi::Endpoint {
    let [egress, ingress, hairpin_egress, hairpin_ingress] = record.rulesets.map(|id| id.0);
    abi::Endpoint {
        v4: record.v4.map(V4::from).unwrap_or_default(),
        v6: record.v6.map(V6::from).unwrap_or_default(),
        egress,
        ingress,
        hairpin_egress,
        hairpin_ingress,
        flags: 0,
    }
}

fn record(value: &abi::Endpoint) -> EndpointRecord {
    let rulesets =
        [value.egress, value.ingress, value.hairpin_egress, value.hairpin_ingress].map(RulesetId);
    EndpointRecord {
        v4: Some(Ipv4Addr::from(value.v4)).filter(|ip| !ip.is_unspecified()),
        v6: Some(Ipv6Addr::from(value.v6)).filter(|ip| !ip.is_unspecified()),
        rulesets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::addr::Protocol;

    #[test]
    fn a_port_class_reads_back_as_it_was_written() {
        for (port, bits) in [(0, 0), (80, 16), (8080, 12)] {
            let prefix = PortPrefix { protocol: Protocol::Sctp, port, bits };
            let key = (RulesetId(0x0102_0304), prefix);
            assert_eq!(port_of(&port_key(&key)), Some(key));
        }
    }

    #[test]
    fn the_number_of_a_ruleset_stands_highest_bit_first() {
        let prefix = PortPrefix { protocol: Protocol::Tcp, port: 0x1f90, bits: 16 };
        let key = port_key(&(RulesetId(0x0102_0304), prefix));
        assert_eq!(key.prefix_len(), abi::PORT_BITS);
        assert_eq!(key.data().ruleset.to_ne_bytes(), [1, 2, 3, 4]);
        assert_eq!(key.data().port.to_ne_bytes(), [0x1f, 0x90]);
    }

    #[test]
    fn an_endpoint_reads_back_as_it_was_written() {
        let rulesets = [RulesetId(7), RulesetId::OPEN, RulesetId::CLOSED, RulesetId(9)];
        for v4 in [None, "10.0.0.1".parse().ok()] {
            let known = EndpointRecord { v4, v6: "fd00::1".parse().ok(), rulesets };
            assert_eq!(record(&endpoint(&known)), known);
        }
    }
}
