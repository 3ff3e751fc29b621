// SPDX-License-Identifier: Apache-2.0
//! Packet vectors: what goes in, what comes out, what moved. Each runs on the host build of the
//! programs and on the loaded ones.

pub mod clusterip;

/// Every vector: its name, which is the fact it states, and the vector.
pub const ALL: &[(&str, fn(&mut dyn crate::world::World))] =
    &[("syn_to_a_clusterip_goes_to_a_backend", clusterip::syn_to_a_clusterip_goes_to_a_backend)];
