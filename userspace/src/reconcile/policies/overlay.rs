// SPDX-License-Identifier: Apache-2.0
//! A map twice: what it holds, and what it should hold where that differs.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// A map.
#[derive(Debug)]
pub(super) struct Overlay<K, V> {
    /// Large, and looked into for every change.
    real: HashMap<K, V>,
    /// `None` for what should not be there.
    pending: BTreeMap<K, Option<V>>,
}

impl<K: Ord + Hash + Copy, V: Copy + PartialEq> Overlay<K, V> {
    /// A map that holds this, and should.
    pub fn new(real: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { real: real.into_iter().collect(), pending: BTreeMap::new() }
    }

    /// Says what should be there; `None` for nothing.
    pub fn want(&mut self, key: K, value: Option<V>) {
        if self.real.get(&key).copied() == value {
            self.pending.remove(&key);
        } else {
            self.pending.insert(key, value);
        }
    }

    /// Nothing of what is there should be.
    pub fn want_nothing(&mut self) {
        self.pending = self.real.keys().map(|key| (*key, None)).collect();
    }

    /// It was written, or removed. That does not change what should be there.
    pub fn made(&mut self, key: K, value: Option<V>) -> Option<V> {
        let pending = self.pending.remove(&key);
        let old = match value {
            Some(value) => self.real.insert(key, value),
            None => self.real.remove(&key),
        };
        let wanted = pending.unwrap_or(old);
        if wanted != value {
            self.pending.insert(key, wanted);
        }
        old
    }

    /// What is there.
    pub fn real(&self, key: &K) -> Option<&V> {
        self.real.get(key)
    }

    /// What should be there.
    pub fn wanted(&self, key: &K) -> Option<&V> {
        match self.pending.get(key) {
            Some(pending) => pending.as_ref(),
            None => self.real.get(key),
        }
    }

    /// Everything that is there.
    pub fn entries(&self) -> &HashMap<K, V> {
        &self.real
    }

    /// Everything that is not as it should be.
    pub fn pending(&self) -> &BTreeMap<K, Option<V>> {
        &self.pending
    }

    /// What should be written.
    pub fn puts(&self) -> impl Iterator<Item = (K, V)> {
        self.pending.iter().filter_map(|(key, value)| Some((*key, (*value)?)))
    }

    /// What should be removed.
    pub fn gone(&self) -> impl Iterator<Item = K> {
        self.pending.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| *key)
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
        assert!(overlay.pending().is_empty());
        assert_eq!(overlay.made(3, Some('x')), None);
        assert_eq!(overlay.gone().collect::<Vec<_>>(), [3], "nobody wants it");
    }
}
