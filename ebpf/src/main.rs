// SPDX-License-Identifier: Apache-2.0
//! Every program, and the one place where an action becomes a number.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod cgroup;
#[cfg(target_arch = "bpf")]
mod context;
#[cfg(target_arch = "bpf")]
mod fib;
#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod route;
#[cfg(target_arch = "bpf")]
mod tc;
#[cfg(target_arch = "bpf")]
mod xdp;
#[cfg(target_arch = "bpf")]
mod xdp_programs;

/// The kernel programs exist for the `bpf` target only; the host builds this crate for its library.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
