// SPDX-License-Identifier: Apache-2.0
//! The objects of one kind and what happened to them: the state now, and at any revision that has
//! not been compacted.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use hyper::body::Bytes;

use super::object::{Key, Object};
use super::selector::Selection;

/// How many changes of a kind are remembered: as many as kube-apiserver's watch cache at most has.
const REMEMBERED: usize = 102_400;

/// The objects of a kind, in the order of lists.
pub(super) type Objects = BTreeMap<Key, Arc<Object>>;

/// The revision asked for is older than what is remembered; this is the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compacted(pub u64);

/// What a watch says of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventType {
    Added,
    Modified,
    Deleted,
}

/// One object, before and after one revision.
#[derive(Debug)]
pub(super) struct Change {
    pub revision: u64,
    before: Option<Arc<Object>>,
    after: Option<Arc<Object>>,
    /// What was before under this revision; only the first watch that needs it pays for it.
    last_state: OnceLock<Bytes>,
}

impl Change {
    /// What those see who follow only what is selected: one that enters the selection is added to
    /// it, one that leaves it is deleted, in the state that was still selected.
    pub fn seen_by(&self, selection: &Selection) -> Option<(EventType, &Bytes)> {
        let selected = |object: &&Arc<Object>| selection.matches(object);
        let before = self.before.as_ref().filter(selected);
        let after = self.after.as_ref().filter(selected);
        match (before, after) {
            (None, Some(after)) => Some((EventType::Added, &after.json)),
            (Some(_), Some(after)) => Some((EventType::Modified, &after.json)),
            (Some(before), None) => {
                let json = self.last_state.get_or_init(|| before.json_at(self.revision));
                Some((EventType::Deleted, json))
            }
            (None, None) => None,
        }
    }

    fn key(&self) -> Option<&Key> {
        self.after.as_ref().or(self.before.as_ref()).map(|object| &object.key)
    }
}

/// A kind's objects and changes.
#[derive(Default)]
pub(super) struct History {
    objects: Objects,
    changes: VecDeque<Arc<Change>>,
    compacted: u64,
}

impl History {
    /// The objects as they are.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Replaces, adds or, without `after`, removes an object.
    pub fn record(&mut self, key: &Key, after: Option<Arc<Object>>, revision: u64) -> Arc<Change> {
        let before = match &after {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(key),
        };
        let change = Arc::new(Change { revision, before, after, last_state: OnceLock::new() });
        self.changes.push_back(change.clone());
        if self.changes.len() > REMEMBERED
            && let Some(forgotten) = self.changes.pop_front()
        {
            self.compacted = forgotten.revision;
        }
        change
    }

    /// Forgets what happened up to a revision.
    pub fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision);
        let known = self.changes.partition_point(|change| change.revision <= revision);
        self.changes.drain(..known);
    }

    /// What happened after a revision, oldest first.
    pub fn since(&self, revision: u64) -> Result<Vec<Arc<Change>>, Compacted> {
        self.is_remembered(revision)?;
        let known = self.changes.partition_point(|change| change.revision <= revision);
        Ok(self.changes.range(known..).cloned().collect())
    }

    /// The objects as they were at a revision.
    pub fn at(&self, revision: u64) -> Result<Cow<'_, Objects>, Compacted> {
        self.is_remembered(revision)?;
        let mut objects = Cow::Borrowed(&self.objects);
        for change in self.changes.iter().rev().take_while(|change| change.revision > revision) {
            let Some(key) = change.key() else { continue };
            match &change.before {
                Some(before) => objects.to_mut().insert(key.clone(), before.clone()),
                None => objects.to_mut().remove(key),
            };
        }
        Ok(objects)
    }

    fn is_remembered(&self, revision: u64) -> Result<(), Compacted> {
        if revision < self.compacted { Err(Compacted(self.compacted)) } else { Ok(()) }
    }
}
