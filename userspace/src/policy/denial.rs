// SPDX-License-Identifier: Apache-2.0
//! Verdicts as the programs count them: by what gave them, not by connection.
//!
//! The numbers are made of content, so they mean the same to an agent that starts again. What the
//! compiler does not know any more has no name.

use serde::{Deserialize, Serialize};

use super::{
    explain::{Explanation, Reading},
    planner::Planner,
    table::{ClassId, RulesetId},
};
use crate::model::policy::Direction;

/// What denials have in common that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DenialKey {
    /// The interface of the pod that was judged.
    pub ifindex: u32,
    /// The ruleset.
    pub ruleset: u32,
    /// The peer's class.
    pub class: u32,
    /// The port class.
    pub port_class: u8,
    /// The direction, as the pod sees it.
    pub direction: Direction,
    /// What became of the packets.
    pub outcome: Outcome,
}

/// What became of a packet that policies did not want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Dropped: the policies say so.
    Denied,
    /// It passed; with the audited policies it would not.
    WouldDeny,
    /// Dropped: the policies of the pod could not be written.
    Closed,
    /// Dropped: the ruleset has no row for the peer's class.
    RowMissing,
    /// Dropped: nothing is known of the pod.
    NotProgrammed,
    /// Dropped: the pod used a source that is not its own.
    Spoofed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Denied,
        Self::WouldDeny,
        Self::Closed,
        Self::RowMissing,
        Self::NotProgrammed,
        Self::Spoofed,
    ];

    /// The word shown to people and used as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::WouldDeny => "would-deny",
            Self::Closed => "closed",
            Self::RowMissing => "row-missing",
            Self::NotProgrammed => "not-programmed",
            Self::Spoofed => "spoofed",
        }
    }

    /// Whether some ruleset was asked.
    pub fn has_ruleset(self) -> bool {
        match self {
            Self::Denied | Self::WouldDeny | Self::Closed | Self::RowMissing => true,
            Self::NotProgrammed | Self::Spoofed => false,
        }
    }
}

/// What allowed connections that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AllowedKey {
    /// The ruleset.
    pub ruleset: u32,
    /// The peer's class.
    pub class: u32,
    /// The port class.
    pub port_class: u8,
}

impl Planner {
    /// Names the rule that allowed connections; `None` if the compiler does not know the numbers any more.
    pub fn explain_allowed(&self, key: &AllowedKey) -> Option<Explanation> {
        let (ruleset, class) = (RulesetId(key.ruleset), ClassId(key.class));
        let explanation = self.explain(ruleset, class, key.port_class, Reading::Enforced)?;
        explanation.is_allowed.then_some(explanation)
    }

    /// Names the rule, or the isolating policies, behind denials; `None` if no policy is behind
    /// them, or the compiler does not know their numbers any more.
    pub fn explain_denial(&self, key: &DenialKey) -> Option<Explanation> {
        let reading = match key.outcome {
            Outcome::Denied => Reading::Enforced,
            Outcome::WouldDeny => Reading::Staged,
            Outcome::Closed | Outcome::RowMissing | Outcome::NotProgrammed | Outcome::Spoofed => {
                return None;
            }
        };
        let (ruleset, class) = (RulesetId(key.ruleset), ClassId(key.class));
        let explanation = self.explain(ruleset, class, key.port_class, reading)?;
        // A number that another content has by now tells nothing.
        let fits = !explanation.is_allowed && explanation.direction == key.direction;
        fits.then_some(explanation)
    }
}
