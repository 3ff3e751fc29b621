// SPDX-License-Identifier: Apache-2.0
//! The kernel's stand-in for host tests: the same operations on ordinary memory.
//!
//! Every thread has its own maps and clock, so tests run side by side; [`reset`] empties them.

use core::cell::Cell;
use std::{boxed::Box, collections::BTreeMap, sync::Mutex, vec::Vec};

use super::{IfPresent, InsertError};

std::thread_local! {
    static WORLD: Cell<u64> = const { Cell::new(0) };
    static NOW_NS: Cell<u64> = const { Cell::new(1_000_000_000) };
}
static NEXT_WORLD: Mutex<u64> = Mutex::new(1);

/// Gives this thread empty maps and a fresh clock.
pub fn reset() {
    let mut next = NEXT_WORLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    WORLD.set(*next);
    *next += 1;
    NOW_NS.set(1_000_000_000);
}

/// Lets time pass.
pub fn advance(ns: u64) {
    NOW_NS.set(NOW_NS.get() + ns);
}

/// The stand-in's clock.
pub fn now_ns() -> u64 {
    NOW_NS.get()
}

/// A pseudo-random number; the same sequence after each [`reset`].
pub fn random() -> u32 {
    NOW_NS.set(NOW_NS.get() + 1);
    (NOW_NS.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// World and key bytes; the value's address must not change, hence the box.
type Elements<V> = Mutex<BTreeMap<(u64, Vec<u8>), Box<Slot<V>>>>;

struct Slot<V>(core::cell::UnsafeCell<V>);
// SAFETY: an element is reached only from the thread whose world it belongs to.
unsafe impl<V> Send for Slot<V> {}

fn bytes_of<K: Copy>(key: &K) -> Vec<u8> {
    let start = core::ptr::from_ref(key).cast::<u8>();
    // SAFETY: the keys are ABI structs, which are `size_of` initialized bytes.
    unsafe { core::slice::from_raw_parts(start, size_of::<K>()) }.into()
}

/// A hash that refuses new elements when it is full.
pub struct Hash<K, V> {
    entries: u32,
    elements: Elements<V>,
    key: core::marker::PhantomData<fn(K)>,
}

/// The stand-in never evicts: it is used below its size.
pub type LruHash<K, V> = Hash<K, V>;

impl<K: Copy, V: Copy> Hash<K, V> {
    /// A map of at most `entries` elements.
    pub const fn new(entries: u32) -> Self {
        let elements = Mutex::new(BTreeMap::new());
        Self { entries, elements, key: core::marker::PhantomData }
    }

    fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<(u64, Vec<u8>), Box<Slot<V>>>) -> R) -> R {
        f(&mut self.elements.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<*mut V> {
        self.with(|map| map.get(&(WORLD.get(), bytes_of(key))).map(|slot| slot.0.get()))
    }

    /// Adds or replaces an element.
    pub fn insert(&self, key: &K, value: &V, present: IfPresent) -> Result<(), InsertError> {
        if let Some(place) = self.get(key) {
            if present == IfPresent::Refuse {
                return Err(InsertError::Exists);
            }
            // SAFETY: the element lives in a box of this thread's world.
            unsafe { *place = *value };
            return Ok(());
        }
        if self.len() >= self.entries as usize {
            return Err(InsertError::NoRoom);
        }
        let slot = Box::new(Slot(core::cell::UnsafeCell::new(*value)));
        self.with(|map| map.insert((WORLD.get(), bytes_of(key)), slot));
        Ok(())
    }

    /// Removes an element if it is there.
    pub fn remove(&self, key: &K) {
        self.with(|map| map.remove(&(WORLD.get(), bytes_of(key))));
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.with(|map| map.keys().filter(|(world, _)| *world == WORLD.get()).count())
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every value, in the order of the keys' bytes.
    pub fn values(&self) -> Vec<V> {
        self.with(|map| {
            let mine = map.iter().filter(|((world, _), _)| *world == WORLD.get());
            // SAFETY: the element belongs to this thread's world.
            mine.map(|(_, slot)| unsafe { *slot.0.get() }).collect()
        })
    }
}

/// An array of values, zeroed where nothing was written.
pub struct Array<V>(Hash<u32, V>);

/// One CPU only.
pub type PerCpuArray<V> = Array<V>;

impl<V: Copy + Default> Array<V> {
    /// An array of `entries` zeroed values.
    pub const fn new(entries: u32) -> Self {
        Self(Hash::new(entries))
    }

    /// The value at an index, `None` beyond the end.
    pub fn get(&self, index: u32) -> Option<*mut V> {
        if index >= self.0.entries {
            return None;
        }
        let _ = self.0.insert(&index, &V::default(), IfPresent::Refuse);
        self.0.get(&index)
    }
}

/// On the host a step is called, not jumped to.
pub struct Steps;

impl Steps {
    /// Nothing to hold.
    pub const fn new(_entries: u32) -> Self {
        Self
    }
}
