// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test [tier...]`: runs tiers and sums up; without arguments all that can run here.
//!
//! A tier that was asked for by name and cannot run fails; nothing is left out in silence.

mod side_by_side;
mod summary;
mod tier;

use crate::setup;
use anyhow::Result;
use std::process::ExitCode;
use std::time::Instant;
use summary::{Line, Outcome};
pub use tier::Tier;

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct Test {
    /// Which tiers to run; all that this machine can run when none is named.
    tiers: Vec<Tier>,
}

impl Test {
    /// Sets up, runs the tiers one after the other, prints the summary.
    pub fn run(self) -> Result<ExitCode> {
        let by_name = !self.tiers.is_empty();
        let tiers = if by_name { self.tiers } else { Tier::ALL.to_vec() };
        if let Some(extent) = tiers.iter().filter_map(|tier| tier.extent()).max()
            && let Err(error) = setup::ensure(extent)
        {
            println!("{error:#}");
        }
        let lines: Vec<Line> = tiers.into_iter().map(|tier| run(tier, by_name)).collect();
        summary::print(&lines);
        Ok(summary::exit_code(&lines))
    }
}

fn run(tier: Tier, by_name: bool) -> Line {
    println!("\n== {tier}: {}", tier.purpose());
    let start = Instant::now();
    let outcome = match (tier.obstacle(), by_name) {
        (Some(reason), true) => Outcome::Failed(reason),
        (Some(reason), false) => Outcome::CannotRun(reason),
        (None, _) => match tier.run() {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        },
    };
    Line { tier, outcome, seconds: start.elapsed().as_secs_f64() }
}
