// SPDX-License-Identifier: Apache-2.0
//! The tables of legacy iptables, by the socket options of raw sockets: each is read as a whole and
//! replaced as a whole. Structures are those of the kernel's `linux/netfilter/x_tables.h`.
//!
//! A table is looked at only if this network namespace has it already: asking for one makes it.

use std::{
    fs::{File, TryLockError},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    blob::{self, HOOKS, Layout, Remainder, Table},
    names,
};

/// `IPT_SO_SET_REPLACE`, `IPT_SO_SET_ADD_COUNTERS`; the numbers are the same for IPv6.
const SET_REPLACE: libc::c_int = 64;
const SET_ADD_COUNTERS: libc::c_int = 65;
/// `IPT_SO_GET_INFO`, `IPT_SO_GET_ENTRIES`.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// `XT_TABLE_MAXNAMELEN`.
const TABLE_NAME: usize = 32;
/// `struct xt_counters`: packets and bytes.
const COUNTER: usize = 16;
/// What every user of iptables holds while it changes a table.
const LOCK: &str = "/run/xtables.lock";
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How often a table is read again that changed before it was replaced.
const ATTEMPTS: u32 = 8;

/// A family's legacy iptables.
#[derive(Clone, Copy, Debug)]
struct Family {
    domain: libc::c_int,
    level: libc::c_int,
    layout: Layout,
    /// Lists the tables of this network namespace.
    list: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        domain: libc::AF_INET,
        level: libc::SOL_IP,
        layout: blob::V4,
        list: "/proc/thread-self/net/ip_tables_names",
    },
    Family {
        domain: libc::AF_INET6,
        level: libc::SOL_IPV6,
        layout: blob::V6,
        list: "/proc/thread-self/net/ip6_tables_names",
    },
];

/// What kube-proxy has in legacy tables, or had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Chains.
    pub chains: usize,
    /// Rules in chains of others.
    pub hooks: usize,
    /// Those of them by which packets meet kube-proxy's services.
    pub live: usize,
}

impl Found {
    fn add(&mut self, remainder: &Remainder) {
        self.chains += remainder.chains;
        self.hooks += remainder.hooks;
        self.live += remainder.live;
    }
}

/// Looks for what kube-proxy has in legacy tables.
pub fn find() -> io::Result<Found> {
    let mut found = Found::default();
    for family in FAMILIES {
        for table in tables(family)? {
            let socket = raw_socket(family)?;
            if let Some((_, remainder)) = read(&socket, family, &table)? {
                found.add(&remainder);
            }
        }
    }
    Ok(found)
}

/// Removes it, table by table, and tells what that was.
pub fn remove() -> io::Result<Found> {
    let mut found = Found::default();
    if find()? == found {
        return Ok(found);
    }
    let _lock = lock(Path::new(LOCK))?;
    for family in FAMILIES {
        for table in tables(family)? {
            if let Some(remainder) = cut(family, &table)? {
                found.add(&remainder);
            }
        }
    }
    Ok(found)
}

