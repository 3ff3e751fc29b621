// SPDX-License-Identifier: Apache-2.0
//! What the rulesets in use ask of a peer.
//!
//! Invariant: an id is never used again, so a list of ids grows at its end and stays sorted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::content::hash_of;
use crate::model::policy::{IpBlock, Namespaces, Selector};

/// The number of a predicate, within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PredicateId(u32);

/// A question about a peer that has the answers yes and no.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Predicate {
    /// It is a pod with such labels in such a namespace.
    Pods(Namespaces, Selector),
    /// It is a node with such labels.
    Nodes(Selector),
    /// Its address is in the block.
    Block(IpBlock),
}

#[derive(Debug)]
struct Entry {
    predicate: Arc<Predicate>,
    content: u64,
    users: usize,
}

/// All predicates in use.
#[derive(Debug, Default)]
pub(super) struct Predicates {
    known: BTreeMap<PredicateId, Entry>,
    ids: HashMap<Arc<Predicate>, PredicateId>,
    next: u32,
}

impl Predicates {
    /// The id of a predicate, for one more user; `true` if it is new.
    pub fn acquire(&mut self, predicate: Predicate) -> (PredicateId, bool) {
        if let Some(id) = self.ids.get(&predicate) {
            if let Some(entry) = self.known.get_mut(id) {
                entry.users += 1;
            }
            return (*id, false);
        }
        let id = PredicateId(self.next);
        self.next += 1;
        let (content, predicate) = (hash_of(&predicate), Arc::new(predicate));
        self.ids.insert(predicate.clone(), id);
        self.known.insert(id, Entry { predicate, content, users: 1 });
        (id, true)
    }

    /// One user less. The predicate stays until [`Self::collect`].
    pub fn release(&mut self, id: PredicateId) {
        if let Some(entry) = self.known.get_mut(&id) {
            entry.users -= 1;
        }
    }

    /// Drops and returns the predicates without users.
    pub fn collect(&mut self) -> Vec<(PredicateId, Arc<Predicate>)> {
        let unused: Vec<_> = self.known.extract_if(.., |_, entry| entry.users == 0).collect();
        for (_, entry) in &unused {
            self.ids.remove(&entry.predicate);
        }
        unused.into_iter().map(|(id, entry)| (id, entry.predicate)).collect()
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (PredicateId, &Predicate)> {
        self.known.iter().map(|(id, entry)| (*id, &*entry.predicate))
    }

    /// What a predicate asks.
    pub fn get(&self, id: PredicateId) -> Option<&Predicate> {
        self.known.get(&id).map(|entry| &*entry.predicate)
    }

    /// The hash of a predicate's content.
    pub fn content(&self, id: PredicateId) -> u64 {
        self.known.get(&id).map_or(0, |entry| entry.content)
    }
}
