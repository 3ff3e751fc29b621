// SPDX-License-Identifier: Apache-2.0
//! The kernel's stand-in for host tests: the same operations on ordinary memory.
//!
//! Every thread has its own maps and clock, so tests run side by side; [`reset`] empties them.

use core::{
    cell::{Cell, RefCell},
    marker::PhantomData,
};
use std::{boxed::Box, collections::BTreeMap, vec::Vec};

use super::{IfPresent, InsertError, PerSocket};

/// A value's memory, aligned for every ABI struct; its address does not change while it is there.
type Memory = Box<[u64]>;

/// The elements of one map, by the bytes of their keys.
type Elements = BTreeMap<Vec<u8>, Memory>;

const START_NS: u64 = 1 << 42;

std::thread_local! {
    /// Elements of each map, by the address of its static.
    static MAPS: RefCell<BTreeMap<usize, Elements>> = const { RefCell::new(BTreeMap::new()) };
    /// What was removed or replaced: it stays readable, as it does in the kernel (RCU).
    static REMOVED: RefCell<Vec<Memory>> = const { RefCell::new(Vec::new()) };
    static NOW_NS: Cell<u64> = const { Cell::new(START_NS) };
    static DRAWN: Cell<u64> = const { Cell::new(0) };
    static LIMIT: Cell<u32> = const { Cell::new(u32::MAX) };
}

/// Gives this thread empty maps and a fresh clock. Nothing may point into the old ones any more.
pub fn reset() {
    MAPS.with_borrow_mut(BTreeMap::clear);
    REMOVED.with_borrow_mut(Vec::clear);
    NOW_NS.set(START_NS);
    DRAWN.set(0);
}

/// Makes this thread's maps take at most so many elements.
pub fn limit(entries: u32) {
    LIMIT.set(entries);
}

/// Lets time pass.
pub fn advance(ns: u64) {
    NOW_NS.set(NOW_NS.get() + ns);
}

/// The stand-in's clock.
pub fn now_ns() -> u64 {
    NOW_NS.get()
}

/// The number of the stand-in's tick.
pub fn tick() -> u64 {
    NOW_NS.get()
}

