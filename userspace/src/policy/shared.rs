// SPDX-License-Identifier: Apache-2.0
//! Contents that many use: each is there once, under an id, for as long as it has users.
//!
//! One without users stays until it is forgotten, for it may be asked for again at once.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

/// Contents of type `C` by id and by themselves, each with a value.
#[derive(Debug)]
pub(super) struct Shared<I, C, T> {
    known: BTreeMap<I, Entry<C, T>>,
    ids: HashMap<Arc<C>, I>,
}

#[derive(Debug)]
struct Entry<C, T> {
    content: Arc<C>,
    value: T,
    users: usize,
}

impl<I, C, T> Default for Shared<I, C, T> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), ids: HashMap::new() }
    }
}

impl<I: Copy + Ord, C: Eq + Hash, T> Shared<I, C, T> {
    /// The id of a content that is there.
    pub fn find(&self, content: &C) -> Option<I> {
        self.ids.get(content).copied()
    }

    /// Adds a content that is not there under an id that is free, for its first user.
    pub fn insert(&mut self, id: I, content: Arc<C>, value: T) {
        self.ids.insert(content.clone(), id);
        self.known.insert(id, Entry { content, value, users: 1 });
    }

    /// One more user; returns how many there are.
    pub fn acquire(&mut self, id: I) -> Option<usize> {
        let entry = self.known.get_mut(&id)?;
        entry.users += 1;
        Some(entry.users)
    }

    /// One user less; returns how many are left.
    pub fn release(&mut self, id: I) -> Option<usize> {
        let entry = self.known.get_mut(&id)?;
        entry.users -= 1;
        Some(entry.users)
    }

    /// How many users it has.
    pub fn users(&self, id: I) -> usize {
        self.known.get(&id).map_or(0, |entry| entry.users)
    }

    /// Those without users.
    pub fn unused(&self) -> Vec<I> {
        let unused = self.known.iter().filter(|(_, entry)| entry.users == 0);
        unused.map(|(id, _)| *id).collect()
    }

    /// Forgets one, if it has no users.
    pub fn forget(&mut self, id: I) -> Option<(Arc<C>, T)> {
        self.known.get(&id).filter(|entry| entry.users == 0)?;
        let Entry { content, value, .. } = self.known.remove(&id)?;
        self.ids.remove(&content);
        Some((content, value))
    }

    pub fn has(&self, id: I) -> bool {
        self.known.contains_key(&id)
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn content(&self, id: I) -> Option<&Arc<C>> {
        self.known.get(&id).map(|entry| &entry.content)
    }

    pub fn get(&self, id: I) -> Option<&T> {
        self.known.get(&id).map(|entry| &entry.value)
    }

    pub fn get_mut(&mut self, id: I) -> Option<&mut T> {
        self.known.get_mut(&id).map(|entry| &mut entry.value)
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (I, &C)> {
        self.known.iter().map(|(id, entry)| (*id, &*entry.content))
    }

    /// Their values, in the order of their ids.
    pub fn values(&self) -> impl Iterator<Item = (I, &T)> {
        self.known.iter().map(|(id, entry)| (*id, &entry.value))
    }

    /// Their values, in the order of their ids.
    pub fn values_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        self.known.iter_mut().map(|(id, entry)| (*id, &mut entry.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_users_stays_until_it_is_forgotten() {
        let mut shared = Shared::default();
        shared.insert(1, Arc::new("a"), ());
        assert_eq!((shared.acquire(1), shared.release(1)), (Some(2), Some(1)));
        assert!(shared.forget(1).is_none(), "somebody uses it");
        assert_eq!((shared.release(1), shared.unused()), (Some(0), vec![1]));
        assert_eq!((shared.find(&"a"), shared.users(1)), (Some(1), 0));
        assert_eq!(shared.forget(1), Some((Arc::new("a"), ())));
        assert_eq!((shared.find(&"a"), shared.has(1)), (None, false));
    }
}
