// SPDX-License-Identifier: Apache-2.0
//! What the test tiers, the demo and the benchmarks share: packet vectors and simulated worlds,
//! and worlds of network namespaces with real servers, clients and the agent as a process.

pub mod agent;
pub mod cgroup;
pub mod client;
pub mod cluster;
pub mod container;
pub mod crowd;
pub mod figures;
pub mod flood;
pub mod foreign;
pub mod frame;
pub mod host_world;
pub mod kernel_state;
pub mod kernel_world;
pub mod kube_proxy;
pub mod kustomize;
pub mod latency;
pub mod load;
pub mod manifest;
pub mod monitoring;
pub mod netns;
pub mod objects;
pub mod offload;
pub mod planned;
pub mod policed_cluster;
pub mod policies;
pub mod sctp;
pub mod self_report;
pub mod server;
pub mod stream;
pub mod topology;
pub mod variant;
pub mod vectors;
pub mod world;
pub mod wrapper;
