// SPDX-License-Identifier: Apache-2.0
//! What the agent answers: health, readiness and metrics over TCP, its state over a Unix socket.
//!
//! Handlers ask [`state::StateSource`] when they are asked; nothing is copied on every change.

pub mod http;
pub mod metrics;
pub mod socket;
pub mod state;

pub use http::{HealthServer, MetricsServer};
pub use socket::socket_path;
pub use state::{Names, Readiness, StateSource, Status};
