// SPDX-License-Identifier: Apache-2.0
//! What the test tiers, the demo and the benchmarks share: packet vectors and simulated worlds,
//! and worlds of network namespaces with real servers, clients and the agent as a process.

pub mod api_server;
pub mod certificate;
pub mod container;
pub mod crowd;
pub mod flood;
pub mod foreign;
pub mod frame;
pub mod host_world;
pub mod kernel_state;
pub mod kernel_world;
pub mod kustomize;
pub mod load;
pub mod monitoring;
pub mod planned;
pub mod policed_cluster;
pub mod policies;
pub mod real_api_server;
pub mod sctp;
pub mod service_account;
pub mod stream;
pub mod variant;
pub mod vectors;
pub mod world;
