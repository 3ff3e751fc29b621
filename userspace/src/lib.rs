// SPDX-License-Identifier: Apache-2.0
//! Pintle's user space: from Kubernetes objects to pinned maps.
//!
//! The way of an EndpointSlice: [`source`] reads it, [`model`] makes it a valid domain object (or a
//! named rejection), [`plan`] turns what is known into desired frontends, [`reconcile`] finds the
//! smallest safe change, [`datapath`] writes it to the maps.

pub mod agent;
pub mod cli;
pub mod config;
pub mod datapath;
pub mod model;
pub mod node;
pub mod plan;
pub mod policy;
pub mod reconcile;
pub mod server;
pub mod source;
pub mod takeover;
