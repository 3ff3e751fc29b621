// SPDX-License-Identifier: Apache-2.0
//! The real kernel: aya's maps behind the few operations that the data path needs.

use aya_ebpf::{btf_maps::SkStorage, helpers, maps};

use super::{IfPresent, InsertError, PerSocket};

const BPF_ANY: u64 = 0;
const BPF_NOEXIST: u64 = 1;
const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_SK_STORAGE_GET_F_CREATE: u64 = 1;
const EEXIST: i32 = -17;

macro_rules! hash {
    ($(#[$meta:meta])* $name:ident, $aya:ident, $flags:expr) => {
        $(#[$meta])*
        #[repr(transparent)]
        pub struct $name<K, V>(maps::$aya<K, V>);

        impl<K, V> $name<K, V> {
            /// A map of at most `entries` elements.
            pub const fn new(entries: u32) -> Self {
                Self(maps::$aya::with_max_entries(entries, $flags))
            }

            /// The value of a key. It may be written in place; several CPUs may do so at once.
            #[inline(always)]
            pub fn get(&self, key: &K) -> Option<*mut V> {
                self.0.get_ptr_mut(key)
            }

            /// Adds or replaces an element; atomic for each element.
            #[inline(always)]
            pub fn insert(&self, key: &K, value: &V, present: IfPresent) -> Result<(), InsertError> {
                let flags = match present {
                    IfPresent::Refuse => BPF_NOEXIST,
                    IfPresent::Replace => BPF_ANY,
                };
                self.0.insert(key, value, flags).map_err(|code| {
                    if code == EEXIST { InsertError::Exists } else { InsertError::NoRoom }
                })
            }

            /// Removes an element if it is there.
            #[inline(always)]
            pub fn remove(&self, key: &K) {
                let _ = self.0.remove(key);
            }
        }
    };
}

hash! {
    /// A hash that takes memory as it fills and never evicts.
    Hash, HashMap, BPF_F_NO_PREALLOC
}
hash! {
    /// A hash that evicts what was not used for long when it is full.
    LruHash, LruHashMap, 0
}

/// Prefixes, and which of them contain something.
#[repr(transparent)]
pub struct PrefixTrie<K, V>(maps::LpmTrie<K, V>);

impl<K, V> PrefixTrie<K, V> {
    /// A trie of at most `entries` prefixes.
    pub const fn new(entries: u32) -> Self {
        Self(maps::LpmTrie::with_max_entries(entries, 0))
    }

    /// The value of the longest prefix that contains the whole key.
    #[inline(always)]
    pub fn get(&self, key: K) -> Option<*const V> {
        let bits = size_of::<K>() as u32 * 8;
        self.0.get(maps::lpm_trie::Key::new(bits, key)).map(core::ptr::from_ref)
    }
}

/// An array of values.
#[repr(transparent)]
pub struct Array<V, const FLAGS: u32 = 0>(maps::Array<V>);

/// The same that user space may have as its own memory.
pub type MappedArray<V> = Array<V, BPF_F_MMAPABLE>;

impl<V, const FLAGS: u32> Array<V, FLAGS> {
    /// An array of `entries` zeroed values.
    pub const fn new(entries: u32) -> Self {
        Self(maps::Array::with_max_entries(entries, FLAGS))
    }

    /// The value at an index, `None` beyond the end.
    #[inline(always)]
    pub fn get(&self, index: u32) -> Option<*mut V> {
        self.0.get_ptr_mut(index)
    }
}

/// An array with one copy of its values for each CPU.
#[repr(transparent)]
pub struct PerCpuArray<V>(maps::PerCpuArray<V>);

impl<V> PerCpuArray<V> {
    /// An array of `entries` zeroed values for each CPU.
    pub const fn new(entries: u32) -> Self {
        Self(maps::PerCpuArray::with_max_entries(entries, 0))
    }

    /// This CPU's value at an index, `None` beyond the end.
    #[inline(always)]
    pub fn get(&self, index: u32) -> Option<*mut V> {
        self.0.get_ptr_mut(index)
    }
}

/// Programs that another program continues with.
#[repr(transparent)]
pub struct Steps(maps::ProgramArray);

impl Steps {
    /// An array of `entries` empty places.
    pub const fn new(entries: u32) -> Self {
        Self(maps::ProgramArray::with_max_entries(entries, 0))
    }

    /// Continues with a program; returns only if its place is empty.
    #[inline(always)]
    pub fn call(&self, context: *mut core::ffi::c_void, index: u32) {
        struct Context(*mut core::ffi::c_void);
        impl aya_ebpf::EbpfContext for Context {
            fn as_ptr(&self) -> *mut core::ffi::c_void {
                self.0
            }
        }
        // SAFETY: nothing is on the stack that would have to be dropped.
        unsafe { self.0.tail_call(&Context(context), index) };
    }
}

/// The first number below `count` that a test holds for; the test must not capture anything.
#[inline(always)]
pub fn position<C, T: Fn(&C, u32) -> bool>(count: u32, context: &C, _test: T) -> Option<u32> {
    struct Search<'a, C> {
        context: &'a C,
        found: u32,
    }
    unsafe extern "C" fn step<C, T: Fn(&C, u32) -> bool>(
        index: u32,
        search: *mut core::ffi::c_void,
    ) -> i64 {
        const { assert!(size_of::<T>() == 0, "a test that captures cannot be called from here") };
        // SAFETY: the kernel hands on the pointer below; a test without captures has no bytes.
        let (search, test) = unsafe {
            (&mut *search.cast::<Search<'_, C>>(), core::ptr::NonNull::<T>::dangling().as_ref())
        };
        let found = test(search.context, index);
        if found {
            search.found = index;
        }
        i64::from(found)
    }
    let mut search = Search { context, found: count };
    let context = (&raw mut search).cast();
    // SAFETY: the callback has the signature that the helper asks for, and its context lives.
    unsafe { helpers::generated::bpf_loop(count, step::<C, T> as *mut _, context, 0) };
    (search.found != count).then_some(search.found)
}

/// What the kernel hands to a program for a socket.
pub type SocketHandle = *mut aya_ebpf::bindings::bpf_sock;

/// A value for each socket that needs one. Described by BTF, which the kernel demands of this kind.
pub type SocketStorage<V> = SkStorage<V>;

impl<V: Copy> PerSocket<V> for SocketStorage<V> {
    #[inline(always)]
    fn get(&self, socket: SocketHandle) -> Option<*mut V> {
        let map = core::ptr::from_ref(self).cast_mut().cast();
        let none = core::ptr::null_mut();
        // SAFETY: the map is one, and the handle is a socket that the kernel handed out.
        let value = unsafe { helpers::generated::bpf_sk_storage_get(map, socket.cast(), none, 0) };
        if value.is_null() { None } else { Some(value.cast()) }
    }

    #[inline(always)]
    fn insert(&self, socket: SocketHandle, value: &V) -> Result<(), InsertError> {
        let map = core::ptr::from_ref(self).cast_mut().cast();
        let initial = core::ptr::from_ref(value).cast_mut().cast();
        let create = BPF_SK_STORAGE_GET_F_CREATE;
        // SAFETY: as above; the value lives through the call.
        let place =
            unsafe { helpers::generated::bpf_sk_storage_get(map, socket.cast(), initial, create) };
        if place.is_null() {
            return Err(InsertError::NoRoom);
        }
        // A value that was there before is not replaced by the helper.
        // SAFETY: the place is the socket's, and lives as long as the program runs.
        unsafe { *place.cast::<V>() = *value };
        Ok(())
    }

    #[inline(always)]
    fn remove(&self, socket: SocketHandle) {
        let map = core::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: as above.
        unsafe { helpers::generated::bpf_sk_storage_delete(map, socket.cast()) };
    }
}

/// Changes a state in a map if it is what it is believed to be; no other CPU comes between.
#[inline(always)]
pub fn claim(state: &mut u64, from: u64, to: u64) -> bool {
    let found: u64;
    // SAFETY: the reference is to aligned memory of a map, as the instruction demands.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({state} + 0, r0, {to})",
            state = in(reg) core::ptr::from_mut(state),
            to = in(reg) to,
            inout("r0") from => found,
            options(nostack),
        );
    }
    found == from
}

