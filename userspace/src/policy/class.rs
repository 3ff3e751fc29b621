// SPDX-License-Identifier: Apache-2.0
//! Classes: all addresses for which the same predicates hold.
//!
//! A class is named by what holds, not by who is in it, so one whose addresses come and go keeps
//! its rows. Classes without addresses stay until they are collected.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    content::{hash_of, id_of, mixed},
    predicate::{PredicateId, Predicates},
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
        let flag = self.is_unknown_pod.then_some(0x9e37_79b9_7f4a_7c15);
        mixed(holds.chain(ports).chain(flag).fold(0, u64::wrapping_add))
    }
}

#[derive(Debug)]
struct Entry {
    signature: Arc<Signature>,
    users: usize,
}

/// All classes.
#[derive(Debug)]
pub(super) struct Classes {
    known: BTreeMap<ClassId, Entry>,
    ids: HashMap<Arc<Signature>, ClassId>,
    fresh: Vec<ClassId>,
}

impl Classes {
    /// Only that of addresses for which nothing holds.
    pub fn new() -> Self {
        let signature = Arc::new(Signature::default());
        Self {
            known: [(ClassId::NOTHING, Entry { signature: signature.clone(), users: 1 })].into(),
            ids: [(signature, ClassId::NOTHING)].into(),
            fresh: vec![ClassId::NOTHING],
        }
    }

    /// The class of a signature, for one more user.
    pub fn acquire(&mut self, signature: Signature, predicates: &Predicates) -> ClassId {
        if let Some(id) = self.ids.get(&signature) {
            if let Some(entry) = self.known.get_mut(id) {
                entry.users += 1;
            }
            return *id;
        }
        let content = signature.content(predicates);
        let id = ClassId(id_of(content, 1, |id| self.known.contains_key(&ClassId(id))));
        let signature = Arc::new(signature);
        self.ids.insert(signature.clone(), id);
        self.known.insert(id, Entry { signature, users: 1 });
        self.fresh.push(id);
        id
    }

    /// One user less.
    pub fn release(&mut self, id: ClassId) {
        if let Some(entry) = self.known.get_mut(&id) {
            entry.users -= 1;
        }
    }

    /// Drops and returns the classes without users.
    pub fn collect(&mut self) -> Vec<ClassId> {
        let unused: Vec<_> = self.known.extract_if(.., |_, entry| entry.users == 0).collect();
        for (_, entry) in &unused {
            self.ids.remove(&entry.signature);
        }
        unused.into_iter().map(|(id, _)| id).collect()
    }

    /// The classes that are new since the last call.
    pub fn take_fresh(&mut self) -> Vec<ClassId> {
        std::mem::take(&mut self.fresh)
    }

    /// What holds of a class.
    pub fn signature(&self, id: ClassId) -> Option<&Arc<Signature>> {
        self.known.get(&id).map(|entry| &entry.signature)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (ClassId, &Arc<Signature>)> {
        self.known.iter().map(|(id, entry)| (*id, &entry.signature))
    }
}
