// SPDX-License-Identifier: Apache-2.0
//! From API objects to model objects: the edge where everything is checked once.

mod api;
mod cluster;
mod cluster_policy;
mod external;
mod kind;
mod metadata;
mod network_policy;
mod selector;
mod service;
mod slice;

pub use cluster::{namespace, node, pod, service_cidr};
pub use cluster_policy::cluster_policy;
pub use kind::{Converter, DocumentKind};
pub use metadata::{Converted, NameError};
pub use network_policy::network_policy;
pub use selector::AUDIT_ANNOTATION;
pub use service::service;
pub use slice::endpoint_slice;

#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod tests;
