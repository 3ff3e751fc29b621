// SPDX-License-Identifier: Apache-2.0
//! The policy maps in memory, for tests: they fail at will, and are looked into as the kernel's
//! programs do after every single write.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::tables::{EndpointRecord, PolicyMap, PolicyTables, Realized, Stopped, Written};
use crate::{
    model::{addr::Protocol, cidr::Cidr, ip::Family, policy::Direction},
    node::IfIndex,
    policy::{
        ClassId, PortKey, PortPrefix, Row, RowKey, RulesetId,
        tests::{
            evaluator::Wanted,
            generator::{OTHER_IPS, POD_IPS},
            programs::port_class,
        },
    },
    reconcile::{faults::Faults, reconciler::GRACE, tables::WriteError},
};

/// What is asked of each pod, direction and peer.
const WANTED: [Wanted; 6] = [
    Wanted::Portless,
    Wanted::Port(Protocol::Tcp, 53),
    Wanted::Port(Protocol::Tcp, 80),
    Wanted::Port(Protocol::Tcp, 8080),
    Wanted::Port(Protocol::Udp, 53),
    Wanted::Port(Protocol::Sctp, 81),
];

/// What passes, by interface, direction and peer; a bit for each of [`WANTED`].
pub type Verdicts = BTreeMap<(IfIndex, Direction, IpAddr), u8>;

/// What packets may meet while a change is made.
#[derive(Clone, Debug)]
pub enum Promise {
    /// Nothing but that no row is missing.
    Whole,
    /// A verdict of before or of after; a pod that is new, nothing that is not allowed after.
    EitherOr(Arc<Verdicts>, Arc<Verdicts>),
    /// Nothing passes that passed neither before nor passes after.
    NeverOpen(Arc<Verdicts>, Arc<Verdicts>),
}

/// Maps in memory.
#[derive(Debug)]
pub struct FakeTables {
    pub capacities: BTreeMap<PolicyMap, usize>,
    pub ports: BTreeMap<PortKey, u8>,
    pub rows: BTreeMap<RowKey, Row>,
    pub ranges: BTreeMap<Cidr, ClassId>,
    pub peers: BTreeMap<IpAddr, ClassId>,
    pub endpoints: BTreeMap<IfIndex, EndpointRecord>,
    pub epoch: u32,
    pub faults: Faults,
    /// The time, as the reconciler is told it.
    pub now: Instant,
    pub promise: Promise,
    /// What is going on, for whoever reads why a test failed.
    pub context: String,
    /// Until when a program may be on its way to a row or port class.
    left_rulesets: BTreeMap<RulesetId, Instant>,
    left_classes: BTreeMap<ClassId, Instant>,
    /// Interfaces that allow less, or other things, than at the last epoch.
    narrowed: bool,
    /// The verdicts after the last write.
    last: Option<Verdicts>,
}

impl FakeTables {
    pub fn new() -> Self {
        Self {
            capacities: BTreeMap::new(),
            ports: BTreeMap::new(),
            rows: BTreeMap::new(),
            ranges: BTreeMap::new(),
            peers: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            epoch: 7,
            faults: Faults::new(),
            now: Instant::now(),
            promise: Promise::Whole,
            context: String::new(),
            left_rulesets: BTreeMap::new(),
            left_classes: BTreeMap::new(),
            narrowed: false,
            last: None,
        }
    }

    /// Lets time pass.
    pub fn sleep(&mut self, time: Duration) {
        self.now += time;
        // A test may have written meanwhile.
        self.last = None;
    }

    /// What an agent reads at its start.
    pub fn realized(&self) -> Realized {
        Realized {
            ports: self.ports.iter().map(|(k, v)| (*k, *v)).collect(),
            rows: self.rows.iter().map(|(k, v)| (*k, *v)).collect(),
            ranges: self.ranges.iter().map(|(k, v)| (*k, *v)).collect(),
            peers: self.peers.iter().map(|(k, v)| (*k, *v)).collect(),
            endpoints: self.endpoints.iter().map(|(k, v)| (*k, *v)).collect(),
            epoch: self.epoch,
            is_on: true,
        }
    }

    /// Something that passed at the last epoch does not any more, and connections do not know.
    pub fn is_narrowed(&self) -> bool {
        self.narrowed
    }

    /// The verdicts of all pods in the maps.
    pub fn verdicts(&self) -> Verdicts {
        let peers: Vec<(IpAddr, ClassId)> = POD_IPS
            .iter()
            .chain(&OTHER_IPS)
            .map(|ip| ip.parse().unwrap())
            .map(|ip| (ip, self.class(ip)))
            .collect();
        let mut found = Verdicts::new();
        let mut columns: BTreeMap<RulesetId, [u8; WANTED.len()]> = BTreeMap::new();
        for (index, record) in &self.endpoints {
            for direction in Direction::ALL {
                for (ip, class) in &peers {
                    let ruleset = ruleset_of(record, direction, *ip);
                    let columns = columns.entry(ruleset).or_insert_with(|| self.columns(ruleset));
                    found.insert((*index, direction, *ip), self.look(ruleset, *class, columns));
                }
            }
        }
        found
    }

