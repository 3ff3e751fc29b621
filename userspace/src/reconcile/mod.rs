// SPDX-License-Identifier: Apache-2.0
//! From desired to realized: the smallest set of map writes, in an order that is safe at every step.
//!
//! The order, and why a packet never meets something half written:
//! 1. backends, 2. slots that lead to them, 3. source ranges, 4. the frontend that leads to the slots
//!    and asks for the ranges: one map value, so a packet sees the old set of backends or the new one;
//!    of an address with a frontend for either scope, that for clients outside the cluster is there
//!    before the other says so, and goes after it has ceased to;
//! 5. source ranges that no frontend asks for go, and backends that nothing leads to any more get
//!    another generation, so that their flows notice; 6. wildcard entries, and the cluster's ranges;
//! 7. after [`reconciler::GRACE`], when no program can still hold an old slot or id, both are free.

pub mod adopt;
pub mod backends;
mod change;
mod cluster;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod faults;
mod marks;
pub mod policies;
pub mod reconciler;
pub mod services;
pub mod slots;
mod sources;
pub mod strays;
pub mod tables;
