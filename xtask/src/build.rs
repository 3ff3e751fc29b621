// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask build`: set-up and the release binary.

use crate::{setup, workspace};
use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `build`: none.
#[derive(clap::Args)]
pub struct Build {}

impl Build {
    /// Brings what is missing and builds.
    pub fn run(self) -> Result<ExitCode> {
        setup::ensure(setup::Extent::Build)?;
        let binary = release_binary()?;
        println!("built {}", binary.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Builds `pintle` in release and says where it is.
pub fn release_binary() -> Result<PathBuf> {
    workspace::run(&mut workspace::cargo(["build", "--release", "--package", "pintle"]))?;
    Ok(workspace::target_dir().join("release/pintle"))
}
