// SPDX-License-Identifier: Apache-2.0
//! The kernel side as user space sees it: load, attach, write and read maps. The only user of aya.

pub mod attach;
pub mod batch;
pub mod cleanup;
pub mod clsact;
mod detach;
pub mod devices;
mod element;
pub mod entry;
mod expiry;
pub mod foreign;
pub mod kernel_flows;
pub mod object;
pub mod pins;
mod range;
mod settings;
pub mod sweep;
pub mod tables;
pub mod view;
