// SPDX-License-Identifier: Apache-2.0
//! Over [`FakeTables`], which checks at every write what a reader would see.

use std::{collections::BTreeSet, net::IpAddr};

use pintle_abi::service::wildcard_flags;

use super::{
    super::{change::record, fake::FakeTables, tables::Redirect},
    *,
};
use crate::{
    model::addr::{FrontendAddr, Protocol},
    plan::{
        desired::{ClusterRanges as DesiredRanges, DesiredBackend, Masquerade, NoBackend},
        maglev::{self, TableSize},
    },
};

fn frontend(index: u8) -> FrontendKey {
    let ip: IpAddr = match index % 4 {
        3 => "fd00::1".parse().unwrap(),
        last => [10, 96, 0, last].into(),
    };
    let port = 80 + u16::from(index / 4);
    FrontendKey::internal(FrontendAddr { ip, port, protocol: Protocol::Tcp })
}

/// Backend `index` of the family of a frontend; every third is on our node.
fn backend(of: &FrontendKey, index: u8) -> DesiredBackend {
    let ip: IpAddr = match of.addr.ip {
        IpAddr::V4(_) => [10, 244, 0, index].into(),
        IpAddr::V6(_) => [0xfd00, 0x244, 0, 0, 0, 0, 0, index.into()].into(),
    };
    DesiredBackend {
        addr: BackendAddr { ip, port: 8080 },
        local: index.is_multiple_of(3),
        weight: 1,
    }
}

fn desired(of: &FrontendKey, backends: &[u8], draining: &[u8]) -> DesiredFrontend {
    let all = |indices: &[u8]| indices.iter().map(|index| backend(of, *index)).collect();
    DesiredFrontend {
        table: None,
        service: format!("shop/{}", of.addr.port).into(),
        backends: all(backends),
        draining: all(draining),
        no_backend: NoBackend::Reject,
        affinity: None,
        is_split: false,
        masquerade: Masquerade::Nobody,
        source_ranges: None,
    }
}

/// Where the slots of a frontend lead.
fn in_slots(wanted: &DesiredFrontend) -> Vec<BackendAddr> {
    let backends: Vec<_> = wanted.backends.iter().map(|backend| backend.addr).collect();
    match wanted.table {
        Some(size) => maglev::table(&backends, &wanted.weights(), size)
            .iter()
            .map(|i| backends[*i as usize])
            .collect(),
        None => backends,
    }
}

/// An agent's part over maps that outlive it.
struct World {
    reconciler: Reconciler<FakeTables>,
    desired: BTreeMap<FrontendKey, DesiredFrontend>,
    /// Flags of addresses, in force while they have frontends or the node's flag.
    wildcards: BTreeMap<IpAddr, u32>,
    ranges: DesiredRanges,
    ifindex: u32,
}

impl World {
    fn new(tables: FakeTables) -> Self {
        Self {
            reconciler: Reconciler::new(tables),
            desired: BTreeMap::new(),
            wildcards: BTreeMap::new(),
            ranges: DesiredRanges::default(),
            ifindex: 7,
        }
    }

    fn tables(&mut self) -> &mut FakeTables {
        self.reconciler.tables_mut()
    }

    fn redirect(&self) -> impl Fn(IpAddr) -> Option<Redirect> + use<> {
        let ifindex = self.ifindex;
        move |_| Some(Redirect { ifindex, mtu: 1500 })
    }

    fn set(&mut self, key: FrontendKey, wanted: Option<DesiredFrontend>) -> Outcome {
        match wanted.clone() {
            Some(wanted) => drop(self.desired.insert(key, wanted)),
            None => drop(self.desired.remove(&key)),
        }
        let flags = self.flags_of(&key.addr.ip);
        self.apply(Changes {
            frontends: [(key, wanted)].into(),
            wildcards: flags.into_iter().collect(),
            ..Changes::default()
        })
    }

    fn apply(&mut self, changes: Changes) -> Outcome {
        let now = self.tables().now;
        self.reconciler.apply(changes, &self.redirect(), now)
    }

    /// What the planner would say of an address; node ports have none.
    fn flags_of(&self, ip: &IpAddr) -> Option<(IpAddr, Option<u32>)> {
        let flags = self.wildcards.get(ip).copied().unwrap_or_default();
        let wanted = match self.desired.keys().any(|key| key.addr.ip == *ip) {
            true => Some(flags),
            false => Some(flags & wildcard_flags::NODE).filter(|flags| *flags != 0),
        };
        (!ip.is_unspecified()).then_some((*ip, wanted))
    }

    fn mark(&mut self, ip: &str, flags: u32) -> Outcome {
        let ip = ip.parse().unwrap();
        self.wildcards.insert(ip, flags);
        let wildcards = self.flags_of(&ip).into_iter().collect();
        self.apply(Changes { wildcards, ..Changes::default() })
    }

