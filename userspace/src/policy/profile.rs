// SPDX-License-Identifier: Apache-2.0
//! Pods that no policy can tell apart but by address: those of one namespace with the same labels
//! and the same named ports.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{predicate::PredicateId, table::RulesetId};
use crate::model::{
    cluster::Pod,
    name::ObjectName,
    policy::{Labels, NamedPort},
};

/// The number of a profile, within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProfileId(u32);

/// What policies see of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProfileKey {
    pub namespace: Arc<str>,
    pub labels: Labels,
    pub ports: Arc<[NamedPort]>,
}

impl ProfileKey {
    pub fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.name.namespace().into(),
            labels: pod.labels.clone(),
            ports: pod.ports.clone(),
        }
    }
}

/// Pods of one kind.
#[derive(Debug)]
pub(super) struct Profile {
    pub key: Arc<ProfileKey>,
    pub pods: BTreeSet<ObjectName>,
    /// Those of this node.
    pub local: BTreeSet<ObjectName>,
    /// The predicates about pods that hold, sorted.
    pub truth: Vec<PredicateId>,
    /// What applies to those of this node; `None` if that has not been compiled.
    pub rulesets: Option<Applied>,
}

/// What applies to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    pub egress: RulesetId,
    pub ingress: RulesetId,
    pub hairpin_egress: RulesetId,
    pub hairpin_ingress: RulesetId,
}

impl Applied {
    pub fn ids(&self) -> [RulesetId; 4] {
        [self.egress, self.ingress, self.hairpin_egress, self.hairpin_ingress]
    }
}

/// All profiles that pods have.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    known: BTreeMap<ProfileId, Profile>,
    ids: HashMap<Arc<ProfileKey>, ProfileId>,
    by_namespace: HashMap<Arc<str>, BTreeSet<ProfileId>>,
    next: u32,
}

impl Profiles {
    /// The profile of a key; `true` if it is new.
    pub fn intern(&mut self, key: ProfileKey) -> (ProfileId, bool) {
        if let Some(id) = self.ids.get(&key) {
            return (*id, false);
        }
        let id = ProfileId(self.next);
        self.next += 1;
        let key = Arc::new(key);
        self.ids.insert(key.clone(), id);
        self.by_namespace.entry(key.namespace.clone()).or_default().insert(id);
        let profile = Profile {
            key,
            pods: BTreeSet::new(),
            local: BTreeSet::new(),
            truth: Vec::new(),
            rulesets: None,
        };
        self.known.insert(id, profile);
        (id, true)
    }

    pub fn get(&self, id: ProfileId) -> Option<&Profile> {
        self.known.get(&id)
    }

    pub fn get_mut(&mut self, id: ProfileId) -> Option<&mut Profile> {
        self.known.get_mut(&id)
    }

    pub fn remove(&mut self, id: ProfileId) -> Option<Profile> {
        let profile = self.known.remove(&id)?;
        self.ids.remove(&profile.key);
        if let Some(siblings) = self.by_namespace.get_mut(&profile.key.namespace) {
            siblings.remove(&id);
            if siblings.is_empty() {
                self.by_namespace.remove(&profile.key.namespace);
            }
        }
        Some(profile)
    }

    /// The profiles of a namespace.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = ProfileId> + use<'_> {
        self.by_namespace.get(namespace).into_iter().flatten().copied()
    }

    /// The names of namespaces that have pods.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_namespace.keys()
    }

    pub fn iter(&self) -> impl Iterator<Item = (ProfileId, &Profile)> {
        self.known.iter().map(|(id, profile)| (*id, profile))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ProfileId, &mut Profile)> {
        self.known.iter_mut().map(|(id, profile)| (*id, profile))
    }
}
