// SPDX-License-Identifier: Apache-2.0
//! A cluster, a planner and a reconciler over maps in memory, for tests.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    fake::{FakeTables, Promise, Verdicts},
    pods::{Interfaces, record},
    reconciler::PolicyReconciler,
    tables::{EndpointRecord, PolicyMap},
};
use crate::{
    model::{cidr::Cidr, event::Event, ip::Family, name::ObjectName, policy::Enforcement},
    node::IfIndex,
    policy::{
        Options, Planner, Room, Tables,
        tests::{
            generator::{NAMESPACES, PODS},
            world::{HERE, World},
        },
    },
    reconcile::reconciler::GRACE,
};

/// Longer than what must pass until leftovers go.
pub const PAUSE: Duration = GRACE.saturating_mul(2);

/// Every pod that there can be has an interface.
#[derive(Clone, Debug, Default)]
pub struct Network {
    names: BTreeMap<IfIndex, String>,
    ways: BTreeMap<IpAddr, IfIndex>,
}

impl Network {
    /// The ways lead to the pods of the tables.
    fn follow(&mut self, tables: &Tables) {
        self.ways.clear();
        for (name, endpoint) in &tables.endpoints {
            let index = index_of(name);
            self.names.insert(index, name.to_string());
            self.ways.extend(endpoint.ips.iter().map(|ip| (*ip, index)));
        }
    }

    /// Nobody knows where the pods are.
    pub fn forget_ways(&mut self) {
        self.ways.clear();
    }

    /// An interface has this name.
    pub fn rename(&mut self, index: IfIndex, name: &str) {
        self.names.insert(index, name.to_owned());
    }

    /// The way to an address leads to an interface.
    pub fn lead(&mut self, ip: &str, index: IfIndex) {
        self.ways.insert(ip.parse().unwrap(), index);
    }

    /// The interfaces are gone.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Interfaces for Network {
    fn behind(&self, ip: IpAddr) -> Option<IfIndex> {
        self.ways.get(&ip).copied()
    }

    fn name(&self, index: IfIndex) -> Option<&str> {
        self.names.get(&index).map(String::as_str)
    }
}

/// The interface of a pod.
pub fn index_of(name: &ObjectName) -> IfIndex {
    let at = |all: &[&str], name: &str| all.iter().position(|one| *one == name).unwrap() as u32;
    IfIndex(10 * (1 + at(&NAMESPACES, name.namespace())) + at(&PODS, name.name()))
}

/// Everything.
pub struct Node {
    pub cluster: World,
    pub planner: Planner,
    pub reconciler: PolicyReconciler<FakeTables>,
    pub network: Network,
    room: Room,
}

fn planner(room: Room) -> Planner {
    Planner::new(Options {
        node: HERE.into(),
        pod_cidrs: [Cidr::parse("10.0.2.0/25").unwrap()].into(),
        enforcement: Enforcement::Enforced,
        room,
    })
}

impl Node {
    /// A node whose agent has been told this much.
    pub fn new(events: Vec<Event>, tables: FakeTables) -> Self {
        let capacity = |map| tables.capacities.get(&map).copied().unwrap_or(usize::MAX);
        let of_each = |map: fn(Family) -> PolicyMap| Family::ALL.map(map).map(capacity);
        let room = Room {
            ports: capacity(PolicyMap::Ports),
            rows: capacity(PolicyMap::Rows),
            ranges: of_each(PolicyMap::Ranges).into_iter().min().unwrap(),
            peers: of_each(PolicyMap::Peers).into_iter().min().unwrap(),
        };
        let mut cluster = World::default();
        events.iter().for_each(|event| cluster.take(event));
        let realized = tables.realized();
        let reconciler = PolicyReconciler::new(tables, realized);
        let mut node =
            Self { cluster, planner: planner(room), reconciler, network: Network::default(), room };
        node.begin();
        node
    }

    fn begin(&mut self) {
        let changes = self.planner.apply(self.cluster.events());
        self.network.follow(&self.planner.tables());
        let now = self.now();
        self.reconciler.complete(changes, &self.network, now);
    }

    pub fn now(&self) -> Instant {
        self.reconciler.tables().now
    }

    pub fn tables(&mut self) -> &mut FakeTables {
        &mut self.reconciler.tables
    }

