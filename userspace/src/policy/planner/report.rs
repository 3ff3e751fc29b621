// SPDX-License-Identifier: Apache-2.0
//! What others may ask: the tables as a whole, names for verdicts, what could not be done.

use std::{collections::BTreeSet, net::IpAddr};

use thiserror::Error;

use super::Planner;
use crate::{
    model::{
        name::{Kind, ObjectName, ObjectRef},
        policy::{Direction, Enforcement, Tier},
    },
    policy::{
        explain::{Explanation, PolicyUse, Reading, Why},
        profile::{Applied, Profile},
        ruleset::{ClosedReason, Standing},
        table::{ClassId, RulesetId, Sizes, Tables},
    },
};

/// Something that is closed because it cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{direction} of {pods} is closed: {reason}",
    direction = direction.as_str(),
    pods = listed(pods)
)]
pub struct Problem {
    /// The pods that it is about.
    pub pods: Box<[ObjectName]>,
    /// The direction.
    pub direction: Direction,
    /// Why.
    pub reason: ClosedReason,
}

fn listed(pods: &[ObjectName]) -> String {
    match pods {
        [] => "no pod".to_owned(),
        [pod] => format!("Pod {pod}"),
        [pod, rest @ ..] => format!("Pod {pod} and {} more", rest.len()),
    }
}

impl Planner {
    /// Everything that the tables hold.
    pub fn tables(&self) -> Tables {
        let mut tables = Tables {
            ranges: self.ranges.entries().clone(),
            endpoints: self.endpoints.clone(),
            ..Tables::default()
        };
        for (id, ruleset) in self.rulesets.iter() {
            let ports = ruleset.ports.iter();
            let ports = ports.filter(|_| ruleset.has_ports);
            tables.ports.extend(ports.map(|(prefix, class)| ((id, *prefix), *class)));
            tables.rows.extend(ruleset.rows.iter().map(|(class, row)| ((id, *class), **row)));
        }
        let peers = self.addresses.iter();
        tables.peers.extend(peers.filter_map(|(ip, address)| Some((*ip, address.class?))));
        tables
    }

    /// How many entries the tables have; cheap, to be compared with the room there is before
    /// anything is written.
    pub fn sizes(&self) -> Sizes {
        let (ports, rows) = self.rulesets.entries();
        Sizes {
            ports,
            rows,
            ranges: self.ranges.entries().len(),
            peers: self.placed.iter().sum(),
            endpoints: self.endpoints.len(),
        }
    }

    /// Addresses of pods and nodes for which there is no room: they are judged as those of pods
    /// that we do not know, and what may keep such pods out does.
    pub fn unplaced(&self) -> impl Iterator<Item = IpAddr> {
        self.unplaced.iter().copied()
    }

    /// Names what gave a verdict; `None` if the ruleset is closed or not known (any more).
    pub fn explain(
        &self,
        ruleset: RulesetId,
        class: ClassId,
        port_class: u8,
        reading: Reading,
    ) -> Option<Explanation> {
        let ruleset = self.rulesets.get(ruleset)?;
        let signature = self.classes.signature(class)?;
        let decision = ruleset.decision(signature, port_class, reading)?;
        Some(Explanation::new(ruleset, decision, reading))
    }

    /// What is closed because it cannot be judged.
    pub fn problems(&self) -> Vec<Problem> {
        // Asked after every change, and mostly there are none.
        if !self.rulesets.has_closed() {
            return Vec::new();
        }
        let local = self.profiles.iter().filter(|(_, profile)| !profile.local.is_empty());
        let closed = local.flat_map(|(_, profile)| {
            Direction::ALL.into_iter().filter_map(move |direction| {
                let pods = profile.local.iter().cloned().collect();
                let reason = self.closed_reason(&profile.rulesets?, direction)?;
                Some(Problem { pods, direction, reason })
            })
        });
        closed.collect()
    }

    /// Why a direction of a pod is closed; `None` if it is not.
    pub(super) fn closed_reason(
        &self,
        applied: &Applied,
        direction: Direction,
    ) -> Option<ClosedReason> {
        let ids = match direction {
            Direction::Ingress => [applied.ingress, applied.hairpin_ingress],
            Direction::Egress => [applied.egress, applied.hairpin_egress],
        };
        ids.into_iter().find_map(|id| match self.rulesets.get(id)?.standing {
            Standing::Closed(reason) => Some(reason),
            Standing::Waiting | Standing::Whole => None,
        })
    }

    /// What became of each policy on this node.
    pub fn policies(&self) -> Vec<PolicyUse> {
        let network = self.network_policies.values().flatten().map(|(name, policy)| {
            let enforcement = self.enforcement(policy.enforcement);
            let is_subject = |profile: &Profile| {
                *profile.key.namespace == *name.namespace()
                    && policy.subject.matches(&profile.key.labels)
            };
            let policy = ObjectRef::new(Kind::NetworkPolicy, name.clone());
            let place = (Tier::NetworkPolicy, None);
            self.policy_use(policy, place, enforcement, is_subject)
        });
        let cluster = self.cluster_policies.iter().map(|(name, policy)| {
            let is_subject = |profile: &Profile| {
                let labels = self.namespace_labels(&profile.key.namespace);
                policy.subject.matches(&labels, &profile.key.labels)
            };
            let place = (policy.tier, Some(policy.priority));
            let enforcement = self.enforcement(policy.enforcement);
            let policy = ObjectRef::new(Kind::ClusterNetworkPolicy, name.clone());
            self.policy_use(policy, place, enforcement, is_subject)
        });
        let mut found: Vec<PolicyUse> = network.chain(cluster).collect();
        found.sort_by(|a, b| a.policy.cmp(&b.policy));
        found
    }

    fn policy_use(
        &self,
        policy: ObjectRef,
        (tier, priority): (Tier, Option<u16>),
        enforcement: Enforcement,
        is_subject: impl Fn(&Profile) -> bool,
    ) -> PolicyUse {
        let name = &policy.name;
        let local = self.profiles.iter().map(|(_, profile)| profile);
        let subjects: Vec<&Profile> =
            local.filter(|profile| !profile.local.is_empty() && is_subject(profile)).collect();
        let applied = subjects.iter().filter_map(|profile| profile.rulesets);
        let ids: BTreeSet<RulesetId> = applied.flat_map(|one: Applied| one.ids()).collect();
        let is_part = |id: &RulesetId| {
            self.rulesets.get(*id).is_some_and(|ruleset| {
                let is_closed = matches!(ruleset.standing, Standing::Closed(_));
                let rules = ruleset.content.tiers().into_iter().flatten();
                let mut isolating = ruleset.content.isolating.iter();
                !is_closed
                    && (isolating.any(|(one, _)| one == name)
                        || rules.into_iter().any(|rule| rule.policy == *name))
            })
        };
        let rulesets: Box<[RulesetId]> = ids.into_iter().filter(is_part).collect();
        let rows = rulesets.iter().filter_map(|id| Some(self.rulesets.get(*id)?.rows.len())).sum();
        let mut pods: Vec<_> = subjects.iter().flat_map(|one| one.local.iter().cloned()).collect();
        pods.sort_unstable();
        PolicyUse { tier, priority, enforcement, pods: pods.into(), rulesets, rows, policy }
    }
}

impl Why {
    /// The policies that it names.
    pub fn policies(&self) -> &[ObjectName] {
        match self {
            Self::Rule { policy, .. } => std::slice::from_ref(policy),
            Self::Isolated(policies) => policies,
            Self::Itself | Self::NoPolicy => &[],
        }
    }
}
