// SPDX-License-Identifier: Apache-2.0
//! Clients and servers share one CPU, where a packet is handed on without a wake-up from another;
//! everything else keeps off it.

use std::io;
use std::mem;

/// The CPU that is measured on, and the others.
#[derive(Clone, Copy)]
pub struct Cpus {
    measured: usize,
    others: libc::cpu_set_t,
}

impl Cpus {
    /// Takes the last CPU that this process may use for measuring.
    pub fn choose() -> io::Result<Self> {
        let mut allowed = empty();
        // SAFETY: the set is valid for writing and the size is its own.
        if unsafe { libc::sched_getaffinity(0, mem::size_of_val(&allowed), &raw mut allowed) } != 0
        {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the index is below CPU_SETSIZE.
        let is_allowed = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &allowed) };
        let measured = (0..libc::CPU_SETSIZE as usize).rev().find(is_allowed).unwrap_or(0);
        let mut others = allowed;
        // SAFETY: the set is initialized, and the index came from a set of the same size.
        let left = unsafe {
            libc::CPU_CLR(measured, &mut others);
            libc::CPU_COUNT(&others)
        };
        // A machine with one CPU does everything there.
        Ok(Self { measured, others: if left == 0 { allowed } else { others } })
    }

    /// Its number.
    pub fn measured(&self) -> usize {
        self.measured
    }

    /// Seconds so far that the machine below a virtual one has given it to others.
    pub fn stolen(&self) -> f64 {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let prefix = format!("cpu{} ", self.measured);
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default();
        let ticks: f64 = line.split(' ').nth(7).and_then(|ticks| ticks.parse().ok()).unwrap_or(0.0);
        // SAFETY: the call has no preconditions.
        ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
    }

    /// Keeps the calling thread, and what it starts, off the CPU that is measured on.
    pub fn keep_off(&self) -> io::Result<()> {
        bind(&self.others)
    }

    /// Moves the calling thread, and what it starts, to the CPU that is measured on.
    pub fn enter(&self) -> io::Result<()> {
        let mut set = empty();
        // SAFETY: the set is initialized, and the index came from a set of the same size.
        unsafe { libc::CPU_SET(self.measured, &mut set) };
        bind(&set)
    }
}

fn empty() -> libc::cpu_set_t {
    // SAFETY: all-zero bytes are a valid, empty CPU set.
    unsafe { mem::zeroed() }
}

fn bind(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: the set is valid for reading and the size is its own.
    let rc = unsafe { libc::sched_setaffinity(0, mem::size_of_val(set), set) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// CPU time of this process so far, of all its threads, in nanoseconds.
pub fn process_time() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of the calling thread so far, in nanoseconds.
pub fn thread_time() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid for writing; both clocks always exist.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