    /// The agent dies; the cluster goes on, and another agent begins.
    pub fn restart(&mut self, events: &[Event], promise: impl Fn(&Verdicts, &Verdicts) -> Promise) {
        events.iter().for_each(|event| self.cluster.take(event));
        let mut tables = std::mem::replace(self.tables(), FakeTables::new());
        tables.sleep(PAUSE);
        let before = tables.verdicts();
        self.planner = planner(self.room);
        let realized = tables.realized();
        self.reconciler = PolicyReconciler::new(tables, realized);
        self.tables().faults.dies_after = None;
        let changes = self.planner.apply(self.cluster.events());
        self.network.follow(&self.planner.tables());
        self.tables().promise = promise(&before, &self.wanted());
        let now = self.now();
        self.reconciler.complete(changes, &self.network, now);
    }

    /// The agent dies; when another begins, nobody knows where the pods are.
    pub fn restart_without_ways(&mut self) {
        let mut tables = std::mem::replace(self.tables(), FakeTables::new());
        tables.sleep(PAUSE);
        self.planner = planner(self.room);
        let realized = tables.realized();
        self.reconciler = PolicyReconciler::new(tables, realized);
        let changes = self.planner.apply(self.cluster.events());
        self.network.forget_ways();
        let now = self.now();
        self.reconciler.complete(changes, &self.network, now);
    }

    /// Something changes.
    pub fn apply(&mut self, event: Event, promise: impl Fn(&Verdicts, &Verdicts) -> Promise) {
        self.cluster.take(&event);
        let before = self.tables().verdicts();
        let changes = self.planner.apply([event]);
        self.network.follow(&self.planner.tables());
        self.tables().promise = promise(&before, &self.wanted());
        let now = self.now();
        self.reconciler.apply(changes, &self.network, now);
    }

    /// What is not needed goes.
    pub fn collect(&mut self) {
        loop {
            self.tables().sleep(PAUSE);
            let changes = self.planner.collect();
            let is_over = changes.is_empty();
            let now = self.now();
            self.reconciler.apply(changes, &self.network, now);
            if is_over {
                break;
            }
        }
        self.settle();
    }

    /// What failed is tried again until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..6 {
            self.tables().sleep(PAUSE);
            let now = self.now();
            self.reconciler.retry(now);
        }
    }

    /// What the maps would say if they held what the planner wants.
    pub fn wanted(&self) -> Verdicts {
        let tables = self.planner.tables();
        let mut wanted = FakeTables::new();
        wanted.ports = tables.ports;
        wanted.rows = tables.rows;
        wanted.ranges = tables.ranges;
        wanted.peers = tables.peers;
        wanted.endpoints = self.wanted_endpoints();
        wanted.verdicts()
    }

    fn wanted_endpoints(&self) -> BTreeMap<IfIndex, EndpointRecord> {
        let endpoints = self.planner.tables().endpoints.into_iter();
        endpoints.map(|(name, endpoint)| (index_of(&name), record(&endpoint))).collect()
    }

    /// The maps hold what the planner wants, and nothing else.
    pub fn assert_exact(&self) {
        let (wanted, endpoints) = (self.planner.tables(), self.wanted_endpoints());
        let failures: Vec<_> = self.reconciler.failures().collect();
        let real = self.reconciler.tables();
        let context = &real.context;
        assert!(self.reconciler.is_settled(), "{context}: {failures:?}");
        assert_eq!(real.endpoints, endpoints, "{context}");
        assert_eq!(real.peers, wanted.peers, "{context}");
        assert_eq!(real.ranges, wanted.ranges, "{context}");
        assert_eq!(real.ports, wanted.ports, "{context}");
        assert_eq!(real.rows, wanted.rows, "{context}");
        assert!(!real.is_narrowed(), "{context}: the epoch stays");
    }
}

/// A verdict of before or of after.
pub fn either_or(before: &Verdicts, after: &Verdicts) -> Promise {
    Promise::EitherOr(Arc::new(before.clone()), Arc::new(after.clone()))
}

/// Nothing that neither before nor after allows.
pub fn never_open(before: &Verdicts, after: &Verdicts) -> Promise {
    Promise::NeverOpen(Arc::new(before.clone()), Arc::new(after.clone()))
}

/// Nothing but whole tables.
pub fn whole(_: &Verdicts, _: &Verdicts) -> Promise {
    Promise::Whole
}
