// SPDX-License-Identifier: Apache-2.0
//! From compiled policies to maps: small changes, in an order in which a packet meets a verdict of
//! before or of after at every single write, and never a lack of one.
//!
//! 1. port classes and rows of new rulesets, rows of new classes;
//! 2. pods' interfaces whose new rulesets the old classes can be judged by;
//! 3. rows for what is about to have a new class, of rulesets that only an earlier agent knew;
//! 4. addresses, ranges (the longest first), ranges that go (the shortest first), addresses that go:
//!    each address goes from its old class to its new one in one step;
//! 5. all other interfaces; 6. the epoch, if something is denied now that was allowed;
//! 7. rows and port classes that nothing has led to for [`crate::reconcile::reconciler::GRACE`].
//!
//! What cannot be written opens nothing: a ruleset that is not complete is replaced by
//! [`RulesetId::CLOSED`](crate::policy::RulesetId::CLOSED), and so is one that would let an address
//! do more than it should, because the address's class is not what it should be. Everything else
//! stays, and what failed is tried again.

mod detours;
mod endpoints;
mod failure;
#[cfg(test)]
mod fake;
mod moves;
mod overlay;
mod pods;
#[cfg(test)]
mod property_tests;
pub mod reconciler;
mod rules;
pub mod tables;
#[cfg(test)]
mod tests;
mod uses;
#[cfg(test)]
mod world;

pub use failure::{Failure, Subject};
pub use pods::Interfaces;
pub use reconciler::PolicyReconciler;
