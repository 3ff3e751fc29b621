// SPDX-License-Identifier: Apache-2.0
//! The one binary: agent, command line and benchmark.

use std::process::ExitCode;

use clap::Subcommand;
use pintle::cli::{self, Global, Outcome};

/// What the command line has beside its own commands.
#[derive(Debug, Subcommand)]
enum Added {}

impl cli::Added for Added {
    fn run(self, _: &Global) -> anyhow::Result<Outcome> {
        match self {}
    }
}

fn main() -> ExitCode {
    cli::main::<Added>()
}