    fn set_ranges(&mut self, v4: &[&str]) -> Outcome {
        self.ranges.v4 = v4.iter().map(|text| cidr(text)).collect();
        let cluster_ranges = Some(self.ranges.clone());
        self.apply(Changes { cluster_ranges, ..Changes::default() })
    }

    /// Everything that is desired, as the planner tells it at a start.
    fn all(&self) -> Changes {
        let frontends = self.desired.iter().map(|(key, wanted)| (*key, Some(wanted.clone())));
        let ips = self.desired.keys().map(|key| key.addr.ip).chain(self.wildcards.keys().copied());
        let flags = ips.filter_map(|ip| self.flags_of(&ip)).filter(|(_, flags)| flags.is_some());
        Changes {
            frontends: frontends.collect(),
            wildcards: flags.collect(),
            cluster_ranges: Some(self.ranges.clone()),
        }
    }

    fn put(&mut self, index: u8, backends: &[u8]) -> Outcome {
        let addr = frontend(index);
        self.set(addr, Some(desired(&addr, backends, &[])))
    }

    fn pass(&mut self, time: Duration) {
        self.tables().sleep(time);
        let now = self.tables().now;
        self.reconciler.free_retired(now);
    }

    fn retry(&mut self) -> Outcome {
        let now = self.tables().now;
        self.reconciler.retry(&self.redirect(), now)
    }

    /// The agent dies and another starts over the same maps.
    fn restart(&mut self) {
        let mut tables = std::mem::replace(self.tables(), FakeTables::new());
        tables.faults.dies_after = None;
        // No process starts within the grace period.
        tables.sleep(GRACE);
        let (realized, now) = (tables.realized(), tables.now);
        self.reconciler = Reconciler::new(tables);
        self.reconciler.adopt(realized);
        // The network is looked at before the source is.
        self.reconciler.resolve_again(&self.redirect());
        let mut changes = self.all();
        self.reconciler.complete(&mut changes);
        self.reconciler.apply(changes, &self.redirect(), now);
        self.reconciler.sweep(now);
    }

    /// Nothing fails any more, and everything has its time.
    fn settle(&mut self) {
        self.tables().faults.percent = 0;
        self.tables().faults.dies_after = None;
        for _ in 0..3 {
            self.retry();
            self.pass(GRACE);
        }
    }

    /// The maps hold what is desired, nothing less and nothing more.
    fn assert_exact(&mut self) {
        assert_eq!(self.reconciler.errors().count(), 0);
        assert!(self.reconciler.due_error().is_none());
        let wanted = self.desired.clone();
        let redirect = self.redirect()("10.0.0.1".parse().unwrap());
        let tables = self.reconciler.tables();
        assert!(tables.frontends.keys().eq(wanted.keys()), "{tables:#?}");
        let mut live = BTreeMap::new();
        for (addr, wanted) in &wanted {
            assert_eq!(tables.reached(addr), Some(in_slots(wanted)), "{addr}");
            let found = tables.frontends[addr];
            let range = found.base..found.base + found.count;
            assert_eq!(found, record(wanted, found.service, &range), "{addr}");
            let names: BTreeMap<_, _> = self.reconciler.service_names().names().collect();
            assert_eq!(names.get(&found.service), Some(&&wanted.service), "{addr}");
            let all = wanted.backends.iter().chain(&wanted.draining);
            live.extend(all.map(|backend| (backend.addr, backend.local)));
        }
        assert!(tables.live().iter().eq(live.keys()), "{tables:#?}");
        for backend in tables.backends.values() {
            let local = backend.addr.and_then(|addr| live.get(&addr)).is_some_and(|local| *local);
            assert_eq!(backend.redirect, redirect.filter(|_| local), "{backend:?}");
        }
        for backend in tables.backends.values().filter(|backend| backend.addr.is_some()) {
            let local = backend.addr.and_then(|addr| live.get(&addr));
            assert_eq!(Some(&backend.local), local, "{backend:?}");
        }
        let flags = self.all().wildcards.into_iter().filter_map(|(ip, flags)| Some((ip, flags?)));
        assert_eq!(tables.marks, flags.collect());
        let number = |name: &str| self.reconciler.service_names().id_of(name).unwrap();
        let ranges: BTreeSet<_> = wanted
            .values()
            .flat_map(|wanted| {
                let ranges = wanted.source_ranges.iter().flat_map(|ranges| ranges.to_vec());
                ranges.map(|range| (number(&wanted.service), range))
            })
            .collect();
        assert_eq!(tables.source_ranges, ranges);
        let cluster: BTreeSet<_> = tables.cluster_ranges.values().copied().collect();
        assert_eq!(cluster, self.ranges.v4.iter().copied().collect());
    }

