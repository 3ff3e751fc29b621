// SPDX-License-Identifier: Apache-2.0
//! What the rulesets in use ask of a peer.
//!
//! Invariant: an id is never used again, so a list of ids grows at its end and stays sorted.

use std::sync::Arc;

use super::{content::hash_of, shared::Shared};
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

/// All predicates in use, each with the hash of its content.
#[derive(Debug, Default)]
pub(super) struct Predicates {
    known: Shared<PredicateId, Predicate, u64>,
    next: u32,
}

impl Predicates {
    /// The id of a predicate, for one more user; `true` if it is new.
    pub fn acquire(&mut self, predicate: Predicate) -> (PredicateId, bool) {
        if let Some(id) = self.known.find(&predicate) {
            self.known.acquire(id);
            return (id, false);
        }
        let id = PredicateId(self.next);
        self.next += 1;
        let content = hash_of(&predicate);
        self.known.insert(id, Arc::new(predicate), content);
        (id, true)
    }

    /// One user less. The predicate stays until [`Self::collect`].
    pub fn release(&mut self, id: PredicateId) {
        self.known.release(id);
    }

    /// Drops and returns the predicates without users.
    pub fn collect(&mut self) -> Vec<(PredicateId, Arc<Predicate>)> {
        let unused = self.known.unused().into_iter();
        unused.filter_map(|id| Some((id, self.known.forget(id)?.0))).collect()
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (PredicateId, &Predicate)> {
        self.known.iter()
    }

    /// What a predicate asks.
    pub fn get(&self, id: PredicateId) -> Option<&Predicate> {
        self.known.content(id).map(|predicate| &**predicate)
    }

    /// The hash of a predicate's content.
    pub fn content(&self, id: PredicateId) -> u64 {
        self.known.get(id).copied().unwrap_or(0)
    }
}
