// SPDX-License-Identifier: Apache-2.0
//! Where objects come from: a stream of batches of changes to the model.
//!
//! [`dir`] watches a directory of Kubernetes YAML or JSON. Whatever the source, its objects pass
//! [`convert`], the only module that knows the API's own types.

mod catalog;
pub mod convert;
pub mod dir;
pub mod event;
mod load;
mod parse;
mod split;
#[cfg(test)]
pub(crate) mod text;
