// SPDX-License-Identifier: Apache-2.0
//! Cells that name a verdict: tier, policy and rule.

use super::{
    env::Env,
    output::{Cell, Tone},
};
use crate::{
    datapath::{policy_view::PolicyMode, view::Maps},
    policy::Outcome,
    server::policy::Cause,
};

/// Tier, policies and rule; unknown without a cause.
pub fn cells(cause: Option<&Cause>) -> [Cell; 3] {
    let Some(cause) = cause else { return [Cell::Unknown, Cell::Unknown, Cell::Unknown] };
    [
        cause.tier().map_or(Cell::None, Cell::text),
        Cell::Words(cause.policies().to_vec()),
        Cell::text(cause.rule()),
    ]
}

/// Policies and rule in a few words: `shop/web ingress[0]`.
pub fn words(cause: &Cause) -> String {
    match cause.policies() {
        [] => cause.rule(),
        policies => format!("{} {}", policies.join(","), cause.rule()),
    }
}

/// What became of packets.
pub fn outcome(outcome: Outcome) -> Cell {
    let tone = match outcome {
        Outcome::WouldDeny => Tone::Warning,
        Outcome::Denied
        | Outcome::Closed
        | Outcome::RowMissing
        | Outcome::NotProgrammed
        | Outcome::Spoofed => Tone::Bad,
    };
    Cell::Word(outcome.as_str(), tone)
}

/// Says so if nothing is judged on this node.
pub fn note_off(maps: &dyn Maps, env: &mut Env<'_>) -> anyhow::Result<()> {
    if maps.policy_mode()?.0 == PolicyMode::Off {
        writeln!(env.err, "note: policies are off, nothing is judged")?;
    }
    Ok(())
}
