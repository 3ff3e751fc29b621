// SPDX-License-Identifier: Apache-2.0
//! Names for verdicts: which tier, policy and rule decided, and what became of a policy.

use std::{fmt, sync::Arc};

use super::{
    ruleset::{Decision, Ruleset, is_read},
    table::RulesetId,
};
use crate::model::{
    name::{ObjectName, ObjectRef},
    policy::{Action, Direction, Enforcement, Tier},
};

/// Which policies count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reading {
    /// Those that are enforced.
    Enforced,
    /// Audited ones, too.
    Staged,
}

/// A verdict and what gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The direction, as the pod sees it to which the ruleset applies.
    pub direction: Direction,
    /// It passes.
    pub is_allowed: bool,
    /// What decided.
    pub why: Why,
}

/// What gave a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A rule.
    Rule {
        /// Of this tier,
        tier: Tier,
        /// of this policy,
        policy: ObjectName,
        /// at this place in its list, from 0,
        index: usize,
        /// with this name, if it has one.
        name: Option<Arc<str>>,
        /// What it does.
        action: Action,
    },
    /// No rule of the NetworkPolicies that isolate the pod, which are these.
    Isolated(Box<[ObjectName]>),
    /// The peer is the pod itself, and NetworkPolicies cannot keep it from itself.
    Itself,
    /// No policy has anything to say.
    NoPolicy,
}

impl Explanation {
    pub(super) fn new(ruleset: &Ruleset, decision: Decision<'_>, reading: Reading) -> Self {
        let why = match decision {
            Decision::Rule(tier, rule) => Why::Rule {
                tier,
                policy: rule.policy.clone(),
                index: rule.index,
                name: rule.name.clone(),
                action: rule.action,
            },
            Decision::Isolated => {
                let isolating = ruleset.content.isolating.iter();
                let read = isolating.filter(|(_, enforcement)| is_read(*enforcement, reading));
                Why::Isolated(read.map(|(name, _)| name.clone()).collect())
            }
            Decision::Itself => Why::Itself,
            Decision::Nothing => Why::NoPolicy,
        };
        let direction = ruleset.content.direction;
        Self { direction, is_allowed: decision.is_allowed(), why }
    }
}

impl fmt::Display for Explanation {
    /// `ingress denied by Admin/guard, rule 2 (no-ssh): Deny`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_allowed { "allowed" } else { "denied" };
        write!(f, "{} {verdict}", self.direction.as_str())?;
        match &self.why {
            Why::Rule { tier, policy, index, name, action } => {
                write!(f, " by {} {policy}, rule {index}", tier.as_str())?;
                if let Some(name) = name {
                    write!(f, " ({name})")?;
                }
                write!(f, ": {}", action.as_str())
            }
            Why::Isolated(policies) => {
                f.write_str(": no rule allows it, and the pod is isolated by ")?;
                for (index, policy) in policies.iter().enumerate() {
                    write!(f, "{}{policy}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Why::Itself => f.write_str(": a pod cannot be kept from itself"),
            Why::NoPolicy => f.write_str(": no policy says otherwise"),
        }
    }
}

/// What became of a policy on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyUse {
    /// The policy.
    pub policy: ObjectRef,
    /// The tier that it stands in.
    pub tier: Tier,
    /// Its place in the tier, if that is ordered: smaller comes first.
    pub priority: Option<u16>,
    /// Whether it decides.
    pub enforcement: Enforcement,
    /// The pods of this node that it selects.
    pub pods: Box<[ObjectName]>,
    /// The rulesets that it is part of, sorted.
    pub rulesets: Box<[RulesetId]>,
    /// How many rows these have.
    pub rows: usize,
}
