// SPDX-License-Identifier: Apache-2.0
//! From API objects to model objects: the edge where everything is checked once.

mod cluster;
mod external;
mod kind;
mod metadata;
mod service;
mod slice;

pub use cluster::{namespace, node, pod, service_cidr};
pub use kind::{Converter, DocumentKind};
pub use metadata::{Converted, NameError};
pub use service::service;
pub use slice::endpoint_slice;

#[cfg(test)]
mod tests;
