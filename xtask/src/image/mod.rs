// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask image`: a static binary, alone in an image, as an OCI archive. No daemon, no registry.
//!
//! Invariant: the same sources in the same place give the same bytes; nothing in the image tells when or
//! by whom it was made. Its place is in the kernel programs' BTF, whose lines name their source files.

mod archive;
mod binary;
mod check;
mod layer;
mod sbom;

use crate::{setup, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use binary::{TARGET, build as binary};

/// The name that the manifests use. The host is what tools take for an image that has no registry.
const NAME: &str = "localhost/pintle";

/// Arguments of `image`.
#[derive(clap::Args)]
pub struct Image {
    /// Where to write the archive [default: target/image/pintle.tar].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Image {
    /// Sets up, builds, packs, checks.
    pub fn run(self) -> Result<ExitCode> {
        setup::ensure(setup::Extent::Image)?;
        let path = self.output.unwrap_or_else(default_path);
        let report = make(&path)?;
        println!("{}\n{report}", path.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Why this machine cannot make one, if so.
pub fn obstacle() -> Option<String> {
    binary::obstacle()
}

/// Makes it where it is by default, and says where that is.
pub fn make_default() -> Result<PathBuf> {
    let path = default_path();
    println!("{}", make(&path)?);
    Ok(path)
}

/// The tier: makes the image, checks it, and makes it again.
pub fn test() -> Result<()> {
    let path = default_path();
    println!("{}", make(&path)?);
    let first = fs::read(&path)?;
    make(&path)?;
    anyhow::ensure!(first == fs::read(&path)?, "two runs have made two different images");
    println!("made twice, the same bytes");
    Ok(())
}

/// Builds the binary and packs it; the archive is checked before anybody sees it.
fn make(path: &Path) -> Result<check::Report> {
    let binary = fs::read(binary::build()?).context("read the binary")?;
    let version = env!("CARGO_PKG_VERSION");
    let sbom = sbom::of_package("pintle", TARGET)?;
    let files = [
        layer::File { path: "usr/local/bin/pintle", mode: 0o755, content: binary },
        layer::File { path: "usr/share/doc/pintle/pintle.cdx.json", mode: 0o644, content: sbom },
    ];
    let archive = archive::pack(&layer::tar(&files)?, &format!("{NAME}:{version}"), version)?;
    let report = check::check(&archive)?;
    let folder = path.parent().context("a path without folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(path, archive).with_context(|| path.display().to_string())?;
    Ok(report)
}

fn default_path() -> PathBuf {
    workspace::target_dir().join("image/pintle.tar")
}
