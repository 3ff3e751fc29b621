// SPDX-License-Identifier: Apache-2.0
//! What applies to this node's pods: from policies to rulesets, and their rows.

use std::{collections::BTreeSet, sync::Arc};

use super::{Planner, ProfileId, lowering::Builder};
use crate::{
    model::policy::{ClusterNetworkPolicy, Direction, NamedPort, NetworkPolicy},
    policy::{
        answers::Answers,
        predicate::{Predicate, PredicateId},
        profile::{Applied, ProfileKey},
        resolution::NameUse,
        ruleset::{Acquired, Budget, ClosedReason},
        table::{Changes, ClassId, RulesetId},
    },
};

/// Which of a pod's rulesets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Variant {
    pub direction: Direction,
    pub peer: PeerKind,
}

/// Whether the peer is the pod itself, by way of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PeerKind {
    Other,
    Itself,
}

/// What a ruleset holds that could not be made.
#[derive(Debug)]
pub(super) struct Closed {
    pub reason: ClosedReason,
    held: Vec<PredicateId>,
    names: Vec<NameUse>,
}

/// The policies that select a pod.
pub(super) struct Selecting {
    pub network: Vec<Arc<NetworkPolicy>>,
    /// In the order of their evaluation.
    pub cluster: Vec<Arc<ClusterNetworkPolicy>>,
}

impl Planner {
    /// Marks what has to be compiled again because a name means other ports.
    pub(super) fn note_new_meanings(&mut self) {
        let changed = self.resolutions.take_changed();
        if changed.is_empty() {
            return;
        }
        let asks = |id: &RulesetId| {
            let names = self.rulesets.get(*id).map(|ruleset| &ruleset.content.names);
            names.is_some_and(|names| names.iter().any(|name| changed.contains(name)))
        };
        let applied = self.profiles.iter().filter(|(_, profile)| {
            profile.rulesets.is_some_and(|applied| applied.ids().iter().any(asks))
        });
        self.dirty.profiles.extend(applied.map(|(id, _)| id));
        let closed = self.closed.iter();
        let asking = closed.filter(|(_, closed)| closed.names.iter().any(|n| changed.contains(n)));
        self.dirty.profiles.extend(asking.map(|((id, _), _)| *id));
    }

    /// Finds the rulesets of this node's pods of a profile.
    pub(super) fn compile(&mut self, id: ProfileId) {
        let Some(profile) = self.profiles.get(id).filter(|one| !one.local.is_empty()) else {
            return;
        };
        let (key, old) = (profile.key.clone(), profile.rulesets);
        let selecting = self.selecting(&key);
        let old_closed = self.take_closed(id);
        let mut ruleset =
            |direction, peer| self.ruleset(id, &key, &selecting, Variant { direction, peer });
        let applied = Applied {
            egress: ruleset(Direction::Egress, PeerKind::Other),
            ingress: ruleset(Direction::Ingress, PeerKind::Other),
            hairpin_egress: ruleset(Direction::Egress, PeerKind::Itself),
            hairpin_ingress: ruleset(Direction::Ingress, PeerKind::Itself),
        };
        // The new ones are held before the old ones are released: they may share everything.
        for ruleset in old.iter().flat_map(Applied::ids) {
            self.rulesets.release(ruleset);
        }
        old_closed.into_iter().for_each(|closed| self.release(&closed.held, &closed.names));
        if let Some(profile) = self.profiles.get_mut(id)
            && old != Some(applied)
        {
            profile.rulesets = Some(applied);
            self.dirty.endpoints.extend(profile.local.iter().cloned());
        }
    }

    /// The node has no pod of the profile any more.
    pub(super) fn give_up(&mut self, profile: ProfileId, applied: Option<Applied>) {
        for ruleset in applied.iter().flat_map(Applied::ids) {
            self.rulesets.release(ruleset);
        }
        let closed = self.take_closed(profile);
        closed.into_iter().for_each(|closed| self.release(&closed.held, &closed.names));
    }