    fn columns(&self, ruleset: RulesetId) -> [u8; WANTED.len()] {
        let first = PortPrefix { protocol: Protocol::Tcp, port: 0, bits: 0 };
        let own = self.ports.range((ruleset, first)..).take_while(|((id, _), _)| *id == ruleset);
        let own: BTreeMap<PortPrefix, u8> = own.map(|((_, port), class)| (*port, *class)).collect();
        WANTED.map(|wanted| port_class(&own, wanted))
    }

    fn look(&self, ruleset: RulesetId, class: ClassId, columns: &[u8; WANTED.len()]) -> u8 {
        match ruleset {
            RulesetId::OPEN => u8::MAX >> (8 - WANTED.len()),
            RulesetId::CLOSED => 0,
            _ => {
                let row = self.rows.get(&(ruleset, class));
                let row = row.unwrap_or_else(|| {
                    panic!("{}: no row of {ruleset:?} for {class:?}", self.context)
                });
                let bit = |column: u8| row.allow[usize::from(column / 64)] >> (column % 64) & 1;
                let bits = columns.iter().enumerate();
                bits.fold(0, |all, (at, column)| all | (bit(*column) as u8) << at)
            }
        }
    }

    fn class(&self, ip: IpAddr) -> ClassId {
        if let Some(class) = self.peers.get(&ip) {
            return *class;
        }
        let ranges = self.ranges.iter().filter(|(range, _)| range.contains(ip));
        let found = ranges.max_by_key(|(range, _)| range.prefix()).map(|(_, class)| class);
        found.copied().unwrap_or(ClassId::NOTHING)
    }

    /// How many entries a map has.
    pub fn used(&self, map: PolicyMap) -> usize {
        match map {
            PolicyMap::Ports => self.ports.len(),
            PolicyMap::Rows => self.rows.len(),
            PolicyMap::Ranges(family) => {
                self.ranges.keys().filter(|range| range.family() == family).count()
            }
            PolicyMap::Peers(family) => {
                self.peers.keys().filter(|ip| Family::of(**ip) == family).count()
            }
            PolicyMap::Endpoints => self.endpoints.len(),
        }
    }

    /// Makes one write, and looks at what packets meet then.
    fn write(&mut self, map: PolicyMap, write: impl FnOnce(&mut Self)) -> Result<(), WriteError> {
        self.faults.attempt(map.name())?;
        let before = self.last.take().unwrap_or_else(|| self.verdicts());
        write(self);
        assert!(self.used(map) <= self.capacity(map), "{} overflows", map.name());
        let now = self.verdicts();
        for (key, was) in &before {
            self.narrowed |= now.get(key).is_some_and(|is| was & !is != 0);
        }
        self.assert_whole();
        self.assert_promise(map, &now);
        self.last = Some(now);
        Ok(())
    }

    /// Whatever the peer, no row is missing; `look` has seen to those of the addresses that it asks.
    fn assert_whole(&self) {
        let classes = self.peers.values().chain(self.ranges.values()).chain(&[ClassId::NOTHING]);
        let classes: Vec<_> = classes.collect();
        for record in self.endpoints.values() {
            let rulesets = record.rulesets.into_iter();
            for id in rulesets.filter(|id| *id != RulesetId::OPEN && *id != RulesetId::CLOSED) {
                for class in &classes {
                    let context = &self.context;
                    assert!(self.rows.contains_key(&(id, **class)), "{context}: {id:?} {class:?}");
                }
            }
        }
    }

    fn assert_promise(&self, map: PolicyMap, now: &Verdicts) {
        let (before, after) = match &self.promise {
            Promise::Whole => return,
            Promise::EitherOr(before, after) | Promise::NeverOpen(before, after) => (before, after),
        };
        let nothing = 0;
        for (key, now) in now {
            let (was, will) = (before.get(key), after.get(key));
            let is_either = match (&self.promise, was, will) {
                (Promise::EitherOr(..), Some(was), Some(will)) => (now ^ was) & (now ^ will) == 0,
                _ => now & !(was.unwrap_or(&nothing) | will.unwrap_or(&nothing)) == 0,
            };
            let (name, context) = (map.name(), &self.context);
            assert!(is_either, "{context}: {name}: {key:?} {was:?} {now} {will:?}");
        }
    }

    fn leave_class(&mut self, class: Option<ClassId>) {
        self.left_classes.extend(class.map(|class| (class, self.now)));
    }

