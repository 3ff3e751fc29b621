// SPDX-License-Identifier: Apache-2.0
//! The data path: what happens to a packet at each hook.
//!
//! The same code is compiled for the kernel (`target_arch = "bpf"`) and for the host, where packet
//! vectors run as ordinary unit tests. It is generic over the address family ([`family::Family`])
//! and over packet access ([`packet::Packet`]); [`kernel`] hides what differs between the kernel
//! and its stand-in on the host.
//!
//! A packet's way: [`hooks`] tells the story, [`wire`] reads the headers, [`flow`] finds the
//! connection or [`connect`] makes one, [`lb`] chooses a backend, [`nat`] rewrites, [`sctp`] does so
//! for SCTP and [`icmp`] inside ICMP errors, [`fragment`] and [`held`] keep fragments together, [`reject`] answers, [`report`] counts.
//! [`policy`] says what may be, asked by [`hooks::judge`].
//! A socket that is translated when it dials ([`socket`]) has no such packets.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(not(target_arch = "bpf"))]
extern crate std;

pub mod abort;
pub mod affinity;
pub mod checksum;
pub mod clock;
pub mod connect;
pub mod exit;
pub mod family;
pub mod flow;
pub mod fragment;
pub mod held;
pub mod hooks;
pub mod icmp;
pub mod kernel;
pub mod lb;
pub mod maps;
pub mod masquerade;
pub mod nat;
pub mod origin;
pub mod packet;
pub mod policy;
pub mod reject;
pub mod report;
pub mod reset;
pub mod sctp;
pub mod socket;
pub mod wire;
