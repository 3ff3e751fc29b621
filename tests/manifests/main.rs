// SPDX-License-Identifier: Apache-2.0
//! The manifests: they build, each object is one that Kubernetes knows, and what they promise holds.

mod daemon_set;
mod monitoring;
mod objects;
mod role;
