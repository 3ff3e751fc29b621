// SPDX-License-Identifier: Apache-2.0
//! What the API server has said, of every object: turns what watches hear into batches of events.
//!
//! After a disconnect a watch lists everything again. An object is in force from the moment that it is
//! heard of; what such a list does not name is gone at its end, and not before.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use tokio::{
    select,
    sync::mpsc::{Receiver, Sender},
};
use tracing::info;

use super::{
    announce::Addressed,
    document::{Document, Undecodable},
};
use crate::{
    model::{
        name::{Kind, ObjectRef},
        rejection::RejectReason,
    },
    source::{
        changes::{Changes, Told},
        convert::{Converted, Converter, DocumentKind, NameError},
        event::{Announcement, Batch, Delivery, Event},
    },
};

/// So many steps are taken in at once, before anybody is told of them.
const BURST: usize = 256;

/// What a watch has heard.
#[derive(Debug)]
pub(super) struct Step {
    /// Of which kind.
    pub kind: DocumentKind,
    /// When, before it was decoded.
    pub at: Instant,
    /// What.
    pub heard: Heard,
}

/// One thing that a watch can hear.
#[derive(Debug)]
pub(super) enum Heard {
    /// A list begins.
    ListBegins,
    /// An object, of this identity, is like this, be it listed or changed.
    Is(Converted, Option<Box<str>>),
    /// An object, of this identity, cannot be decoded.
    Undecodable(Undecodable, Option<Box<str>>),
    /// An object is gone.
    Gone(ObjectRef),
    /// The list ends: what was not in it is gone.
    ListEnds,
    /// The server does not have this kind. What it said when it did stays in force.
    Absent,
    /// The watch named like this fails for that reason.
    Fails(ObjectRef, RejectReason),
    /// It works again.
    Works(ObjectRef),
}

impl Heard {
    /// What a document says; an error if it does not even say of which object.
    pub fn of(
        document: &Document,
        kind: DocumentKind,
        converter: &Converter,
    ) -> Result<Self, NameError> {
        let read = document.read(kind, converter)?;
        let uid = document.uid().map(Box::from);
        Ok(match read {
            Ok(converted) => Self::Is(converted, uid),
            Err(undecodable) => Self::Undecodable(undecodable, uid),
        })
    }
}

/// An object as it was heard of last.
#[derive(Debug, Default)]
struct Entry {
    told: Told,
    uid: Option<Box<str>>,
    /// Number of the list, or of the list before the change, that named it.
    list: u32,
}

/// Everything that is known.
#[derive(Debug)]
pub(super) struct Ledger {
    objects: HashMap<ObjectRef, Entry>,
    changes: Changes,
    /// Number of the last list of each kind.
    lists: HashMap<Kind, u32>,
    /// Kinds whose first list is not complete.
    missing: HashSet<Kind>,
    is_synced: bool,
    /// When the first was heard of what nobody was told yet.
    noticed: Option<Instant>,
}

impl Ledger {
    /// A ledger of these kinds, none of which was listed yet.
    pub fn new(kinds: impl Iterator<Item = DocumentKind>) -> Self {
        Self {
            objects: HashMap::new(),
            changes: Changes::default(),
            lists: HashMap::new(),
            missing: kinds.map(DocumentKind::kind).collect(),
            is_synced: false,
            noticed: None,
        }
    }