    /// A program that has just read an interface or a class may look for this yet.
    fn assert_grace(&self, ruleset: RulesetId, class: Option<ClassId>) {
        let is_over = |left: Option<&Instant>| left.is_none_or(|left| self.now >= *left + GRACE);
        let ruleset_is_idle = !self.endpoints.values().any(|one| one.rulesets.contains(&ruleset))
            && is_over(self.left_rulesets.get(&ruleset));
        let class_is_idle = class.is_some_and(|class| {
            let mut used = self.peers.values().chain(self.ranges.values());
            class != ClassId::NOTHING
                && used.all(|used| *used != class)
                && is_over(self.left_classes.get(&class))
        });
        assert!(
            ruleset_is_idle || class_is_idle,
            "{}: {ruleset:?} {class:?} is gone too early",
            self.context
        );
    }
}

fn ruleset_of(record: &EndpointRecord, direction: Direction, peer: IpAddr) -> RulesetId {
    let [egress, ingress, hairpin_egress, hairpin_ingress] = record.rulesets;
    match (direction, record.has(peer)) {
        (Direction::Egress, false) => egress,
        (Direction::Ingress, false) => ingress,
        (Direction::Egress, true) => hairpin_egress,
        (Direction::Ingress, true) => hairpin_ingress,
    }
}

fn each<E>(entries: &[E], mut write: impl FnMut(&E) -> Result<(), WriteError>) -> Written {
    for (made, entry) in entries.iter().enumerate() {
        write(entry).map_err(|error| Stopped { made, error })?;
    }
    Ok(())
}

impl PolicyTables for FakeTables {
    fn capacity(&self, map: PolicyMap) -> usize {
        self.capacities.get(&map).copied().unwrap_or(usize::MAX)
    }

    fn put_ports(&mut self, entries: &[(PortKey, u8)]) -> Written {
        each(entries, |(key, class)| {
            self.assert_grace(key.0, None);
            self.write(PolicyMap::Ports, |tables| {
                tables.ports.insert(*key, *class);
            })
        })
    }

    fn remove_ports(&mut self, keys: &[PortKey]) -> Written {
        each(keys, |key| {
            self.assert_grace(key.0, None);
            self.write(PolicyMap::Ports, |tables| {
                tables.ports.remove(key);
            })
        })
    }

    fn put_rows(&mut self, entries: &[(RowKey, Row)]) -> Written {
        each(entries, |(key, row)| {
            if self.rows.contains_key(key) {
                self.assert_grace(key.0, None);
            }
            self.write(PolicyMap::Rows, |tables| {
                tables.rows.insert(*key, *row);
            })
        })
    }

    fn remove_rows(&mut self, keys: &[RowKey]) -> Written {
        each(keys, |key| {
            self.assert_grace(key.0, Some(key.1));
            self.write(PolicyMap::Rows, |tables| {
                tables.rows.remove(key);
            })
        })
    }

    fn put_ranges(&mut self, entries: &[(Cidr, ClassId)]) -> Written {
        each(entries, |(range, class)| {
            self.write(PolicyMap::Ranges(range.family()), |tables| {
                let old = tables.ranges.insert(*range, *class);
                tables.leave_class(old);
            })
        })
    }

    fn remove_ranges(&mut self, keys: &[Cidr]) -> Written {
        each(keys, |range| {
            self.write(PolicyMap::Ranges(range.family()), |tables| {
                let old = tables.ranges.remove(range);
                tables.leave_class(old);
            })
        })
    }

    fn put_peers(&mut self, entries: &[(IpAddr, ClassId)]) -> Written {
        each(entries, |(ip, class)| {
            self.write(PolicyMap::Peers(Family::of(*ip)), |tables| {
                let old = tables.peers.insert(*ip, *class);
                tables.leave_class(old);
            })
        })
    }

    fn remove_peers(&mut self, keys: &[IpAddr]) -> Written {
        each(keys, |ip| {
            self.write(PolicyMap::Peers(Family::of(*ip)), |tables| {
                let old = tables.peers.remove(ip);
                tables.leave_class(old);
            })
        })
    }

    fn put_endpoints(&mut self, entries: &[(IfIndex, EndpointRecord)]) -> Written {
        each(entries, |(index, record)| {
            self.write(PolicyMap::Endpoints, |tables| {
                let old = tables.endpoints.insert(*index, *record);
                let left = old.iter().flat_map(|old| old.rulesets);
                tables.left_rulesets.extend(left.map(|id| (id, tables.now)));
            })
        })
    }

    fn remove_endpoints(&mut self, keys: &[IfIndex]) -> Written {
        each(keys, |index| {
            self.write(PolicyMap::Endpoints, |tables| {
                let old = tables.endpoints.remove(index);
                let left = old.iter().flat_map(|old| old.rulesets);
                tables.left_rulesets.extend(left.map(|id| (id, tables.now)));
            })
        })
    }

    fn put_epoch(&mut self, epoch: u32) -> Result<(), WriteError> {
        self.faults.attempt("SETTINGS")?;
        assert_ne!(epoch, 0);
        assert_ne!(epoch, self.epoch);
        self.epoch = epoch;
        self.narrowed = false;
        Ok(())
    }
}
