// SPDX-License-Identifier: Apache-2.0
//! What the maps should hold, computed from what is known. Pure: no I/O, no clock, no randomness.
//!
//! [`planner`] keeps what is known and answers each batch of events with the frontends that it
//! changes. [`selection`] is the heart: which endpoints of a service port take connections here;
//! [`frontends`] knows at which addresses, for which clients and under which policy.

mod addresses;
mod claims;
pub mod desired;
mod frontends;
pub mod health;
pub mod info;
mod known;
pub mod maglev;
pub mod node_ports;
pub mod options;
pub mod planner;
mod ranges;
mod selection;
mod unserved;
