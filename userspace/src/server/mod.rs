// SPDX-License-Identifier: Apache-2.0
//! What the agent answers: health, readiness and metrics over TCP, its state over a Unix socket.
//!
//! Handlers ask [`state::StateSource`] and [`recorder::Recorder`] when they are asked; nothing is
//! copied on every change.

pub mod health;
pub mod http;
pub mod metrics;
pub mod metrics_http;
pub mod policy;
pub mod recorder;
pub mod service_health;
pub mod socket;
pub mod state;
mod text_format;

pub use http::HealthServer;
pub use metrics_http::MetricsServer;
pub use policy::PolicySource;
pub use recorder::Recorder;
pub use socket::socket_path;
pub use state::{Names, Readiness, StateSource, Status};
