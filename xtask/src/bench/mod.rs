// SPDX-License-Identifier: Apache-2.0
//! Measurements: `cargo xtask bench` runs `pintle bench` on this machine, `cargo xtask bench vm` in a
//! guest; `bench-api` and `bench-policy` run programs of the tests.

mod vm;

use crate::setup::{self, Extent};
use crate::{build, programs, workspace};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::process::{Command, ExitCode};

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

    /// Sets up, builds, runs `pintle bench`, here or in a guest.
    pub fn compare(self) -> Result<ExitCode> {
        if self.arguments.first().is_some_and(|first| first == "vm") {
            return vm::run(&self.arguments);
        }
        setup::ensure(Extent::Everything)?;
        if !workspace::is_root() {
            bail!("namespaces and programs need root: repeat with sudo");
        }
        let pintle = build::release_binary()?;
        let mut command = Command::new(&pintle);
        let status = command.arg("bench").args(self.arguments).status();
        let status = status.with_context(|| pintle.display().to_string())?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
