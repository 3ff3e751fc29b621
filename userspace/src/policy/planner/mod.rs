// SPDX-License-Identifier: Apache-2.0
//! What is known of the cluster, and what changes in the tables when it changes.
//!
//! [`Planner::apply`] only adds and redirects: rulesets, classes and predicates that nothing needs
//! any more stay until [`Planner::collect`], because programs may be in the middle of a look-up.
//! Invariant: after `collect` until nothing changes, the tables are those of a planner that was
//! told the same state at once.

mod addresses;
mod lowering;
mod objects;
mod report;
mod room;
mod rulesets;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use super::{
    class::Classes,
    predicate::{PredicateId, Predicates},
    prefix::PrefixMap,
    profile::{ProfileId, Profiles},
    range::Region,
    resolution::Resolutions,
    ruleset::Rulesets,
    table::{Changes, ClassId, Endpoint, Room},
};
use crate::model::{
    cidr::Cidr,
    cluster::{Node, Pod},
    event::Event,
    name::ObjectName,
    policy::{ClusterNetworkPolicy, Enforcement, Labels, NetworkPolicy},
};

pub use report::Problem;
pub use verdict::{Counts, Judgement, Party, Verdict};

/// What does not come from the cluster's objects.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of this node.
    pub node: Arc<str>,
    /// Ranges of pods' addresses, beside those that nodes have.
    pub pod_cidrs: Box<[Cidr]>,
    /// Whether policies decide that are not audited by themselves.
    pub enforcement: Enforcement,
    /// What does not fit in is closed or unknown, and what is there stays.
    pub room: Room,
}

/// The compiler's state.
#[derive(Debug)]
pub struct Planner {
    options: Options,
    is_synced: bool,
    namespaces: HashMap<Arc<str>, Labels>,
    pods: HashMap<ObjectName, KnownPod>,
    nodes: BTreeMap<ObjectName, KnownNode>,
    /// By namespace and name.
    network_policies: HashMap<Arc<str>, BTreeMap<ObjectName, Arc<NetworkPolicy>>>,
    cluster_policies: BTreeMap<ObjectName, Arc<ClusterNetworkPolicy>>,
    profiles: Profiles,
    predicates: Predicates,
    resolutions: Resolutions,
    rulesets: Rulesets,
    classes: Classes,
    regions: PrefixMap<Region>,
    ranges: PrefixMap<ClassId>,
    /// The ranges of pods of some family do not fit in.
    has_lost_ranges: bool,
    addresses: BTreeMap<IpAddr, Address>,
    /// How many addresses of each family have an entry.
    placed: [usize; 2],
    /// Addresses of pods and nodes for which there was no room.
    unplaced: BTreeSet<IpAddr>,
    endpoints: BTreeMap<ObjectName, Endpoint>,
    dirty: Dirty,
}

/// A pod that policies can see.
#[derive(Debug)]
struct KnownPod {
    pod: Arc<Pod>,
    profile: ProfileId,
}

#[derive(Debug)]
struct KnownNode {
    node: Arc<Node>,
    /// The predicates about nodes that hold, sorted.
    truth: Vec<PredicateId>,
}

/// Who claims an address, and what the tables say of it.
#[derive(Debug, Default)]
struct Address {
    nodes: BTreeSet<ObjectName>,
    pods: BTreeSet<ObjectName>,
    class: Option<ClassId>,
}

/// What has to be looked at again.
#[derive(Debug, Default)]
struct Dirty {
    addresses: BTreeSet<IpAddr>,
    profiles: BTreeSet<ProfileId>,
    endpoints: BTreeSet<ObjectName>,
    ranges: bool,
    /// Something is asked of peers that classes of before do not answer.
    questions: bool,
}

impl Planner {
    /// A planner that knows nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            is_synced: false,
            namespaces: HashMap::new(),
            pods: HashMap::new(),
            nodes: BTreeMap::new(),
            network_policies: HashMap::new(),
            cluster_policies: BTreeMap::new(),
            profiles: Profiles::default(),
            predicates: Predicates::default(),
            resolutions: Resolutions::default(),
            rulesets: Rulesets::default(),
            classes: Classes::new(),
            regions: PrefixMap::default(),
            ranges: PrefixMap::default(),
            has_lost_ranges: false,
            addresses: BTreeMap::new(),
            placed: [0; 2],
            unplaced: BTreeSet::new(),
            endpoints: BTreeMap::new(),
            dirty: Dirty { ranges: true, ..Dirty::default() },
        }
    }

    /// Takes what has changed in the cluster; nothing comes of it before [`Event::Synced`].
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Changes {
        for event in events {
            self.take(event);
        }
        if !self.is_synced {
            return Changes::default();
        }
        self.note_new_meanings();
        for profile in std::mem::take(&mut self.dirty.profiles) {
            self.compile(profile);
        }
        self.update(Changes::default())
    }

    /// Gives up what nothing has needed since the last call. To be called some time after the
    /// changes of [`Self::apply`] were written, again and again until there is nothing to do.
    pub fn collect(&mut self) -> Changes {
        let mut gone = Changes::default();
        if !self.is_synced {
            return gone;
        }
        let (rulesets, closed) = (self.rulesets.unused(), self.rulesets.closed());
        let classes = self.classes.unused();
        for profile in std::mem::take(&mut self.dirty.profiles) {
            self.compile(profile);
        }
        self.collect_rulesets(rulesets, &mut gone);
        self.collect_predicates();
        let mut changes = self.update(gone);
        self.collect_closed(closed, &mut changes);
        self.collect_classes(classes, &mut changes);
        changes
    }

    /// Brings the tables up to date; `changes` are entries that go at the end.
    fn update(&mut self, mut changes: Changes) -> Changes {
        let mut flips = BTreeSet::new();
        let hidden = self.place();
        let before = self.update_ranges(&mut changes, &hidden, &mut flips);
        self.update_peers(&mut changes, &before, &mut flips);
        let order = match std::mem::take(&mut self.dirty.questions) {
            true => Order::Late,
            false => Order::Early,
        };
        let admitted = self.admit(&changes, order);
        self.update_endpoints(&mut changes, order);
        self.update_rows(&mut changes, &admitted);
        changes.narrows = changes.narrows || self.narrows(&flips, &admitted);
        self.note_new_room(&changes, &hidden);
        changes
    }
}

/// When endpoints get new rulesets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Before addresses get new classes.
    Early,
    /// After that: the rulesets ask what classes of before do not answer.
    Late,
}