    /// Nothing is left, and everything can be given out again.
    fn assert_empty(&mut self) {
        self.assert_exact();
        assert_eq!(self.reconciler.service_names().names().count(), 0);
        let tables = self.reconciler.tables();
        assert_eq!((tables.frontends.len(), tables.marks.len(), tables.live().len()), (0, 0, 0));
        for state in &self.reconciler.families {
            assert_eq!(state.slots.free(), tables.slot_capacity);
            assert_eq!(state.backends.room(), tables.backend_capacity as usize);
            assert_eq!(state.frontends, 0);
            assert_eq!(state.sources.count(), 0);
        }
        assert!(Family::ALL.iter().all(|family| self.reconciler.marks.count(*family) == 0));
    }
}

fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).unwrap()
}

fn world() -> World {
    World::new(FakeTables::new())
}

fn message(world: &World) -> String {
    let errors: Vec<_> = world.reconciler.errors().map(|(_, error)| error.to_string()).collect();
    errors.join("; ")
}

#[test]
fn equal_desires_are_not_written_again() {
    let mut world = world();
    world.put(0, &[1, 2]);
    let writes = world.tables().faults.writes;
    world.put(0, &[1, 2]);
    assert_eq!(world.tables().faults.writes, writes);
    world.restart();
    assert_eq!(world.tables().faults.writes, writes);
    world.assert_exact();
}

#[test]
fn a_service_port_keeps_its_number_over_a_restart() {
    let mut world = world();
    for index in [0, 3] {
        world.put(index, &[1]);
    }
    let before = world.tables().frontends.clone();
    world.restart();
    assert_eq!(world.tables().frontends, before);
    let names: Vec<_> = world.reconciler.service_names().names().map(|(id, _)| id).collect();
    assert_eq!(names, [1]);
}

#[test]
fn a_backend_that_could_not_be_written_is_led_to_by_nobody() {
    let mut world = world();
    world.tables().faults.dies_after = Some(0);
    assert_eq!(world.put(0, &[1]).failed, [frontend(0)]);
    world.tables().faults.dies_after = None;
    world.put(1, &[1]);
    assert_eq!(world.retry().recovered, [frontend(0)]);
    world.settle();
    world.assert_exact();
}

#[test]
fn a_failure_is_news_once() {
    let mut world = world();
    world.tables().faults.dies_after = Some(0);
    assert_eq!(world.put(0, &[1]).failed, [frontend(0)]);
    assert_eq!(world.put(0, &[2]), Outcome::default());
    assert_eq!(world.retry(), Outcome::default());
    assert_eq!(message(&world), "write BACKENDS");
    world.tables().faults.dies_after = None;
    assert_eq!(world.retry(), Outcome { recovered: vec![frontend(0)], ..Outcome::default() });
}

#[test]
fn a_mark_that_an_adopted_address_lacks_is_written() {
    let mut world = world();
    world.put(0, &[1]);
    world.tables().marks.clear();
    world.restart();
    world.assert_exact();
}

#[test]
fn a_mark_without_frontends_is_removed() {
    let mut world = world();
    world.tables().marks.insert([10, 96, 0, 9].into(), wildcard_flags::CLUSTER);
    world.restart();
    world.assert_empty();
}

#[test]
fn a_mark_that_is_refused_is_tried_again() {
    let mut world = world();
    world.tables().faults.dies_after = Some(3);
    assert_eq!(world.put(0, &[1]), Outcome::default());
    assert!(world.reconciler.due_error().is_some());
    world.settle();
    world.assert_exact();
    world.tables().faults.dies_after = Some(1);
    let addr = frontend(0);
    world.set(addr, None);
    assert!(world.tables().marks.contains_key(&addr.addr.ip));
    world.settle();
    world.assert_empty();
}

#[test]
fn a_live_backend_without_frontend_is_given_up() {
    let mut world = world();
    let addr = Some(backend(&frontend(0), 1).addr);
    let record =
        super::super::tables::BackendRecord { addr, generation: 3, local: false, redirect: None };
    world.tables().backends.insert((Family::V4, 5), record);
    world.tables().backends.insert((Family::V4, 6), record);
    world.restart();
    world.pass(GRACE);
    world.assert_empty();
    assert!(world.tables().backends[&(Family::V4, 5)].generation > 3);
}

#[test]
fn of_two_ids_of_an_address_the_one_in_use_stays() {
    let mut world = world();
    for backends in [[1], [2], [1]] {
        world.put(0, &backends);
    }
    let before = world.tables().frontends.clone();
    world.restart();
    assert_eq!(world.tables().frontends, before);
    world.settle();
    world.assert_exact();
}

