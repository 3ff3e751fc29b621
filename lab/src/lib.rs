// SPDX-License-Identifier: Apache-2.0
//! Where tests, the demo and the benchmark happen: nodes and pods as network namespaces, real servers
//! and clients in them, Kubernetes objects, the agent as a process, and kube-proxy's rules.
//!
//! Everything is gone when its owner is dropped, or dies.

pub mod agent;
pub mod bpf;
pub mod cgroup;
pub mod client;
pub mod cluster;
pub mod device;
pub mod kube_proxy;
pub mod manifest;
pub mod netns;
pub mod objects;
pub mod patience;
pub mod self_report;
pub mod server;
pub mod topology;
mod wiring;
pub mod xdp;
