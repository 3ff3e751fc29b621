// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask fmt`: formats the workspace.

use crate::workspace::{self, cargo};
use anyhow::Result;
use std::process::ExitCode;

/// Arguments of `fmt`: none.
#[derive(clap::Args)]
pub struct Fmt {}

impl Fmt {
    /// Formats in place.
    pub fn run(self) -> Result<ExitCode> {
        workspace::run(&mut cargo(["fmt", "--all"]))?;
        Ok(ExitCode::SUCCESS)
    }
}
