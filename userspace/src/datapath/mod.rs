// SPDX-License-Identifier: Apache-2.0
//! The kernel side as user space sees it. The only module that knows aya.

pub mod batch;
pub mod cleanup;
pub mod entry;
pub mod pins;
pub mod view;
