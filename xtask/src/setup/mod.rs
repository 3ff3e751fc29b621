// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask setup`: look at the machine, decide what is missing, bring it.
//!
//! Only [`facts`] looks and only [`steps`] changes anything; [`plan`] is a pure function between the
//! two. When nothing is missing, no step runs and the network is not touched.

mod facts;
mod plan;
mod steps;

use anyhow::{Result, bail};
use std::process::ExitCode;

/// How much a verb needs; a later one covers the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// What `cargo build` needs.
    Build,
    /// That, and what the image's static binary needs.
    Image,
    /// That, and what the tests and the demonstration need.
    Everything,
}

/// Arguments of `setup`: none.
#[derive(clap::Args)]
pub struct Setup {}

impl Setup {
    /// Brings everything that can be brought; fails when the build would still not work.
    pub fn run(self) -> Result<ExitCode> {
        if ensure(Extent::Everything)? == 0 {
            println!("set-up: nothing is missing");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Brings what `extent` needs and returns how many things that were; fails only when the build
/// cannot work. Prints a line for each thing, to standard error: verbs answer on standard output.
pub fn ensure(extent: Extent) -> Result<usize> {
    let facts = facts::look(extent);
    let steps = plan::plan(&facts);
    let mut blocked = false;
    for step in &steps {
        if blocked && matches!(step, plan::Step::Linker { .. }) {
            continue;
        }
        let result = steps::take(step);
        blocked |= result.is_err() && step.is_needed_to_build();
    }
    if blocked {
        bail!("the set-up is not complete: the build needs what could not be installed");
    }
    Ok(steps.len())
}
