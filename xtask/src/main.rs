// SPDX-License-Identifier: Apache-2.0
//! The project's verbs: `cargo xtask <verb>`, one file each.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod build;
mod linker;
mod setup;
mod workspace;

/// Everything around the build: set-up, demonstration, tests, measurements.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Brings what the build and the tests need and the machine lacks.
    Setup(setup::Setup),
    /// Sets up, then builds the release binary.
    Build(build::Build),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Setup(verb) => verb.run(),
        Verb::Build(verb) => verb.run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