#[test]
fn frontends_that_share_slots_are_separated() {
    let mut world = world();
    world.put(0, &[1, 2]);
    world.put(1, &[1, 2]);
    let stolen = world.tables().frontends[&frontend(0)];
    world.tables().frontends.insert(frontend(1), stolen);
    world.restart();
    world.settle();
    world.assert_exact();
    world.set(frontend(0), None);
    world.set(frontend(1), None);
    world.settle();
    world.assert_empty();
}

#[test]
fn a_frontend_without_backends_gives_up_slots_that_are_not_its_own() {
    let mut world = world();
    world.put(0, &[1, 2]);
    world.put(1, &[]);
    let stolen = world.tables().frontends[&frontend(0)];
    world.tables().frontends.insert(frontend(1), stolen);
    world.restart();
    world.settle();
    world.assert_exact();
}

#[test]
fn slots_outside_the_array_are_not_believed() {
    let mut world = world();
    world.put(0, &[1]);
    let mut realized = world.tables().realized();
    realized.frontends[0].1.base = 1000;
    realized.frontends[0].2.clear();
    let tables = std::mem::replace(world.tables(), FakeTables::new());
    world.reconciler = Reconciler::new(tables);
    world.reconciler.adopt(realized);
    let mut changes = world.all();
    world.reconciler.complete(&mut changes);
    let now = world.tables().now;
    world.reconciler.apply(changes, &world.redirect(), now);
    world.reconciler.sweep(now);
    world.settle();
    world.assert_exact();
}

#[test]
fn an_id_that_a_frontend_leads_to_wrongly_is_given_to_nobody_else() {
    let mut world = world();
    world.put(0, &[1]);
    let mut realized = world.tables().realized();
    realized.backends.clear();
    let mut reconciler = Reconciler::new(FakeTables::new());
    reconciler.adopt(realized);
    let addr = frontend(1);
    let frontends = [(addr, Some(desired(&addr, &[2], &[])))].into();
    reconciler.apply(Changes { frontends, ..Changes::default() }, &|_| None, Instant::now());
    assert_eq!(reconciler.frontends[&addr].ids, [1].into());
    assert_eq!(reconciler.frontends[&addr].record.base, 1);
}

#[test]
fn a_change_that_has_no_room_writes_nothing_and_is_made_when_there_is_room() {
    type Limit = fn(&mut FakeTables) -> &mut u32;
    let limits: [(&str, Limit, u32); 3] = [
        ("SLOTS is full: 3 more entries, room for 2", |tables| &mut tables.slot_capacity, 4),
        ("BACKENDS is full: 3 more entries, room for 2", |tables| &mut tables.backend_capacity, 4),
        (
            "FRONTENDS is full: 2 more entries, room for 1",
            |tables| &mut tables.frontend_capacity,
            3,
        ),
    ];
    for (expected, limit, capacity) in limits {
        let mut tables = FakeTables::new();
        *limit(&mut tables) = capacity;
        let mut world = World::new(tables);
        world.put(0, &[1, 2]);
        let writes = world.tables().faults.writes;
        assert_eq!(world.put(1, &[3, 4, 5]).failed, [frontend(1)]);
        assert_eq!((message(&world).as_str(), world.tables().faults.writes), (expected, writes));
        assert_eq!(world.retry(), Outcome::default());
        world.set(frontend(0), None);
        world.pass(GRACE);
        assert_eq!(world.retry().recovered, [frontend(1)], "{expected}");
        world.settle();
        world.assert_exact();
    }
}

#[test]
fn a_frontend_that_keeps_its_slots_needs_no_room_for_others() {
    let mut tables = FakeTables::new();
    tables.slot_capacity = 2;
    let mut world = World::new(tables);
    world.put(0, &[1, 2]);
    let mut wanted = desired(&frontend(0), &[1, 2], &[]);
    wanted.affinity = Some(Duration::from_secs(9));
    assert_eq!(world.set(frontend(0), Some(wanted)), Outcome::default());
    world.assert_exact();
}

#[test]
fn the_last_good_state_outlives_a_restart_with_full_maps() {
    let mut tables = FakeTables::new();
    tables.slot_capacity = 2;
    let mut world = World::new(tables);
    world.put(0, &[1, 2]);
    world.put(0, &[3]);
    let good = world.tables().reached(&frontend(0));
    world.restart();
    world.settle();
    assert_eq!(world.tables().reached(&frontend(0)), good);
    assert_eq!(message(&world), "SLOTS is full: 1 more entries, room for 0");
}

#[path = "maglev_tests.rs"]
mod maglev_tables;
#[path = "property_tests.rs"]
mod property;
#[path = "scope_tests.rs"]
mod scope;
