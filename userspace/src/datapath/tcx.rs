// SPDX-License-Identifier: Apache-2.0
//! Numbers of the tcx programs of an interface: what the kernel tells without `CAP_SYS_ADMIN`, where
//! aya asks for names. Our own are those that this process has noted.
//!
//! Until its programs are attached an agent does not know those of an earlier one for its own; the
//! interface takes the way through the stack meanwhile.

use std::{
    collections::BTreeMap,
    ffi::CString,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pintle_abi::counter::Hook;

/// `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS`.
pub const INGRESS: u32 = 46;
/// The other side.
pub const EGRESS: u32 = 47;

const BPF_PROG_QUERY: libc::c_long = 16;
/// More than the kernel lets stand on one side of an interface (`BPF_MPROG_MAX`).
const MOST: usize = 64;

/// The kernel gives a number to one program at a time, and ours live as long as this process.
static OURS: Mutex<BTreeMap<u32, Hook>> = Mutex::new(BTreeMap::new());

/// The part of `union bpf_attr` that asks for programs.
#[repr(C)]
#[derive(Default)]
struct Query {
    ifindex: u32,
    side: u32,
    query_flags: u32,
    attach_flags: u32,
    numbers: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// Notes a program of this process.
pub fn note(number: u32, hook: Hook) {
    ours().insert(number, hook);
}

/// The programs on one side of an interface in their order: ours by their hook.
pub fn names(interface: &str, side: u32) -> io::Result<Vec<String>> {
    let numbers = numbers(interface, side)?;
    let ours = ours();
    let name = |number: &u32| match ours.get(number) {
        Some(hook) => hook.as_str().to_owned(),
        None => format!("number {number}"),
    };
    Ok(numbers.iter().map(name).collect())
}

/// Their numbers. Fails where the kernel does not know tcx.
pub fn numbers(interface: &str, side: u32) -> io::Result<Vec<u32>> {
    let name = CString::new(interface)?;
    // SAFETY: the name ends with a zero and lives through the call.
    let ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if ifindex == 0 {
        return Err(io::Error::last_os_error());
    }
    let mut numbers = [0_u32; MOST];
    let mut query = Query {
        ifindex,
        side,
        numbers: numbers.as_mut_ptr() as u64,
        count: MOST as u32,
        ..Query::default()
    };
    // SAFETY: the attribute and the numbers live through the call, which writes as many as `count` says.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) };
    match result {
        0 => Ok(numbers.into_iter().take(query.count as usize).collect()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn ours() -> MutexGuard<'static, BTreeMap<u32, Hook>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}
