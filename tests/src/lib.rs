// SPDX-License-Identifier: Apache-2.0
//! What the test tiers share.

pub mod frame;
pub mod kernel_world;
pub mod vectors;
pub mod world;
