// SPDX-License-Identifier: Apache-2.0
//! The project's verbs: `cargo xtask <verb>`, one file each.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod bench;
mod build;
mod cluster;
mod demo;
mod format;
mod image;
mod linker;
mod programs;
mod setup;
mod test;
mod tidy;
mod verify;
mod vm;
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
    /// Sets up, builds and shows what the project does, on this machine.
    Demo(demo::Demo),
    /// Runs the tests: all that this machine can run, or the tiers named.
    Test(test::Test),
    /// Builds the static binary and an OCI archive with nothing else in it.
    Image(image::Image),
    /// Formats the workspace.
    Fmt(format::Fmt),
    /// Checks the project's own rules.
    Tidy(tidy::Tidy),
    /// Loads every program and prints what the kernel's verifier spent on it.
    Verify(verify::Verify),
    /// Compares with iptables, nftables, IPVS and no service: `pintle bench`.
    Bench(bench::Bench),
    /// Measures the agent at an API server: cold start, changes, memory.
    BenchApi(bench::Bench),
    /// Measures network policy in a large cluster: start, changes, memory.
    BenchPolicy(bench::Bench),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Setup(verb) => verb.run(),
        Verb::Build(verb) => verb.run(),
        Verb::Demo(verb) => verb.run(),
        Verb::Test(verb) => verb.run(),
        Verb::Image(verb) => verb.run(),
        Verb::Fmt(verb) => verb.run(),
        Verb::Tidy(verb) => verb.run(),
        Verb::Verify(verb) => verb.run(),
        Verb::Bench(verb) => verb.compare(),
        Verb::BenchApi(verb) => verb.run("bench_api"),
        Verb::BenchPolicy(verb) => verb.run("bench_policy"),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
