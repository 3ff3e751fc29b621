// SPDX-License-Identifier: Apache-2.0
//! What the maps should hold, computed from what is known. Pure: no I/O, no clock, no randomness.
//!
//! [`planner`] keeps what is known and answers each batch of events with the frontends that it
//! changes. [`selection`] is the heart: which endpoints of a service port take connections here.

mod claims;
pub mod desired;
pub mod info;
mod known;
pub mod planner;
mod selection;
