// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench-api`, `bench-control`, `bench-latency`, `bench-policy`, `bench-program`:
//! measurements on this machine.

use crate::programs;
use anyhow::Result;
use std::ffi::OsString;
use std::process::ExitCode;

/// Arguments of a measurement.
#[derive(clap::Args)]
pub struct Bench {
    /// Handed on to the measurement.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Bench {
    /// Sets up, builds, measures with the program of that name.
    pub fn run(self, program: &str) -> Result<ExitCode> {
        programs::run(program, &self.arguments)
    }
}
