// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask demo`: set-up, the release binary, and the demonstration on this machine.

use crate::programs;
use anyhow::Result;
use std::ffi::OsString;
use std::process::ExitCode;

/// Arguments of `demo`.
#[derive(clap::Args)]
pub struct Demo {
    /// Handed on to the demonstration.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Demo {
    /// Sets up, builds, shows.
    pub fn run(self) -> Result<ExitCode> {
        programs::run("demo", &self.arguments)
    }
}
