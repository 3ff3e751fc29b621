// SPDX-License-Identifier: Apache-2.0
//! One copy of each string that many objects repeat: node names, zones, port names.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use foldhash::fast::RandomState;

use super::slice::Hints;

/// Gives equal values the same allocation. Shared by the threads that load objects.
#[derive(Debug, Default)]
pub struct Interner {
    names: Pool<str>,
    hints: Pool<Hints>,
}

impl Interner {
    /// The shared copy of a name.
    pub fn name(&self, name: &str) -> Arc<str> {
        self.names.get(name, || name.into())
    }

    /// The shared copy of topology hints; `None` if there are none.
    pub fn hints(&self, hints: Hints) -> Option<Arc<Hints>> {
        if hints.is_empty() {
            return None;
        }
        Some(self.hints.get(&hints, || Arc::new(hints.clone())))
    }
}

#[derive(Debug)]
struct Pool<T: ?Sized>(Mutex<Entries<T>>);

#[derive(Debug)]
struct Entries<T: ?Sized> {
    values: HashSet<Arc<T>, RandomState>,
    /// Size at which unused values are dropped; grows with what is in use.
    sweep_at: usize,
}

/// Fewer unused values than this are not worth a sweep.
const MIN_SWEEP: usize = 4096;

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::new(Entries { values: HashSet::default(), sweep_at: MIN_SWEEP }))
    }
}

impl<T: ?Sized + Eq + Hash> Pool<T>
where
    Arc<T>: Borrow<T>,
{
    fn get(&self, value: &T, create: impl FnOnce() -> Arc<T>) -> Arc<T> {
        // A panic elsewhere cannot leave the set half-changed, so a poisoned lock is still good.
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = entries.values.get(value) {
            return known.clone();
        }
        if entries.values.len() >= entries.sweep_at {
            entries.values.retain(|value| Arc::strong_count(value) > 1);
            entries.sweep_at = MIN_SWEEP.max(entries.values.len() * 2);
        }
        let created = create();
        entries.values.insert(created.clone());
        created
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_share_one_copy() {
        let interner = Interner::default();
        let first = interner.name("zone-a");
        assert!(Arc::ptr_eq(&first, &interner.name("zone-a")));
        assert!(!Arc::ptr_eq(&first, &interner.name("zone-b")));
    }

    #[test]
    fn names_nobody_uses_are_dropped() {
        let interner = Interner::default();
        let kept = interner.name("kept");
        for number in 0..3 * MIN_SWEEP {
            interner.name(&format!("node-{number}"));
        }
        let len = interner.names.0.lock().unwrap().values.len();
        assert!(len <= MIN_SWEEP, "{len}");
        assert!(Arc::ptr_eq(&kept, &interner.name("kept")));
    }
}
