// SPDX-License-Identifier: Apache-2.0
//! Where objects come from: a stream of batches of changes to the model.
//!
//! [`kube`] watches the API server, [`dir`] a directory of Kubernetes YAML or JSON. Whatever the
//! source, its objects pass [`convert`], the only module that knows the API's own types.

mod catalog;
mod changes;
pub mod convert;
pub mod dir;
pub mod event;
pub mod kube;
mod load;
mod parse;
mod split;
#[cfg(test)]
pub(crate) mod text;
mod thread;
