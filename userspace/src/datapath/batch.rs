// SPDX-License-Identifier: Apache-2.0
//! Many entries by one system call: `BPF_MAP_LOOKUP_BATCH`, `BPF_MAP_UPDATE_BATCH` and
//! `BPF_MAP_DELETE_BATCH`, several times faster than key by key.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use pintle_abi::plain::Plain;

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;
/// Entries per call at first; the kernel asks for more if a hash bucket has more.
const BATCH: usize = 4096;

/// The member `batch` of the kernel's `union bpf_attr`.
#[repr(C)]
#[derive(Debug)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Calls `visit` with every entry of a hash, LRU hash or array map.
///
/// The map must have keys of the size of `K` and values of the size of `V`, and no per-CPU values;
/// checked maps are to be had from [`super::view::View`]. Entries that come or go meanwhile may be
/// seen or not; every other entry is seen once.
pub(super) fn for_each<K: Plain + Default, V: Plain + Default>(
    fd: BorrowedFd<'_>,
    visit: impl FnMut(&K, &V),
) -> io::Result<()> {
    for_each_below(fd, usize::MAX, visit)
}

/// Calls `visit` with the first `end` entries that the kernel gives: with an array, which it reads in
/// the order of its indexes, with those below.
///
/// The map must be as [`for_each`] needs it.
pub(super) fn for_each_below<K: Plain + Default, V: Plain + Default>(
    fd: BorrowedFd<'_>,
    end: usize,
    mut visit: impl FnMut(&K, &V),
) -> io::Result<()> {
    let mut left = end;
    let mut keys = vec![K::default(); BATCH];
    let mut values = vec![V::default(); BATCH];
    let mut position = [0u64; 1];
    let mut next = [0u64; 1];
    let mut started = false;
    while left > 0 {
        let mut attr = BatchAttr {
            in_batch: if started { position.as_ptr() as u64 } else { 0 },
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: keys.len().min(left) as u32,
            map_fd: fd.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the attribute's pointers are live for the call; `keys` and `values` have room for
        // `count` entries of the map's sizes (the caller's promise), `Plain` makes every byte
        // pattern a value; the position is a u32 for the map types named above.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw mut attr, size_of_val(&attr))
        };
        let error = (result < 0).then(io::Error::last_os_error);
        let code = error.as_ref().and_then(io::Error::raw_os_error);
        match code {
            // ENOENT ends the iteration; its entries count all the same.
            None | Some(libc::ENOENT) => {
                let count = (attr.count as usize).min(keys.len());
                keys[..count]
                    .iter()
                    .zip(&values[..count])
                    .for_each(|(key, value)| visit(key, value));
                if code.is_some() {
                    return Ok(());
                }
                left -= count;
                position = next;
                started = true;
            }
            Some(libc::ENOSPC) => {
                keys.resize(keys.len() * 2, K::default());
                values.resize(values.len() * 2, V::default());
            }
            Some(libc::EINTR) => {}
            Some(_) => return error.map_or(Ok(()), Err),
        }
    }
    Ok(())
}

/// Writes entries of an array map; on failure some may be written.
///
/// The map must have keys of the size of `K` and values of the size of `V`.
pub(super) fn update<K: Plain, V: Plain>(
    fd: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> io::Result<()> {
    update_from(fd, keys, values).1
}

/// Writes entries of an array or hash map one after the other; returns how many it has written.
///
/// The map must have keys of the size of `K` and values of the size of `V`.
pub(super) fn update_from<K: Plain, V: Plain>(
    fd: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> (usize, io::Result<()>) {
    let count = keys.len().min(values.len());
    // SAFETY: `keys` and `values` hold `count` entries of the map's sizes (the caller's promise).
    unsafe { change(BPF_MAP_UPDATE_BATCH, fd, keys.as_ptr(), values.as_ptr(), count) }
}

/// Removes entries of a hash map one after the other, among which some may be missing; returns of how
/// many it was made sure that they are not there.
///
/// The map must have keys of the size of `K`.
pub(super) fn remove_from<K: Plain>(fd: BorrowedFd<'_>, keys: &[K]) -> (usize, io::Result<()>) {
    let mut made = 0;
    while made < keys.len() {
        let (rest, values) = (&keys[made..], ptr::null::<u8>());
        // SAFETY: `rest` holds its length of keys of the map's size (the caller's promise), and the
        // kernel needs no values to remove them.
        let (count, result) =
            unsafe { change(BPF_MAP_DELETE_BATCH, fd, rest.as_ptr(), values, rest.len()) };
        made += count;
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => made += 1,
            Err(error) => return (made, Err(error)),
            Ok(()) => {}
        }
    }
    (made, Ok(()))
}

/// Makes changes one after the other; returns how many it has made.
///
/// # Safety
///
/// `keys` and, if the command needs them, `values` point to `count` entries of the map's sizes.
unsafe fn change<K: Plain, V: Plain>(
    command: libc::c_long,
    fd: BorrowedFd<'_>,
    keys: *const K,
    values: *const V,
    count: usize,
) -> (usize, io::Result<()>) {
    if count == 0 {
        return (0, Ok(()));
    }
    let mut attr = BatchAttr {
        in_batch: 0,
        out_batch: 0,
        keys: keys as u64,
        values: values as u64,
        count: count as u32,
        map_fd: fd.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: `keys` and `values` live until the call returns (the caller's promise); the kernel only
    // reads them.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of_val(&attr)) };
    if result < 0 {
        let error = io::Error::last_os_error();
        // What is refused as a whole leaves the count as it was.
        let made = if (attr.count as usize) < count { attr.count as usize } else { 0 };
        (made, Err(error))
    } else {
        (count, Ok(()))
    }
}
