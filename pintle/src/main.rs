// SPDX-License-Identifier: Apache-2.0
//! The one binary: agent, command line and benchmark.

use std::process::ExitCode;

use clap::Subcommand;
use pintle::cli::{self, Global, Outcome};
use pintle_bench::Bench;

/// What the command line has beside its own commands.
#[derive(Debug, Subcommand)]
enum Added {
    Bench(Box<Bench>),
}

impl cli::Added for Added {
    fn run(self, global: &Global) -> anyhow::Result<Outcome> {
        match self {
            Self::Bench(bench) => bench.run(global.output),
        }
    }
}

fn main() -> ExitCode {
    cli::main::<Added>()
}
