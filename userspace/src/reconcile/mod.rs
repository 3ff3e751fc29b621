// SPDX-License-Identifier: Apache-2.0
//! From desired to realized: the smallest set of map writes, in an order that is safe at every step.
//!
//! The order, and why a packet never meets something half written:
//! 1. backends, 2. slots that lead to them, 3. the frontend that leads to the slots: one map value,
//!    so a packet sees the old set of backends or the new one;
//! 4. backends that nothing leads to any more get another generation, so that their flows notice;
//! 5. after [`reconciler::GRACE`], when no program can still hold an old slot or id, both are free.

pub mod adopt;
pub mod backends;
mod change;
#[cfg(test)]
pub(crate) mod fake;
mod marks;
pub mod reconciler;
pub mod services;
pub mod slots;
pub mod tables;