    /// Some room was made: what was closed for want of it is tried again with the next change.
    pub(super) fn try_closed_again(&mut self) {
        let lacking = self.closed.iter().filter(|(_, closed)| match closed.reason {
            ClosedReason::TooManyPortClasses(_) => false,
            ClosedReason::NoRoomForPorts { .. } | ClosedReason::NoRoomForRows { .. } => true,
        });
        self.dirty.profiles.extend(lacking.map(|((id, _), _)| *id));
    }

    fn take_closed(&mut self, profile: ProfileId) -> Vec<Closed> {
        let own = self.closed.extract_if(.., |(id, _), _| *id == profile);
        own.map(|(_, closed)| closed).collect()
    }

    fn selecting(&self, key: &ProfileKey) -> Selecting {
        let labels = self.namespace_labels(&key.namespace);
        let network = self.network_policies.get(&key.namespace).into_iter().flatten();
        let network = network.filter(|(_, policy)| policy.subject.matches(&key.labels));
        let cluster = self.cluster_policies.values();
        let cluster = cluster.filter(|policy| policy.subject.matches(&labels, &key.labels));
        let mut cluster: Vec<_> = cluster.cloned().collect();
        // The sort is stable, and they come by name.
        cluster.sort_by_key(|policy| policy.priority);
        Selecting { network: network.map(|(_, policy)| policy.clone()).collect(), cluster }
    }

    fn ruleset(
        &mut self,
        id: ProfileId,
        key: &ProfileKey,
        selecting: &Selecting,
        variant: Variant,
    ) -> RulesetId {
        let mut builder = Builder::new(self);
        let mut content = builder.content(key, selecting, variant);
        let Builder { held, names, .. } = builder;
        content.names = names.into_iter().collect();
        if content.is_open() {
            self.release(&held, &content.names);
            return RulesetId::OPEN;
        }
        // What only dead rules ask for is not needed, and whoever shares the content may not have it.
        let needed = content.predicates();
        let (held, rest): (Vec<_>, Vec<_>) = held.into_iter().partition(|id| needed.contains(id));
        self.release(&rest, &[]);
        let names = content.names.clone();
        let budget = Budget { room: self.options.room, classes: self.classes.len() };
        match self.rulesets.acquire(content, held, &self.predicates, budget) {
            Acquired::New(id) => id,
            Acquired::Shared(id, held) => {
                self.release(&held, &names);
                id
            }
            Acquired::Refused(reason, held) => {
                self.closed.insert((id, variant), Closed { reason, held, names });
                RulesetId::CLOSED
            }
        }
    }

    fn release(&mut self, held: &[PredicateId], names: &[NameUse]) {
        held.iter().for_each(|id| self.predicates.release(*id));
        names.iter().for_each(|name| self.resolutions.release(name));
    }

    /// Answers a new predicate for everything that is known.
    pub(super) fn answer(&mut self, id: PredicateId, predicate: &Predicate) {
        self.dirty.questions = true;
        match predicate {
            Predicate::Pods(namespaces, pods) => {
                let among: BTreeSet<Arc<str>> = self
                    .profiles
                    .namespaces()
                    .filter(|name| namespaces.contains(name, &self.namespace_labels(name)))
                    .cloned()
                    .collect();
                let profiles: Vec<ProfileId> =
                    among.iter().flat_map(|name| self.profiles.of_namespace(name)).collect();
                for profile in profiles {
                    if let Some(known) = self.profiles.get_mut(profile)
                        && pods.matches(&known.key.labels)
                    {
                        known.truth.push(id);
                        self.mark_addresses_of(profile);
                    }
                }
            }
            Predicate::Nodes(selector) => {
                let nodes = self.nodes.values_mut();
                for known in nodes.filter(|known| selector.matches(&known.node.labels)) {
                    known.truth.push(id);
                    self.dirty.addresses.extend(known.node.ips());
                }
            }
            Predicate::Block(_) => self.dirty.ranges = true,
        }
    }