    /// Takes in what is heard and delivers what that changes, until the receiver is gone. While the
    /// receiver is busy, changes pile up here and only the last of each object counts.
    ///
    /// Announcements go on with the identity of their objects.
    pub async fn run(
        mut self,
        mut steps: Receiver<Step>,
        sender: Sender<Delivery>,
        (mut announcements, poster): (Receiver<Announcement>, Sender<Addressed>),
    ) {
        let mut burst = Vec::with_capacity(BURST);
        loop {
            select! {
                count = steps.recv_many(&mut burst, BURST) => {
                    if count == 0 {
                        return;
                    }
                    burst.drain(..).for_each(|step| self.take(step));
                }
                permit = sender.reserve(), if self.has_news() => {
                    let Ok(permit) = permit else { return };
                    if let Some(delivery) = self.delivery() {
                        permit.send(delivery);
                    }
                }
                Some(announcement) = announcements.recv() => {
                    if let Some(addressed) = self.address(announcement) {
                        // Who cannot keep up posts the first ones.
                        let _ = poster.try_send(addressed);
                    }
                }
                () = sender.closed() => return,
            }
        }
    }

    /// Finds out whom an announcement is about; `None` if that is gone by now.
    fn address(&self, announcement: Announcement) -> Option<Addressed> {
        let uid = self.objects.get(&announcement.object)?.uid.clone()?;
        Some(Addressed { announcement, uid })
    }

    /// Takes in what a watch has heard.
    pub fn take(&mut self, step: Step) {
        let kind = step.kind.kind();
        match step.heard {
            Heard::ListBegins => *self.lists.entry(kind).or_default() += 1,
            Heard::Is(converted, uid) => {
                let entry = self.entry(converted.object);
                entry.told = (converted.value, converted.reasons);
                entry.uid = uid;
            }
            Heard::Undecodable(Undecodable { object, reason }, uid) => {
                let entry = self.entry(object);
                entry.told.1 = vec![reason];
                entry.uid = uid;
            }
            Heard::Gone(object) => self.forget(&object),
            Heard::ListEnds => {
                self.forget_unlisted(&kind);
                self.missing.remove(&kind);
            }
            Heard::Absent => {
                self.missing.remove(&kind);
            }
            Heard::Fails(watch, reason) => self.entry(watch).told.1 = vec![reason],
            Heard::Works(watch) => self.forget(&watch),
        }
        if !self.changes.is_empty() {
            self.noticed.get_or_insert(step.at);
        }
    }

    /// Whether there is something to tell.
    pub fn has_news(&self) -> bool {
        !self.changes.is_empty() || (self.missing.is_empty() && !self.is_synced)
    }

    /// What there is to tell; `None` if all is as it was.
    pub fn delivery(&mut self) -> Option<Delivery> {
        let noticed = self.noticed.take().unwrap_or_else(Instant::now);
        let batch = self.batch();
        (!batch.is_empty()).then_some(Delivery { noticed, batch })
    }

    fn batch(&mut self) -> Batch {
        let objects = &self.objects;
        let now = |object: &ObjectRef| {
            objects.get(object).map(|entry| entry.told.clone()).unwrap_or_default()
        };
        let mut batch = self.changes.events(now);
        if self.missing.is_empty() && !self.is_synced {
            self.is_synced = true;
            info!(objects = self.objects.len(), "everything is listed");
            batch.push(Event::Synced);
        }
        batch
    }

    /// The entry of an object that is heard of now.
    fn entry(&mut self, object: ObjectRef) -> &mut Entry {
        let list = self.lists.get(&object.kind).copied().unwrap_or_default();
        let entry = self.objects.entry(object.clone()).or_default();
        self.changes.touch(&object, || entry.told.clone());
        entry.list = list;
        entry
    }

    fn forget(&mut self, object: &ObjectRef) {
        if let Some(entry) = self.objects.remove(object) {
            self.changes.touch(object, || entry.told);
        }
    }

    /// Forgets the objects of a kind that its last list has not named.
    fn forget_unlisted(&mut self, kind: &Kind) {
        let list = self.lists.get(kind).copied().unwrap_or_default();
        let is_unlisted =
            |(object, entry): &(&ObjectRef, &Entry)| object.kind == *kind && entry.list != list;
        let gone: Vec<ObjectRef> =
            self.objects.iter().filter(is_unlisted).map(|(object, _)| object.clone()).collect();
        gone.iter().for_each(|object| self.forget(object));
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
