// SPDX-License-Identifier: Apache-2.0
//! Classes: all addresses for which the same predicates hold.
//!
//! A class is named by what holds, not by who is in it, so one whose addresses come and go keeps
//! its rows. Classes without addresses stay until they are collected.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    content::{hash_of, id_of, mixed},
    predicate::{PredicateId, Predicates},
    shared::Shared,
    table::ClassId,
};
use crate::model::policy::NamedPort;

/// What holds of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Signature {
    /// The predicates that hold, sorted.
    pub holds: Vec<PredicateId>,
    /// The ports that the pod names, of the names that rulesets in use ask for; sorted.
    pub ports: Vec<NamedPort>,
    /// It is an address for pods, but we do not know whose.
    pub is_unknown_pod: bool,
    /// There was no room for all pods and nodes, and some that have none may be among these.
    pub hides_peers: bool,
}

impl Signature {
    pub fn has(&self, predicate: PredicateId) -> bool {
        self.holds.binary_search(&predicate).is_ok()
    }

    /// The pod's port of that name is that port.
    pub fn names(&self, port: &NamedPort) -> bool {
        self.ports.binary_search(port).is_ok()
    }

    fn content(&self, predicates: &Predicates) -> u64 {
        // A sum, because ids tell nothing of the order of contents.
        let holds = self.holds.iter().map(|id| mixed(predicates.content(*id)));
        let ports = self.ports.iter().map(hash_of);
        let unknown = self.is_unknown_pod.then_some(0x9e37_79b9_7f4a_7c15);
        let hiding = self.hides_peers.then_some(0xbf58_476d_1ce4_e5b9);
        mixed(holds.chain(ports).chain(unknown).chain(hiding).fold(0, u64::wrapping_add))
    }
}

/// All classes.
#[derive(Debug)]
pub(super) struct Classes {
    known: Shared<ClassId, Signature, ()>,
    /// Those that had no users and have some.
    fresh: BTreeSet<ClassId>,
    /// Those that had users and have none.
    retired: BTreeSet<ClassId>,
}

impl Classes {
    /// Only that of addresses for which nothing holds.
    pub fn new() -> Self {
        let mut known = Shared::default();
        known.insert(ClassId::NOTHING, Arc::new(Signature::default()), ());
        Self { known, fresh: [ClassId::NOTHING].into(), retired: BTreeSet::new() }
    }

    /// The class of a signature, for one more user.
    pub fn acquire(&mut self, signature: Signature, predicates: &Predicates) -> ClassId {
        if let Some(id) = self.known.find(&signature) {
            self.acquire_again(id);
            return id;
        }
        let content = signature.content(predicates);
        let id = ClassId(id_of(content, 1, |id| self.known.has(ClassId(id))));
        self.known.insert(id, Arc::new(signature), ());
        self.fresh.insert(id);
        id
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// One more user of a class that is known.
    pub fn acquire_again(&mut self, id: ClassId) {
        if self.known.acquire(id) == Some(1) {
            self.fresh.insert(id);
        }
    }

    /// One user less.
    pub fn release(&mut self, id: ClassId) {
        if self.known.release(id) == Some(0) {
            self.retired.insert(id);
        }
    }

    /// The classes without users.
    pub fn unused(&self) -> Vec<ClassId> {
        self.known.unused()
    }

    /// Forgets those of some classes that have no users; returns them.
    pub fn forget(&mut self, classes: Vec<ClassId>) -> Vec<ClassId> {
        let mut gone = classes;
        gone.retain(|id| self.known.forget(*id).is_some());
        gone
    }

    /// The classes that have come into use, and those that have gone out of it, since the last call.
    pub fn take_changed(&mut self) -> (Vec<ClassId>, Vec<ClassId>) {
        let (fresh, retired) = (std::mem::take(&mut self.fresh), std::mem::take(&mut self.retired));
        let users = |id: &ClassId| self.known.users(*id);
        let fresh = fresh.into_iter().filter(|id| users(id) > 0).collect();
        (fresh, retired.into_iter().filter(|id| users(id) == 0).collect())
    }

    /// What holds of a class.
    pub fn signature(&self, id: ClassId) -> Option<&Arc<Signature>> {
        self.known.content(id)
    }

    /// Those that are in use, in the order of their ids.
    pub fn in_use(&self) -> impl Iterator<Item = ClassId> {
        let ids = self.known.iter().map(|(id, _)| id);
        ids.filter(|id| self.known.users(*id) > 0)
    }
}
