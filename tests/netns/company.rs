// SPDX-License-Identifier: Apache-2.0
//! Which tests run side by side: they share the machine's processors and kernel.
//!
//! Most of a test is waiting, or the verifier at work for its agent, so `cargo xtask test` runs several
//! at once, each in a process of its own. Every test says first how it stands to the others:
//!
//! - `beside_others`: nearly all. Their namespaces have no names, and what has one and belongs to the
//!   machine (pin directories, cgroups, files) has the number of its process in it. Their patience is
//!   seconds.
//! - `alone`: what loads the machine (floods, 20,000 connections, 1,000 services, transfers at full
//!   speed), what expects something within milliseconds, and what counts every single failure while
//!   things come and go.

use std::fs::File;
use std::io;

/// A place on the machine, given back when it is dropped.
pub struct Company {
    _machine: File,
}

/// Waits until no test runs that has to be alone, and keeps those from starting.
pub fn beside_others() -> Company {
    enter(File::lock_shared)
}

/// Waits until no other test runs, and keeps them from starting.
pub fn alone() -> Company {
    enter(File::lock)
}

fn enter(lock: fn(&File) -> io::Result<()>) -> Company {
    // Who waits to be alone waits in the door: nobody who comes later gets past it.
    let door = open("door");
    door.lock().expect("lock the door");
    let machine = open("machine");
    lock(&machine).expect("lock the machine");
    Company { _machine: machine }
}

/// A file that is only there to be locked: the kernel unlocks it when a process dies.
fn open(name: &str) -> File {
    let path = std::env::temp_dir().join(format!("pintle-tests-{name}.lock"));
    File::options().create(true).truncate(false).write(true).open(path).expect("a file to lock")
}
