// SPDX-License-Identifier: Apache-2.0
//! What named ports of egress rules mean: the numbers that the destinations give the name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{predicate::PredicateId, profile::Profile};
use crate::model::{addr::Protocol, policy::NamedPort};

/// A name, as asked of the pods for which a predicate holds; `None` asks all pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NameUse {
    pub of: Option<PredicateId>,
    pub name: Arc<str>,
}

#[derive(Debug, Default)]
struct Entry {
    /// How many profiles say so.
    numbers: BTreeMap<(Protocol, u16), usize>,
    users: usize,
}

/// The meanings of all names in use.
#[derive(Debug, Default)]
pub(super) struct Resolutions {
    known: BTreeMap<NameUse, Entry>,
    /// How many uses a name has.
    names: HashMap<Arc<str>, usize>,
    changed: BTreeSet<NameUse>,
}

impl Resolutions {
    /// Some ruleset asks for the name, so classes have to tell its numbers apart.
    pub fn is_in_use(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// One more user of a name; `true` if no other has asked for the name yet.
    pub fn acquire<'a>(
        &mut self,
        key: &NameUse,
        profiles: impl Iterator<Item = &'a Profile>,
    ) -> bool {
        if let Some(entry) = self.known.get_mut(key) {
            entry.users += 1;
            return false;
        }
        self.known.insert(key.clone(), Entry { users: 1, ..Entry::default() });
        for profile in profiles {
            if key.of.is_none_or(|of| profile.truth.binary_search(&of).is_ok()) {
                self.count(key, &profile.key.ports, 1);
            }
        }
        self.changed.remove(key);
        let uses = self.names.entry(key.name.clone()).or_default();
        *uses += 1;
        *uses == 1
    }

    /// One user less; the name stays until [`Self::collect`].
    pub fn release(&mut self, key: &NameUse) {
        if let Some(entry) = self.known.get_mut(key) {
            entry.users -= 1;
        }
    }

    /// Drops what has no users and returns the names that nobody asks for any more.
    pub fn collect(&mut self) -> BTreeSet<Arc<str>> {
        let unused: Vec<_> = self.known.extract_if(.., |_, entry| entry.users == 0).collect();
        let mut gone = BTreeSet::new();
        for (key, _) in unused {
            self.changed.remove(&key);
            if let Some(uses) = self.names.get_mut(&key.name) {
                *uses -= 1;
                if *uses == 0 {
                    self.names.remove(&key.name);
                    gone.insert(key.name);
                }
            }
        }
        gone
    }

    /// The ports that a name means.
    pub fn ports(&self, key: &NameUse) -> impl Iterator<Item = NamedPort> {
        let numbers = self.known.get(key).into_iter().flat_map(|entry| entry.numbers.keys());
        let name = key.name.clone();
        numbers.map(move |(protocol, number)| NamedPort {
            name: name.clone(),
            protocol: *protocol,
            number: *number,
        })
    }

    /// A profile is new, or the predicates `of` hold for it that did not.
    pub fn add(&mut self, ports: &[NamedPort], of: impl Iterator<Item = Option<PredicateId>>) {
        self.move_by(ports, of, 1);
    }

    /// A profile is gone, or the predicates `of` do not hold for it any more.
    pub fn remove(&mut self, ports: &[NamedPort], of: impl Iterator<Item = Option<PredicateId>>) {
        self.move_by(ports, of, -1);
    }

    /// The uses whose meaning has changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<NameUse> {
        std::mem::take(&mut self.changed)
    }

    fn move_by(
        &mut self,
        ports: &[NamedPort],
        of: impl Iterator<Item = Option<PredicateId>>,
        delta: isize,
    ) {
        if self.names.is_empty() || ports.is_empty() {
            return;
        }
        for of in of {
            let mut names: Vec<&Arc<str>> = ports.iter().map(|port| &port.name).collect();
            names.dedup();
            for name in
                names.into_iter().filter(|name| self.is_in_use(name)).cloned().collect::<Vec<_>>()
            {
                self.count(&NameUse { of, name }, ports, delta);
            }
        }
    }

    fn count(&mut self, key: &NameUse, ports: &[NamedPort], delta: isize) {
        let Some(entry) = self.known.get_mut(key) else { return };
        for port in ports.iter().filter(|port| port.name == key.name) {
            let number = (port.protocol, port.number);
            let count = entry.numbers.entry(number).or_default();
            let before = *count;
            *count = before.saturating_add_signed(delta);
            if (before == 0) != (*count == 0) {
                self.changed.insert(key.clone());
            }
            if *count == 0 {
                entry.numbers.remove(&number);
            }
        }
    }
}
