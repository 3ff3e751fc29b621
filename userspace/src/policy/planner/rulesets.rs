// SPDX-License-Identifier: Apache-2.0
//! What applies to this node's pods: from policies to rulesets, and their rows.

use std::{collections::BTreeSet, sync::Arc};

use super::{Planner, ProfileId, addresses::Flips, lowering::Builder, room::Admitted};
use crate::{
    model::policy::{ClusterNetworkPolicy, Direction, Enforcement, NamedPort, NetworkPolicy},
    policy::{
        answers::Answers,
        predicate::{Predicate, PredicateId},
        profile::{Applied, ProfileKey},
        resolution::NameUse,
        ruleset::{Ruleset, Standing},
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
    }

    /// Finds the rulesets of this node's pods of a profile.
    pub(super) fn compile(&mut self, id: ProfileId) {
        let Some(profile) = self.profiles.get(id).filter(|one| !one.local.is_empty()) else {
            return;
        };
        let (key, old) = (profile.key.clone(), profile.rulesets);
        let selecting = self.selecting(&key);
        let mut ruleset =
            |direction, peer| self.ruleset(&key, &selecting, Variant { direction, peer });
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
        if let Some(profile) = self.profiles.get_mut(id)
            && old != Some(applied)
        {
            profile.rulesets = Some(applied);
            self.dirty.endpoints.extend(profile.local.iter().cloned());
        }
    }

    /// The node has no pod of a profile any more, to which this applied.
    pub(super) fn give_up(&mut self, applied: Option<Applied>) {
        for ruleset in applied.iter().flat_map(Applied::ids) {
            self.rulesets.release(ruleset);
        }
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

    fn ruleset(&mut self, key: &ProfileKey, selecting: &Selecting, variant: Variant) -> RulesetId {
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
        let (id, rest) = self.rulesets.acquire(content, held, &self.predicates);
        rest.into_iter().for_each(|held| self.release(&held, &names));
        id
    }

    /// Whether a policy decides on this node that says this of itself.
    pub(super) fn enforcement(&self, own: Enforcement) -> Enforcement {
        match (self.options.enforcement, own) {
            (Enforcement::Enforced, own) => own,
            (Enforcement::Audited, _) => Enforcement::Audited,
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

    /// Makes the port classes and rows that are missing.
    pub(super) fn update_rows(&mut self, changes: &mut Changes, admitted: &Admitted) {
        let known = |class: &ClassId| Some((*class, &**self.classes.signature(*class)?));
        for (ids, classes) in
            [(&admitted.staying, &admitted.fresh), (&admitted.entering, &admitted.needed)]
        {
            if ids.is_empty() {
                continue;
            }
            let answers = Answers::new(classes.iter().filter_map(known));
            for id in ids {
                let Some(ruleset) = self.rulesets.get_mut(*id) else { continue };
                if !std::mem::replace(&mut ruleset.has_ports, true) {
                    let ports = ruleset.ports.iter();
                    changes.ports.extend(ports.map(|(prefix, class)| ((*id, *prefix), *class)));
                }
                let missing =
                    answers.rows(ruleset).filter(|(class, _)| !ruleset.rows.contains_key(class));
                let rows: Vec<_> = missing.collect();
                changes.rows.extend(rows.iter().map(|(class, row)| ((*id, *class), **row)));
                match ruleset.rows.is_empty() {
                    true => ruleset.rows = rows.into_iter().collect(),
                    false => ruleset.rows.extend(rows),
                }
            }
        }
    }

    /// Some ruleset that was there before allows less to an address that has another class now.
    pub(super) fn narrows(&self, flips: &Flips, admitted: &Admitted) -> bool {
        let known = self.rulesets.iter().filter(|(id, ruleset)| {
            ruleset.standing == Standing::Whole && !admitted.entering.contains(id)
        });
        known.into_iter().any(|(_, ruleset)| {
            flips.iter().any(|(old, new)| match (ruleset.rows.get(old), ruleset.rows.get(new)) {
                (Some(old), Some(new)) => old.is_narrowed_by(new),
                // Never happens; if it did, looking again does no harm.
                (None, _) | (_, None) => true,
            })
        })
    }

    pub(super) fn collect_rulesets(&mut self, unused: Vec<RulesetId>, gone: &mut Changes) {
        for id in unused {
            let Some(mut ruleset) = self.rulesets.forget(id) else { continue };
            take_entries(id, &mut ruleset, gone);
            self.release(&ruleset.predicates, &ruleset.content.names);
        }
    }

    /// Takes the entries of rulesets away that nothing leads to since they were closed.
    pub(super) fn collect_closed(&mut self, closed: Vec<RulesetId>, gone: &mut Changes) {
        for id in closed {
            let Some(ruleset) = self.rulesets.get_mut(id) else { continue };
            if let Standing::Closed(_) = ruleset.standing {
                take_entries(id, ruleset, gone);
            }
        }
    }

    pub(super) fn collect_classes(&mut self, unused: Vec<ClassId>, gone: &mut Changes) {
        let classes = self.classes.forget(unused);
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

fn take_entries(id: RulesetId, ruleset: &mut Ruleset, gone: &mut Changes) {
    let rows = std::mem::take(&mut ruleset.rows);
    gone.gone_rows.extend(rows.into_keys().map(|class| (id, class)));
    if std::mem::take(&mut ruleset.has_ports) {
        gone.gone_ports.extend(ruleset.ports.iter().map(|(prefix, _)| (id, *prefix)));
    }
}
