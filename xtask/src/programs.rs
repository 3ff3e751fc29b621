// SPDX-License-Identifier: Apache-2.0
//! Runs one of the programs in `tests/src/bin` in release, beside a release build of `pintle`.

use crate::build;
use crate::setup::{self, Extent};
use crate::workspace::{self, cargo};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// Names the release binary of `pintle` to the program.
const BINARY_VARIABLE: &str = "PINTLE_BIN";

/// Sets up, builds both, runs the program with the arguments; its exit code becomes ours.
pub fn run(program: &str, arguments: &[OsString]) -> Result<ExitCode> {
    setup::ensure(Extent::Everything)?;
    if !workspace::is_root() {
        bail!("namespaces and programs need root: repeat with sudo");
    }
    let pintle = build::release_binary()?;
    let build = ["build", "--release", "--package", "pintle-tests", "--bin", program];
    workspace::run(&mut cargo(build))?;
    let path = workspace::target_dir().join("release").join(program);
    let status = Command::new(&path)
        .args(arguments)
        .env(BINARY_VARIABLE, pintle)
        .current_dir(workspace::root())
        .status()
        .with_context(|| path.display().to_string())?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