/// Adds one to a count in a map; no increment of another CPU is lost.
#[inline(always)]
pub fn increment(count: &mut u64) {
    // SAFETY: the reference is to aligned memory of a map, as the instruction demands.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({count} + 0) += {one}",
            count = in(reg) core::ptr::from_mut(count),
            one = in(reg) 1_u64,
            options(nostack),
        );
    }
}

/// Keeps LLVM from merging this place with its like in another branch, if their numbers differ.
#[inline(always)]
pub fn apart<const N: i32>() {
    // SAFETY: writes a register that nobody reads.
    unsafe {
        core::arch::asm!("{0} = {number}", out(reg) _, number = const N, options(nomem, nostack));
    }
}

/// `CLOCK_MONOTONIC_COARSE` in ns: a tick old at most, and seven times cheaper than the exact clock.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no arguments and no precondition.
    unsafe { helpers::generated::bpf_ktime_get_coarse_ns() }
}

/// The number of the tick, of which the kernel's timer makes 100 to 1,000 a second.
#[inline(always)]
pub fn tick() -> u64 {
    // SAFETY: the helper has no arguments and no precondition.
    unsafe { helpers::generated::bpf_jiffies64() }
}

/// A pseudo-random number.
#[inline(always)]
pub fn random() -> u32 {
    // SAFETY: the helper has no arguments and no precondition.
    unsafe { helpers::generated::bpf_get_prandom_u32() }
}
