// SPDX-License-Identifier: Apache-2.0
//! `pintle bench`.

pub mod figures;
pub mod latency;
