// SPDX-License-Identifier: Apache-2.0
//! A map twice: what it holds, and what it should hold where that differs.
//!
//! A change of a policy that selects all pods passes tens of thousands of rows through here, so each
//! costs as few look-ups as possible.

use std::{collections::HashMap, hash::Hash};

use foldhash::fast::FixedState;

/// A map.
#[derive(Debug)]
pub(super) struct Overlay<K, V> {
    real: Entries<K, V>,
    pending: Entries<K, Pending<V>>,
    /// How many of those are to be added.
    adding: usize,
}

/// Entries in an order that is the same in every run.
pub(super) type Entries<K, V> = HashMap<K, V, FixedState>;

/// What is to become of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending<V> {
    Add(V),
    Change(V),
    Remove,
}

impl<V> Pending<V> {
    fn value(&self) -> Option<&V> {
        match self {
            Self::Add(value) | Self::Change(value) => Some(value),
            Self::Remove => None,
        }
    }
}

impl<K: Eq + Hash + Copy, V: Copy + PartialEq> Overlay<K, V> {
    /// A map that holds this, and should.
    pub fn new(real: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { real: real.into_iter().collect(), pending: Entries::default(), adding: 0 }
    }

    /// Says what should be there; `None` for nothing.
    pub fn want(&mut self, key: K, value: Option<V>) {
        let real = self.real.get(&key).copied();
        self.note(key, real, value);
    }

    /// Nothing of what is there should be.
    pub fn want_nothing(&mut self) {
        self.pending = self.real.keys().map(|key| (*key, Pending::Remove)).collect();
        self.adding = 0;
    }

    /// It was written, or removed. That does not change what should be there.
    pub fn made(&mut self, key: K, value: Option<V>) -> Option<V> {
        let old = match value {
            Some(value) => self.real.insert(key, value),
            None => self.real.remove(&key),
        };
        let wanted = self.pending.get(&key).map_or(old, |pending| pending.value().copied());
        self.note(key, value, wanted);
        old
    }

    fn note(&mut self, key: K, real: Option<V>, wanted: Option<V>) {
        let pending = match (real, wanted) {
            (None, Some(wanted)) => Some(Pending::Add(wanted)),
            (Some(real), Some(wanted)) if real != wanted => Some(Pending::Change(wanted)),
            (Some(_), None) => Some(Pending::Remove),
            _ => None,
        };
        self.adding += usize::from(matches!(pending, Some(Pending::Add(_))));
        let old = match pending {
            Some(pending) => self.pending.insert(key, pending),
            None => self.pending.remove(&key),
        };
        self.adding -= usize::from(matches!(old, Some(Pending::Add(_))));
    }

    /// What is there.
    pub fn real(&self, key: &K) -> Option<&V> {
        self.real.get(key)
    }

    /// What should be there.
    pub fn wanted(&self, key: &K) -> Option<&V> {
        match self.pending.get(key) {
            Some(pending) => pending.value(),
            None => self.real.get(key),
        }
    }

    /// Everything that is there.
    pub fn entries(&self) -> &Entries<K, V> {
        &self.real
    }

    /// Everything is as it should be.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Everything that is not as it should be, with what it should be.
    pub fn pending(&self) -> impl Iterator<Item = (K, Option<V>)> {
        self.pending.iter().map(|(key, pending)| (*key, pending.value().copied()))
    }

    /// What should be written.
    pub fn puts(&self) -> impl Iterator<Item = (K, V)> {
        self.pending.iter().filter_map(|(key, pending)| Some((*key, *pending.value()?)))
    }

    /// How many entries should be added.
    pub fn adding(&self) -> usize {
        self.adding
    }

    /// What should be added.
    pub fn additions(&self) -> impl Iterator<Item = K> {
        let is_new = |pending: &Pending<V>| matches!(pending, Pending::Add(_));
        self.pending.iter().filter(move |(_, pending)| is_new(pending)).map(|(key, _)| *key)
    }

    /// What should be removed.
    pub fn gone(&self) -> impl Iterator<Item = K> {
        let gone = |pending: &Pending<V>| pending.value().is_none();
        self.pending.iter().filter(move |(_, pending)| gone(pending)).map(|(key, _)| *key)
    }

    /// It is to be added, and not only to be another.
    pub fn is_new(&self, key: &K) -> bool {
        !self.real.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_before_it_went_is_not_written() {
        let mut overlay = Overlay::new([(1, 'a'), (2, 'b')]);
        overlay.want_nothing();
        overlay.want(1, Some('a'));
        overlay.want(2, Some('c'));
        assert_eq!(overlay.puts().collect::<Vec<_>>(), [(2, 'c')]);
        assert_eq!(overlay.gone().count(), 0);
        assert_eq!((overlay.real(&2), overlay.wanted(&2)), (Some(&'b'), Some(&'c')));
    }

    #[test]
    fn what_was_made_otherwise_stays_to_be_made() {
        let mut overlay = Overlay::new([(1, 'a')]);
        overlay.want(1, Some('b'));
        assert_eq!(overlay.made(1, None), Some('a'));
        assert_eq!(overlay.puts().collect::<Vec<_>>(), [(1, 'b')]);
        assert_eq!(overlay.made(1, Some('b')), None);
        assert!(overlay.is_settled());
        assert_eq!(overlay.made(3, Some('x')), None);
        assert_eq!(overlay.gone().collect::<Vec<_>>(), [3], "nobody wants it");
    }

    #[test]
    fn what_is_to_be_added_is_counted() {
        let mut overlay = Overlay::new([(1, 'a')]);
        overlay.want(1, Some('b'));
        overlay.want(2, Some('c'));
        overlay.want(2, Some('d'));
        overlay.want(3, Some('e'));
        assert_eq!((overlay.adding(), overlay.puts().count()), (2, 3));
        overlay.want(3, None);
        assert_eq!(overlay.additions().collect::<Vec<_>>(), [2]);
        overlay.made(2, Some('d'));
        assert_eq!(overlay.adding(), 0);
        overlay.made(1, None);
        assert_eq!(overlay.additions().collect::<Vec<_>>(), [1]);
        overlay.want_nothing();
        assert_eq!((overlay.adding(), overlay.gone().collect::<Vec<_>>()), (0, vec![2]));
    }
}
