// SPDX-License-Identifier: Apache-2.0
//! The kernel side as user space sees it: load, attach, write and read maps. The only user of aya.

pub mod attach;
pub mod batch;
pub mod cgroup;
pub mod cleanup;
pub mod clsact;
mod detach;
pub mod devices;
mod element;
pub mod entry;
mod expiry;
pub mod foreign;
pub mod kernel_flows;
mod link;
mod mapped;
mod node_tables;
pub mod object;
mod persist;
pub mod pins;
pub mod policy_entry;
pub mod policy_tables;
pub mod policy_view;
mod range;
mod shape;
pub mod socket;
mod socket_diag;
pub mod stale_sockets;
pub mod stray_flows;
pub mod sweep;
pub mod tables;
mod tcx;
pub mod view;
pub mod xdp;
