// SPDX-License-Identifier: Apache-2.0
//! What others may ask: the tables as a whole, names for verdicts, what could not be done.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{Planner, ProfileId, rulesets::PeerKind};
use crate::{
    model::{
        name::{Kind, ObjectName, ObjectRef},
        policy::{Direction, Enforcement},
    },
    policy::{
        explain::{Explanation, PolicyUse, Reading, Why},
        profile::{Applied, Profile},
        ruleset::ClosedReason,
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
        let rulesets = self.rulesets.iter();
        let (ports, rows) = rulesets.fold((0, 0), |(ports, rows), (_, ruleset)| {
            (ports + ruleset.ports.len(), rows + ruleset.rows.len())
        });
        Sizes {
            ports,
            rows,
            ranges: self.ranges.entries().len(),
            peers: self.addresses.len(),
            endpoints: self.endpoints.len(),
        }
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
        let closed = self.closed.iter();
        // What is said of a pod's peers is true of itself as a peer.
        let closed = closed.filter(|((_, variant), _)| variant.peer == PeerKind::Other);
        let problem = |id: ProfileId, direction, reason| {
            let pods = self.profiles.get(id)?.local.iter().cloned().collect();
            Some(Problem { pods, direction, reason })
        };
        closed
            .filter_map(|((id, variant), closed)| problem(*id, variant.direction, closed.reason))
            .collect()
    }

    /// What became of each policy on this node.
    pub fn policies(&self) -> Vec<PolicyUse> {
        let network = self.network_policies.values().flatten().map(|(name, policy)| {
            let is_subject = |profile: &Profile| {
                *profile.key.namespace == *name.namespace()
                    && policy.subject.matches(&profile.key.labels)
            };
            self.policy_use(Kind::NetworkPolicy, name, policy.enforcement, is_subject)
        });
        let cluster = self.cluster_policies.iter().map(|(name, policy)| {
            let is_subject = |profile: &Profile| {
                let labels = self.namespace_labels(&profile.key.namespace);
                policy.subject.matches(&labels, &profile.key.labels)
            };
            self.policy_use(Kind::ClusterNetworkPolicy, name, policy.enforcement, is_subject)
        });
        let mut found: Vec<PolicyUse> = network.chain(cluster).collect();
        found.sort_by(|a, b| a.policy.cmp(&b.policy));
        found
    }

    fn policy_use(
        &self,
        kind: Kind,
        name: &ObjectName,
        enforcement: Enforcement,
        is_subject: impl Fn(&Profile) -> bool,
    ) -> PolicyUse {
        let local = self.profiles.iter().map(|(_, profile)| profile);
        let subjects: Vec<&Profile> =
            local.filter(|profile| !profile.local.is_empty() && is_subject(profile)).collect();
        let applied = subjects.iter().filter_map(|profile| profile.rulesets);
        let ids: BTreeSet<RulesetId> = applied.flat_map(|one: Applied| one.ids()).collect();
        let is_part = |id: &RulesetId| {
            self.rulesets.get(*id).is_some_and(|ruleset| {
                let rules = ruleset.content.tiers().into_iter().flatten();
                ruleset.content.isolating.iter().any(|(one, _)| one == name)
                    || rules.into_iter().any(|rule| rule.policy == *name)
            })
        };
        let rulesets: Box<[RulesetId]> = ids.into_iter().filter(is_part).collect();
        let rows = rulesets.iter().filter_map(|id| Some(self.rulesets.get(*id)?.rows.len())).sum();
        let mut pods: Vec<_> = subjects.iter().flat_map(|one| one.local.iter().cloned()).collect();
        pods.sort_unstable();
        let policy = ObjectRef::new(kind, name.clone());
        PolicyUse { policy, enforcement, pods: pods.into(), rulesets, rows }
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
