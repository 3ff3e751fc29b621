// SPDX-License-Identifier: Apache-2.0
//! What the kernel tests, the demo and the benchmarks share: worlds of network namespaces, real
//! servers and clients in them, and the agent as a process.

pub mod agent;
pub mod client;
pub mod kernel_state;
pub mod latency;
pub mod load;
pub mod manifest;
pub mod netns;
pub mod offload;
pub mod server;
pub mod topology;
