// SPDX-License-Identifier: Apache-2.0
//! What the agent shall do, from a KubeProxyConfiguration, kube-proxy's flags and our own.
//!
//! The way: text or flags → [`kube_proxy`] (as written) → [`defaults`] → [`validate`] → [`resolve`]
//! → one typed [`Config`]. A flag of ours wins over the file. kube-proxy's own flags count only
//! without a file, as in kube-proxy.
//!
//! Invariant: without a file and without flags of kube-proxy nothing of the node is touched that
//! kube-proxy would have touched for its defaults (conntrack's settings, the OOM score).

pub mod decode;
pub mod defaults;
pub mod duration;
pub mod file;
pub mod kube_proxy;
pub mod resolve;
pub mod resolved;
pub mod validate;

#[cfg(test)]
mod examples;

pub use resolve::{Inputs, Resolution, resolve};
pub use resolved::Config;