/// Removes kube-proxy's chains from one table.
fn cut(family: Family, table: &str) -> io::Result<Option<Remainder>> {
    let socket = raw_socket(family)?;
    let mut attempt = 1;
    loop {
        let Some((entries, remainder)) = read(&socket, family, table)? else { return Ok(None) };
        match replace(&socket, family, table, entries, &remainder) {
            Ok(()) => return Ok(Some(remainder)),
            // Somebody who does not hold the lock has changed the table.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Tables of this network namespace that may have kube-proxy's chains.
fn tables(family: Family) -> io::Result<Vec<String>> {
    let list = match std::fs::read_to_string(family.list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        list => list?,
    };
    let known = list.lines().filter(|table| names::IPTABLES.contains(table));
    Ok(known.map(str::to_owned).collect())
}

fn raw_socket(family: Family) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked before it is used.
    let fd = unsafe { libc::socket(family.domain, kind, libc::IPPROTO_RAW) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of a table's entries, and the table without kube-proxy's chains; `None` if it has none.
fn read(socket: &OwnedFd, family: Family, name: &str) -> io::Result<Option<(u32, Remainder)>> {
    let mut attempt = 1;
    let (entries, table) = loop {
        match read_once(socket, family, name) {
            // The table has grown or shrunk between the two questions.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && attempt < ATTEMPTS => {
                attempt += 1;
            }
            read => break read?,
        }
    };
    let remainder = blob::cut(family.layout, &table)
        .map_err(|error| io::Error::other(format!("the legacy table {name} has {error}")))?;
    Ok(remainder.map(|remainder| (entries, remainder)))
}

fn read_once(socket: &OwnedFd, family: Family, name: &str) -> io::Result<(u32, Table)> {
    // `struct ipt_getinfo`: name, valid hooks, entry and underflow of each hook, entries, size.
    let mut info = vec![0; TABLE_NAME + 4 * (3 + 2 * HOOKS)];
    info[..name.len()].copy_from_slice(name.as_bytes());
    get_option(socket, family.level, GET_INFO, &mut info)?;
    let numbers: Vec<u32> = info[TABLE_NAME..]
        .chunks_exact(4)
        .map(|bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    let hooks = |first: usize| std::array::from_fn(|hook| numbers[first + hook]);
    let (entries, size) = (numbers[1 + 2 * HOOKS], numbers[2 + 2 * HOOKS]);
    // `struct ipt_get_entries`: name and size, padded to 8 bytes, then the entries.
    let start = TABLE_NAME + 8;
    let mut block = vec![0; start + size as usize];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[TABLE_NAME..TABLE_NAME + 4].copy_from_slice(&size.to_ne_bytes());
    get_option(socket, family.level, GET_ENTRIES, &mut block)?;
    let table = Table {
        valid_hooks: numbers[0],
        hook_entry: hooks(1),
        underflow: hooks(1 + HOOKS),
        entries: block.split_off(start),
    };
    Ok((entries, table))
}

/// Puts the remainder in place of the table. The kernel starts with counters of zero and hands out
/// the old ones at the moment of the exchange; those of entries that stay are added again.
fn replace(
    socket: &OwnedFd,
    family: Family,
    name: &str,
    entries: u32,
    remainder: &Remainder,
) -> io::Result<()> {
    let mut counters = vec![0_u8; entries as usize * COUNTER];
    let table = &remainder.table;
    // `struct ipt_replace`.
    let mut request = vec![0; TABLE_NAME];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let sizes = [table.valid_hooks, remainder.kept.len() as u32, table.entries.len() as u32];
    for number in sizes.iter().chain(&table.hook_entry).chain(&table.underflow).chain([&entries]) {
        request.extend(number.to_ne_bytes());
    }
    request.resize(request.len().next_multiple_of(size_of::<usize>()), 0);
    // The kernel writes through this pointer during the call: the one place where that happens.
    request.extend((counters.as_mut_ptr() as usize).to_ne_bytes());
    request.extend(&table.entries);
    set_option(socket, family.level, SET_REPLACE, &request)?;

    // `struct xt_counters_info`: name and number, padded to 8 bytes, then the counters.
    let mut request = vec![0; TABLE_NAME];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request.extend((remainder.kept.len() as u32).to_ne_bytes());
    request.extend([0; 4]);
    for index in &remainder.kept {
        let at = index * COUNTER;
        request.extend(counters.get(at..at + COUNTER).unwrap_or(&[0; COUNTER]));
    }
    set_option(socket, family.level, SET_ADD_COUNTERS, &request)
}

fn get_option(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut [u8],
) -> io::Result<()> {
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: the value is writable for its length.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: the value is readable for its length. A pointer inside it leads to a buffer of the
    // caller's that lives until the call returns and is as large as the request says.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for the lock of iptables; without the file nobody else takes it either.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = match File::options().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another program holds the lock of iptables"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_not_there_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(lock(&path).unwrap().is_none());
        std::fs::write(&path, "").unwrap();
        let held = lock(&path).unwrap();
        assert!(held.is_some());
    }
}
