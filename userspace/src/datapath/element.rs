// SPDX-License-Identifier: Apache-2.0
//! Single elements of a hash map, by the system calls that aya does not have.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use pintle_abi::{addr::Tuple, flow::Flow, plain::Plain};

use super::expiry::FlowTable;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_NOEXIST: u64 = 1;
const BPF_EXIST: u64 = 2;

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

    /// An element.
    pub(super) fn find(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::default();
        Ok(self.call(BPF_MAP_LOOKUP_ELEM, key, Some(&mut value), 0)?.then_some(value))
    }

    /// Removes an element; one that is gone already is as good.
    pub(super) fn delete(&mut self, key: &K) -> io::Result<()> {
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

impl<A> FlowTable<A> for Elements<'_, Tuple<A>, Flow<A>>
where
    Tuple<A>: Plain,
    Flow<A>: Plain + Default,
{
    fn get(&self, key: &Tuple<A>) -> io::Result<Option<Flow<A>>> {
        self.find(key)
    }

    fn take(&mut self, key: &Tuple<A>) -> io::Result<Option<Flow<A>>> {
        let mut value = Flow::default();
        let found = self.call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, key, Some(&mut value), 0)?;
        Ok(found.then_some(value))
    }

    fn put_back(&mut self, key: &Tuple<A>, mut flow: Flow<A>) -> io::Result<()> {
        match self.call(BPF_MAP_UPDATE_ELEM, key, Some(&mut flow), BPF_NOEXIST) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            result => result.map(drop),
        }
    }

    fn replace(&mut self, key: &Tuple<A>, mut flow: Flow<A>) -> io::Result<()> {
        self.call(BPF_MAP_UPDATE_ELEM, key, Some(&mut flow), BPF_EXIST).map(drop)
    }

    fn remove(&mut self, key: &Tuple<A>) -> io::Result<()> {
        self.call(BPF_MAP_DELETE_ELEM, key, None, 0).map(drop)
    }
}
