// SPDX-License-Identifier: Apache-2.0
//! The contract between the kernel programs and user space.
//!
//! Everything that crosses the border is declared here once: map keys and values, drop reasons,
//! counters, the names of pinned maps. Addresses and ports are in network byte order, every other
//! integer is in the byte order of the host, because a map never leaves its machine.
//!
//! Invariants:
//! - a struct has no padding and no invalid bit pattern ([`abi_struct!`] refuses both);
//! - a layout changes only together with [`ABI_VERSION`] (`layout.golden` is compared in a test).

#![no_std]

pub mod addr;
pub mod affinity;
pub mod counter;
pub mod device;
pub mod drop_reason;
pub mod exit;
pub mod flow;
pub mod fragment;
pub mod layout;
pub mod map;
pub mod plain;
pub mod policy;
pub mod service;
pub mod settings;
pub mod socket;
pub mod source_range;
pub mod step;

/// Version of every layout in this crate; part of the directory name of the pins, so that a binary
/// never opens maps that another layout wrote.
pub const ABI_VERSION: u32 = 6;