/// A pseudo-random number; the same sequence after each [`reset`].
pub fn random() -> u32 {
    DRAWN.set(DRAWN.get() + 1);
    (DRAWN.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Has a meaning for the kernel only.
pub fn apart<const N: i32>() {}

/// The first number below `count` that a test holds for.
pub fn position<C>(count: u32, context: &C, test: impl Fn(&C, u32) -> bool) -> Option<u32> {
    (0..count).find(|index| test(context, *index))
}

/// Changes a state if it is what it is believed to be.
pub fn claim(state: &mut u64, from: u64, to: u64) -> bool {
    let claimed = *state == from;
    if claimed {
        *state = to;
    }
    claimed
}

/// Adds one to a count.
pub fn increment(count: &mut u64) {
    *count += 1;
}

fn bytes_of<K: Copy>(key: &K) -> Vec<u8> {
    let start = core::ptr::from_ref(key).cast::<u8>();
    // SAFETY: the keys are ABI structs, which are `size_of` initialized bytes.
    unsafe { core::slice::from_raw_parts(start, size_of::<K>()) }.into()
}

fn memory_of<V: Copy>(value: &V) -> Memory {
    const { assert!(align_of::<V>() <= align_of::<u64>()) };
    let mut memory = std::vec![0_u64; size_of::<V>().div_ceil(8)].into_boxed_slice();
    // SAFETY: the memory is large enough and aligned for the value, which is plain bytes.
    unsafe { memory.as_mut_ptr().cast::<V>().write(*value) };
    memory
}

/// A hash that refuses new elements when it is full.
pub struct Hash<K, V> {
    entries: u32,
    types: PhantomData<fn(K) -> V>,
}

/// The stand-in does not evict but refuses when it is full, as the kernel does without memory.
pub type LruHash<K, V> = Hash<K, V>;

impl<K: Copy, V: Copy> Hash<K, V> {
    /// A map of at most `entries` elements.
    pub const fn new(entries: u32) -> Self {
        Self { entries, types: PhantomData }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Elements) -> R) -> R {
        let map = core::ptr::from_ref(self) as usize;
        MAPS.with_borrow_mut(|maps| f(maps.entry(map).or_default()))
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<*mut V> {
        self.with(|map| map.get_mut(&bytes_of(key)).map(|memory| memory.as_mut_ptr().cast()))
    }

    /// Adds or replaces an element.
    pub fn insert(&self, key: &K, value: &V, present: IfPresent) -> Result<(), InsertError> {
        let key = bytes_of(key);
        self.with(|map| {
            let exists = map.contains_key(&key);
            if exists && present == IfPresent::Refuse {
                return Err(InsertError::Exists);
            }
            if !exists && map.len() >= self.entries.min(LIMIT.get()) as usize {
                return Err(InsertError::NoRoom);
            }
            let before = map.insert(key, memory_of(value));
            REMOVED.with_borrow_mut(|removed| removed.extend(before));
            Ok(())
        })
    }

    /// Removes an element if it is there.
    pub fn remove(&self, key: &K) {
        let removed = self.with(|map| map.remove(&bytes_of(key)));
        REMOVED.with_borrow_mut(|all| all.extend(removed));
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.with(|map| map.len())
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every element, in the order of the keys' bytes; the value may be written in place.
    pub fn elements(&self) -> Vec<(K, *mut V)> {
        let key = |bytes: &Vec<u8>| {
            // SAFETY: the bytes were a key when it was inserted.
            unsafe { bytes.as_ptr().cast::<K>().read_unaligned() }
        };
        self.with(|map| {
            let element =
                |(bytes, memory): (&Vec<u8>, &mut Memory)| (key(bytes), memory.as_mut_ptr().cast());
            map.iter_mut().map(element).collect()
        })
    }
}

/// Prefixes, and which of them contain something.
pub struct PrefixTrie<K, V>(Hash<(u32, K), V>);

impl<K: Copy, V: Copy> PrefixTrie<K, V> {
    /// A trie of at most `entries` prefixes.
    pub const fn new(entries: u32) -> Self {
        Self(Hash::new(entries))
    }

    /// Adds a prefix of `bits`.
    pub fn insert(&self, bits: u32, key: K, value: V) -> Result<(), InsertError> {
        self.0.insert(&(bits, key), &value, IfPresent::Replace)
    }

    /// Removes a prefix of `bits`.
    pub fn remove(&self, bits: u32, key: K) {
        self.0.remove(&(bits, key));
    }

    /// Number of prefixes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no prefix.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the longest prefix that contains the whole key.
    pub fn get(&self, key: K) -> Option<*const V> {
        let wanted = bytes_of(&key);
        let contains = |(bits, prefix): &(u32, K)| {
            let prefix = bytes_of(prefix);
            (0..*bits as usize).all(|bit| {
                let mask = 0x80 >> (bit % 8);
                prefix[bit / 8] & mask == wanted[bit / 8] & mask
            })
        };
        let elements = self.0.elements().into_iter().filter(|(key, _)| contains(key));
        elements.max_by_key(|((bits, _), _)| *bits).map(|(_, value)| value.cast_const())
    }
}

/// An array of values, zeroed where nothing was written.
pub struct Array<V>(Hash<u32, V>);

/// User space is not there.
pub type MappedArray<V> = Array<V>;

/// One CPU only.
pub type PerCpuArray<V> = Array<V>;

impl<V: Copy> Array<V> {
    /// An array of `entries` zeroed values.
    pub const fn new(entries: u32) -> Self {
        Self(Hash::new(entries))
    }

    /// The value at an index, `None` beyond the end.
    pub fn get(&self, index: u32) -> Option<*mut V> {
        if index >= self.0.entries {
            return None;
        }
        if let Some(value) = self.0.get(&index) {
            return Some(value);
        }
        // SAFETY: array values are ABI structs or integers, for which all zeroes are a value.
        let zero = unsafe { core::mem::zeroed() };
        let _ = self.0.insert(&index, &zero, IfPresent::Refuse);
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

/// On the host a socket is a number.
pub type SocketHandle = u64;

/// A value for each socket that needs one.
pub struct SocketStorage<V>(Hash<SocketHandle, V>);

impl<V: Copy> SocketStorage<V> {
    /// No socket has a value.
    pub const fn new() -> Self {
        Self(Hash::new(u32::MAX))
    }
}

impl<V: Copy> Default for SocketStorage<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Copy> PerSocket<V> for SocketStorage<V> {
    fn get(&self, socket: SocketHandle) -> Option<*mut V> {
        self.0.get(&socket)
    }

    fn insert(&self, socket: SocketHandle, value: &V) -> Result<(), InsertError> {
        self.0.insert(&socket, value, IfPresent::Replace)
    }

    fn remove(&self, socket: SocketHandle) {
        self.0.remove(&socket);
    }
}
