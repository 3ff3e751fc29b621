// SPDX-License-Identifier: Apache-2.0
//! The cluster's objects under one growing revision, and the watches that are told of each change.
//!
//! Everything happens under one lock, so what a watch finds when it begins and what it is told
//! afterwards fit together: nothing is missing, nothing comes twice, all of it is in order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use hyper::body::Bytes;

use super::history::{Change, Compacted, History, Objects};
use super::kind::Kind;
use super::object::{Admission, Key, Object};
use super::subscription::{Interruption, Message, Subscriber, Subscription};

/// All objects, and those who follow them.
pub(super) struct Store {
    revision: u64,
    tables: BTreeMap<Kind, Table>,
}

/// What there is of one kind.
#[derive(Default)]
struct Table {
    history: History,
    subscribers: Vec<Subscriber>,
    is_withdrawn: bool,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With what is there now.
    Objects,
    /// With the next change.
    Now,
    /// With the first change after this revision.
    After(u64),
}

impl Start {
    /// The last revision that is not to be told.
    pub fn revision(self) -> u64 {
        match self {
            Start::After(revision) => revision,
            Start::Objects | Start::Now => 0,
        }
    }
}

/// What a watch finds when it begins, and how it learns of the rest.
pub(super) struct Beginning {
    pub revision: u64,
    pub objects: Vec<Arc<Object>>,
    pub changes: Vec<Arc<Change>>,
    pub subscription: Subscription,
}

impl Store {
    /// An empty cluster. No object has revision 0, which means "any" to clients.
    pub fn new() -> Store {
        let tables = Kind::ALL.map(|kind| (kind, Table::default()));
        Store { revision: 1, tables: tables.into() }
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes the next revision, for what is stored elsewhere.
    pub fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    /// Creates or replaces an object, and returns the revision it has now.
    pub fn put(&mut self, mut admission: Admission) -> Result<u64> {
        let (kind, key) = (admission.kind, admission.key.clone());
        ensure!(!self.table(kind).is_withdrawn, "{kind:?} is withdrawn");
        let before = self.table(kind).history.objects().get(&key).cloned();
        if let Some(before) = &before
            && before.says(&mut admission)
        {
            return Ok(before.revision());
        }
        let revision = self.next_revision();
        let after = Arc::new(Object::new(admission, before.as_deref(), revision));
        self.table(kind).change(&key, Some(after), revision);
        Ok(revision)
    }

    /// Removes an object, and returns the revision of that.
    pub fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> Result<u64> {
        let key = Key::new(kind, namespace, name);
        let is_there = self.table(kind).history.objects().contains_key(&key);
        ensure!(is_there, "there is no {kind:?} {}", key.as_str());
        let revision = self.next_revision();
        self.table(kind).change(&key, None, revision);
        Ok(revision)
    }

    /// An object as it is.
    pub fn get(&self, kind: Kind, key: &Key) -> Option<Arc<Object>> {
        self.tables.get(&kind)?.history.objects().get(key).cloned()
    }

    /// The objects of a kind as they were at a revision.
    pub fn at(&self, kind: Kind, revision: u64) -> Result<Cow<'_, Objects>, Compacted> {
        self.tables[&kind].history.at(revision)
    }

    /// Begins a watch, under the number of its request.
    pub fn watch(&mut self, kind: Kind, start: Start, id: usize) -> Result<Beginning, Compacted> {
        let revision = self.revision;
        let table = self.table(kind);
        let (objects, changes) = match start {
            Start::Objects => (table.history.objects().values().cloned().collect(), Vec::new()),
            Start::Now => (Vec::new(), Vec::new()),
            Start::After(revision) => (Vec::new(), table.history.since(revision)?),
        };
        let (subscriber, subscription) = Subscriber::new(id);
        table.subscribers.push(subscriber);
        Ok(Beginning { revision, objects, changes, subscription })
    }

    /// Forgets a watch whose client has left.
    pub fn forget(&mut self, kind: Kind, id: usize) {
        self.table(kind).subscribers.retain(|subscriber| subscriber.id != id);
    }

    /// Tells a watch up to which revision it has seen everything.
    pub fn bookmark(&mut self, kind: Kind, id: usize) {
        let revision = self.revision;
        let subscriber = self.table(kind).subscribers.iter().find(|it| it.id == id);
        subscriber.inspect(|it| it.tell(Message::Bookmark(revision)));
    }

    /// Tells all watches of a kind up to which revision they have seen everything.
    pub fn bookmark_all(&mut self, kind: Kind) {
        let revision = self.revision;
        self.table(kind).tell(&Message::Bookmark(revision));
    }

    /// Sends bytes into all watches of a kind.
    pub fn tell_line(&mut self, kind: Kind, line: Bytes) {
        self.table(kind).tell(&Message::Line(line));
    }

    /// Ends the watch in order, after what it was told before; its client may resume from there.
    pub fn end(&mut self, kind: Kind, id: usize) {
        self.bookmark(kind, id);
        self.forget(kind, id);
    }

    /// Ends all watches of a kind like `end`; returns their numbers.
    pub fn end_all(&mut self, kind: Kind) -> Vec<usize> {
        self.table(kind).subscribers.drain(..).map(|subscriber| subscriber.id).collect()
    }

    /// Interrupts all watches of a kind wherever they are; returns their numbers.
    pub fn interrupt_all(&mut self, kind: Kind, interruption: Interruption) -> Vec<usize> {
        let subscribers = self.table(kind).subscribers.drain(..);
        subscribers.map(|subscriber| subscriber.interrupt(interruption)).collect()
    }

    /// Forgets all changes so far.
    pub fn compact(&mut self) {
        let revision = self.revision;
        self.tables.values_mut().for_each(|table| table.history.compact(revision));
    }

    /// Whether the API has the kind.
    pub fn offers(&self, kind: Kind) -> bool {
        !self.tables[&kind].is_withdrawn
    }

    /// Adds the kind, without objects.
    pub fn offer(&mut self, kind: Kind) {
        self.table(kind).is_withdrawn = false;
    }

    /// Removes the kind: its objects are deleted, then its watches end. Returns their numbers.
    pub fn withdraw(&mut self, kind: Kind) -> Vec<usize> {
        let keys: Vec<Key> = self.table(kind).history.objects().keys().cloned().collect();
        for key in keys {
            let revision = self.next_revision();
            self.table(kind).change(&key, None, revision);
        }
        self.table(kind).is_withdrawn = true;
        self.end_all(kind)
    }

    fn table(&mut self, kind: Kind) -> &mut Table {
        self.tables.entry(kind).or_default()
    }
}

impl Table {
    fn change(&mut self, key: &Key, after: Option<Arc<Object>>, revision: u64) {
        let change = self.history.record(key, after, revision);
        self.tell(&Message::Change(change));
    }

    fn tell(&self, message: &Message) {
        self.subscribers.iter().for_each(|subscriber| subscriber.tell(message.clone()));
    }
}
