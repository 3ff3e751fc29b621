// SPDX-License-Identifier: Apache-2.0
//! The compiled form against the text of the API.
//!
//! [`evaluator`] walks the rules as the API's text says and knows nothing of classes or tables;
//! [`programs`] looks into the tables as the kernel's programs do. Both must agree on everything.

mod cluster_facts;
mod compiler_facts;
pub(crate) mod evaluator;
pub(crate) mod generator;
mod network_facts;
mod peer_facts;
pub(crate) mod programs;
mod properties;
mod room;
mod scale;
mod scene;
mod verdict_facts;
pub(crate) mod world;
