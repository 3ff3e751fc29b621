// SPDX-License-Identifier: Apache-2.0
//! Which file says what about which object; turns a file's new content into events.
//!
//! The same object in two files: the file whose name sorts first wins, whatever the order in which
//! they were written, and the other is a named rejection. When the winner goes, the other takes
//! over.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::Arc,
};

use super::{
    changes::{Changes, Told},
    event::Batch,
    parse::Parsed,
};
use crate::model::{
    name::{Kind, ObjectName, ObjectRef},
    object::Object,
    rejection::RejectReason,
};

/// What is known of every file and object of a directory.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    files: BTreeMap<Arc<str>, Box<[ObjectRef]>>,
    /// Versions by file name; nearly always one.
    objects: HashMap<ObjectRef, Vec<Version>>,
    changes: Changes,
}

/// What one file says about an object.
#[derive(Clone, Debug)]
struct Version {
    file: Arc<str>,
    value: Option<Object>,
    reasons: Vec<RejectReason>,
}

type Fresh = BTreeMap<ObjectRef, Version>;

impl Catalog {
    /// Names of the files that hold something.
    pub fn files(&self) -> impl Iterator<Item = &Arc<str>> {
        self.files.keys()
    }

    /// Takes the new content of a file.
    pub fn update(&mut self, file: &Arc<str>, documents: Vec<Parsed>) {
        let before = self.files.remove(file).unwrap_or_default();
        let is_whole = !documents.iter().any(|parsed| matches!(parsed, Parsed::Nameless(_)));
        let mut fresh = self.read(file, documents);
        if !is_whole {
            self.keep(file, &before, &mut fresh);
        }
        let after: Box<[ObjectRef]> = fresh.keys().cloned().collect();
        for object in before.iter().filter(|object| !fresh.contains_key(object)) {
            self.replace(object, file, None);
        }
        for (object, version) in fresh {
            self.replace(&object, file, Some(version));
        }
        if !after.is_empty() {
            self.files.insert(file.clone(), after);
        }
    }

    /// Notes that a file is there but cannot be read; what it said stays in force.
    pub fn unreadable(&mut self, file: &Arc<str>, message: String) {
        let reason = RejectReason::Unreadable { file: file.clone(), message };
        self.update(file, vec![Parsed::Nameless(reason)]);
    }

    /// The difference that all updates since the last call made, ordered by object. An object that
    /// moved from one file to another is as it was.
    pub fn events(&mut self) -> Batch {
        let objects = &self.objects;
        self.changes
            .events(|object| in_force(objects.get(object).map(Vec::as_slice).unwrap_or_default()))
    }

    fn read(&self, file: &Arc<str>, documents: Vec<Parsed>) -> Fresh {
        let mut fresh = Fresh::new();
        let empty = || Version { file: file.clone(), value: None, reasons: Vec::new() };
        for parsed in documents {
            match parsed {
                Parsed::Object(converted) => match fresh.entry(converted.object) {
                    Entry::Vacant(entry) => {
                        let (value, reasons) = (converted.value, converted.reasons);
                        entry.insert(Version { value, reasons, ..empty() });
                    }
                    Entry::Occupied(entry) => {
                        entry.into_mut().reasons.push(RejectReason::DefinedTwice {
                            used: file.clone(),
                            ignored: file.clone(),
                        });
                    }
                },
                Parsed::Mistake(object, reason) => {
                    let value = self.value(file, &object);
                    let version = fresh.entry(object).or_insert(Version { value, ..empty() });
                    version.reasons.push(reason);
                }
                Parsed::Nameless(reason) => {
                    let object = ObjectRef::new(Kind::File, ObjectName::cluster(file));
                    fresh.entry(object).or_insert_with(empty).reasons.push(reason);
                }
            }
        }
        fresh
    }

    /// Carries over the objects that the file held and that may be among its unreadable parts.
    fn keep(&self, file: &Arc<str>, before: &[ObjectRef], fresh: &mut Fresh) {
        for object in before.iter().filter(|object| object.kind != Kind::File) {
            if let Some(version) = self.version(file, object) {
                fresh.entry(object.clone()).or_insert_with(|| version.clone());
            }
        }
    }

    fn version(&self, file: &Arc<str>, object: &ObjectRef) -> Option<&Version> {
        self.objects.get(object)?.iter().find(|version| version.file == *file)
    }

    fn value(&self, file: &Arc<str>, object: &ObjectRef) -> Option<Object> {
        self.version(file, object)?.value.clone()
    }

    fn replace(&mut self, object: &ObjectRef, file: &Arc<str>, version: Option<Version>) {
        let versions = self.objects.entry(object.clone()).or_insert_with(|| Vec::with_capacity(1));
        self.changes.touch(object, || in_force(versions));
        match (versions.binary_search_by(|version| version.file.cmp(file)), version) {
            (Ok(index), Some(version)) => versions[index] = version,
            (Ok(index), None) => drop(versions.remove(index)),
            (Err(index), Some(version)) => versions.insert(index, version),
            (Err(_), None) => {}
        }
        if versions.is_empty() {
            self.objects.remove(object);
        }
    }
}

/// The version that counts, and everything that is wrong with the object.
fn in_force(versions: &[Version]) -> Told {
    let Some((first, others)) = versions.split_first() else { return (None, Vec::new()) };
    let mut reasons = first.reasons.clone();
    reasons.extend(others.iter().map(|other| RejectReason::DefinedTwice {
        used: first.file.clone(),
        ignored: other.file.clone(),
    }));
    (first.value.clone(), reasons)
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
