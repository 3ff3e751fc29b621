// SPDX-License-Identifier: Apache-2.0
//! Single elements of a hash map, by the system calls that aya does not have.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use pintle_abi::plain::Plain;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_NOEXIST: u64 = 1;

/// The element members of the kernel's `union bpf_attr`.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A hash map whose keys and values have been checked against `K` and `V`.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a, K, V> {
    fd: BorrowedFd<'a>,
    types: std::marker::PhantomData<(K, V)>,
}

impl<'a, K: Plain, V: Plain + Default> Elements<'a, K, V> {
    /// The elements of a map with keys of the size of `K` and values of the size of `V`.
    pub(super) fn of(fd: BorrowedFd<'a>) -> Self {
        Self { fd, types: std::marker::PhantomData }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::default();
        Ok(self.call(BPF_MAP_LOOKUP_ELEM, key, Some(&mut value), 0)?.then_some(value))
    }

    /// Removes an element and tells what it was at that moment.
    pub(super) fn take(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::default();
        let found = self.call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, key, Some(&mut value), 0)?;
        Ok(found.then_some(value))
    }

    /// Puts an element back, unless another has taken its place.
    pub(super) fn put_back(&self, key: &K, mut value: V) -> io::Result<()> {
        match self.call(BPF_MAP_UPDATE_ELEM, key, Some(&mut value), BPF_NOEXIST) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Removes an element.
    pub(super) fn remove(&self, key: &K) -> io::Result<()> {
        self.call(BPF_MAP_DELETE_ELEM, key, None, 0).map(drop)
    }

    /// `false` if there is no such key.
    fn call(
        &self,
        command: libc::c_long,
        key: &K,
        value: Option<&mut V>,
        flags: u64,
    ) -> io::Result<bool> {
        let mut attr = ElementAttr {
            map_fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: std::ptr::from_ref(key) as u64,
            value: value.map_or(0, |value| std::ptr::from_mut(value) as u64),
            flags,
        };
        // SAFETY: the pointers are live for the call, and the map's sizes are those of `K` and `V`
        // (the caller's promise); every byte pattern is a value of a `Plain` type.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of_val(&attr)) };
        if result == 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            error => Err(error),
        }
    }
}
