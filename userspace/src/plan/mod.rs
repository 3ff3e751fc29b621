// SPDX-License-Identifier: Apache-2.0
//! What the maps should hold, computed from what is known. Pure: no I/O, no clock, no randomness.

pub mod desired;
