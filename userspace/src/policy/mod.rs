// SPDX-License-Identifier: Apache-2.0
//! From policies to tables: what the programs look up, computed from what is known. Pure: no I/O,
//! no clock, no randomness.
//!
//! What the rules ask of peers are predicates; addresses for which the same ones hold are a class.
//! What applies to a pod in a direction is a ruleset, named by its content and shared by all pods
//! to which the same applies. Its port items make port classes. A row has the verdicts of a ruleset
//! for a class, one bit for each port class: tiers, order, Pass and holes are resolved in it.
//!
//! [`Planner`] keeps what is known and answers each batch of events with the changes that it makes.

mod answers;
mod class;
mod column;
mod content;
mod denial;
mod explain;
mod lower;
mod planner;
mod predicate;
mod prefix;
mod profile;
mod range;
mod resolution;
mod ruleset;
mod shared;
mod table;

#[cfg(test)]
pub(crate) mod tests;

pub use denial::{AllowedKey, DenialKey, Outcome};
pub use explain::{Explanation, PolicyUse, Reading, Why};
pub use planner::{Counts, Judgement, Options, Party, Planner, Problem, Verdict};
pub use ruleset::ClosedReason;
pub use table::{
    Changes, ClassId, Endpoint, PortKey, PortPrefix, Room, Row, RowKey, RulesetId, Sizes, Tables,
};