    /// Marks the pods that give a port this name.
    pub(super) fn mark_named(&mut self, name: &str) {
        let has = |port: &NamedPort| *port.name == *name;
        let profiles = self.profiles.iter().filter(|(_, one)| one.key.ports.iter().any(has));
        for profile in profiles.map(|(id, _)| id).collect::<Vec<_>>() {
            self.mark_addresses_of(profile);
        }
    }

    /// Makes the rows of new rulesets and of new classes; returns the former.
    pub(super) fn update_rows(&mut self, changes: &mut Changes) -> BTreeSet<RulesetId> {
        let fresh: BTreeSet<RulesetId> = self.rulesets.take_fresh().into_iter().collect();
        let fresh_classes = self.classes.take_fresh();
        let classes: Vec<ClassId> = match fresh.is_empty() {
            true => Vec::new(),
            false => self.classes.iter().map(|(id, _)| id).collect(),
        };
        let known = |class: ClassId| Some((class, &**self.classes.signature(class)?));
        let all = Answers::new(classes.into_iter().filter_map(known));
        let newest = Answers::new(fresh_classes.into_iter().filter_map(known));
        for (id, ruleset) in self.rulesets.iter_mut() {
            let is_new = fresh.contains(&id);
            if is_new {
                let ports = ruleset.ports.iter();
                changes.ports.extend(ports.map(|(prefix, class)| ((id, *prefix), *class)));
            }
            let rows: Vec<_> = if is_new { &all } else { &newest }.rows(ruleset).collect();
            changes.rows.extend(rows.iter().map(|(class, row)| ((id, *class), **row)));
            ruleset.rows.extend(rows);
        }
        fresh
    }

    /// Some ruleset that was there before allows less to an address that has another class now.
    pub(super) fn narrows(
        &self,
        flips: &BTreeSet<(ClassId, ClassId)>,
        fresh: &BTreeSet<RulesetId>,
    ) -> bool {
        self.rulesets.iter().filter(|(id, _)| !fresh.contains(id)).any(|(_, ruleset)| {
            flips.iter().any(|(old, new)| match (ruleset.rows.get(old), ruleset.rows.get(new)) {
                (Some(old), Some(new)) => old.is_narrowed_by(new),
                // Never happens; if it did, looking again does no harm.
                (None, _) | (_, None) => true,
            })
        })
    }

    pub(super) fn collect_rulesets(&mut self, gone: &mut Changes) {
        for (id, ruleset) in self.rulesets.collect() {
            gone.gone_rows.extend(ruleset.rows.keys().map(|class| (id, *class)));
            gone.gone_ports.extend(ruleset.ports.iter().map(|(prefix, _)| (id, *prefix)));
            self.release(&ruleset.predicates, &ruleset.content.names);
        }
    }

    pub(super) fn collect_classes(&mut self, gone: &mut Changes) {
        let classes = self.classes.collect();
        for (id, ruleset) in self.rulesets.iter_mut() {
            let rows = classes.iter().filter(|class| ruleset.rows.remove(class).is_some());
            gone.gone_rows.extend(rows.map(|class| (id, *class)));
        }
    }

    /// Forgets what nothing asks for, so that classes which only that told apart become one.
    pub(super) fn collect_predicates(&mut self) {
        for name in self.resolutions.collect() {
            self.mark_named(&name);
        }
        for (id, predicate) in self.predicates.collect() {
            match &*predicate {
                Predicate::Pods(..) => {
                    let mut held = Vec::new();
                    for (profile, known) in self.profiles.iter_mut() {
                        if let Ok(at) = known.truth.binary_search(&id) {
                            known.truth.remove(at);
                            held.push(profile);
                        }
                    }
                    held.into_iter().for_each(|profile| self.mark_addresses_of(profile));
                }
                Predicate::Nodes(_) => {
                    for known in self.nodes.values_mut() {
                        if let Ok(at) = known.truth.binary_search(&id) {
                            known.truth.remove(at);
                            self.dirty.addresses.extend(known.node.ips());
                        }
                    }
                }
                Predicate::Block(_) => self.dirty.ranges = true,
            }
        }
    }
}
