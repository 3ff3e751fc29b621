// SPDX-License-Identifier: Apache-2.0
//! What the policies that select a pod ask: peers and names get numbers, and are asked for.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Planner,
    rulesets::{PeerKind, Selecting, Variant},
};
use crate::{
    model::{
        name::ObjectName,
        policy::{Direction, Enforcement, Isolation, NamedPort, NetworkPolicy, Peer, Tier},
    },
    policy::{
        lower::{
            Content, Destination, LoweredRule, Names, NamespaceRules, Origin, cluster_rule,
            network_rule,
        },
        predicate::{Predicate, PredicateId},
        profile::ProfileKey,
        resolution::NameUse,
    },
};

/// Gives peers and names their numbers, and remembers what was asked for.
pub(super) struct Builder<'a> {
    planner: &'a mut Planner,
    /// The predicates that were asked for, each time.
    pub held: Vec<PredicateId>,
    /// The names that were asked for.
    pub names: BTreeSet<NameUse>,
}

impl<'a> Builder<'a> {
    pub fn new(planner: &'a mut Planner) -> Self {
        Self { planner, held: Vec::new(), names: BTreeSet::new() }
    }

    /// What applies to the pods of a profile.
    pub fn content(
        &mut self,
        key: &ProfileKey,
        selecting: &Selecting,
        variant: Variant,
    ) -> Content {
        let Variant { direction, peer } = variant;
        let destination = match direction {
            Direction::Ingress => Destination::Own(&key.ports),
            Direction::Egress => Destination::Peer,
        };
        let isolates = |policy: &&Arc<NetworkPolicy>| match policy.isolation(direction) {
            Isolation::None => false,
            Isolation::Except(_) => true,
        };
        let isolating = selecting.network.iter().filter(isolates);
        let isolating = isolating.map(|one| (one.name.clone(), self.enforcement(one.enforcement)));
        let isolating: Vec<(ObjectName, Enforcement)> = isolating.collect();
        let (isolating, namespace) = match peer {
            PeerKind::Other => {
                let rules = self.network_rules(selecting, direction, destination);
                (isolating, NamespaceRules::Union(rules))
            }
            // Whoever isolates it, a pod reaches itself: pods of many namespaces share that.
            PeerKind::Itself => {
                let strongest = isolating.into_iter().map(|(_, by)| by).min();
                (Vec::new(), NamespaceRules::Itself(strongest))
            }
        };
        Content {
            direction,
            isolating,
            admin: self.cluster_rules(selecting, Tier::Admin, direction, destination),
            namespace,
            baseline: self.cluster_rules(selecting, Tier::Baseline, direction, destination),
            names: Vec::new(),
        }
    }

    fn network_rules(
        &mut self,
        selecting: &Selecting,
        direction: Direction,
        destination: Destination<'_>,
    ) -> Vec<LoweredRule> {
        let mut lowered = Vec::new();
        for policy in &selecting.network {
            let Isolation::Except(rules) = policy.isolation(direction) else { continue };
            for (index, rule) in rules.iter().enumerate() {
                let enforcement = self.enforcement(policy.enforcement);
                let origin = Origin { policy: &policy.name, index, enforcement };
                lowered.extend(network_rule(rule, &origin, destination, self));
            }
        }
        lowered
    }

    fn cluster_rules(
        &mut self,
        selecting: &Selecting,
        tier: Tier,
        direction: Direction,
        destination: Destination<'_>,
    ) -> Vec<LoweredRule> {
        let mut lowered = Vec::new();
        for policy in selecting.cluster.iter().filter(|policy| policy.tier == tier) {
            for (index, rule) in policy.rules(direction).iter().enumerate() {
                let enforcement = self.enforcement(policy.enforcement);
                let origin = Origin { policy: &policy.name, index, enforcement };
                lowered.extend(cluster_rule(rule, &origin, destination, self));
            }
        }
        lowered
    }

    fn enforcement(&self, own: Enforcement) -> Enforcement {
        self.planner.enforcement(own)
    }
}

impl Names for Builder<'_> {
    fn predicate(&mut self, peer: &Peer) -> Option<PredicateId> {
        let predicate = match peer {
            Peer::Pods { namespaces, pods } => Predicate::Pods(namespaces.clone(), pods.clone()),
            Peer::Nodes(selector) => Predicate::Nodes(selector.clone()),
            Peer::Block(block) => Predicate::Block(block.clone()),
            Peer::Unknown => return None,
        };
        let (id, is_new) = self.planner.predicates.acquire(predicate.clone());
        if is_new {
            self.planner.answer(id, &predicate);
        }
        self.held.push(id);
        Some(id)
    }

    fn resolve(&mut self, mut key: NameUse) -> Vec<NamedPort> {
        match key.of.and_then(|id| self.planner.predicates.get(id)) {
            // Which pods have an address in a block is not a question of their profiles: ask all.
            Some(Predicate::Block(_)) => key.of = None,
            Some(Predicate::Nodes(_)) => return Vec::new(),
            Some(Predicate::Pods(..)) | None => {}
        }
        if !self.names.contains(&key) {
            let profiles = self.planner.profiles.iter().map(|(_, profile)| profile);
            if self.planner.resolutions.acquire(&key, profiles) {
                self.planner.dirty.questions = true;
                self.planner.mark_named(&key.name);
            }
            self.names.insert(key.clone());
        }
        self.planner.resolutions.ports(&key).collect()
    }
}
