// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask tidy`: the rules of CONTRIBUTING.md that a compiler does not check.

mod documents;
mod source;
mod text;

use crate::workspace;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::ExitCode;

/// Arguments of `tidy`: none.
#[derive(clap::Args)]
pub struct Tidy {}

impl Tidy {
    /// Prints every violation; fails when there is one.
    pub fn run(self) -> Result<ExitCode> {
        let complaints = check()?;
        complaints.iter().for_each(|complaint| println!("tidy: {complaint}"));
        println!("tidy: {} violations", complaints.len());
        Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// A file of the repository: its path from the root, with slashes, and its text.
pub struct File {
    /// Path from the root.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// Every violation in the repository, as `path: what`.
pub fn check() -> Result<Vec<String>> {
    let mut files = Vec::new();
    collect(workspace::root(), "", &mut files)?;
    let mut complaints = Vec::new();
    for file in &files {
        if file.path.ends_with(".rs") {
            complaints.extend(source::check(file));
        }
        complaints.extend(text::check(file));
    }
    if let Some(file) = files.iter().find(|file| file.path == "ARCHITECTURE.md") {
        complaints.extend(documents::check(file));
    }
    complaints.sort();
    Ok(complaints)
}

/// Reads every text file below `folder`, except what cargo or git wrote.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) -> Result<()> {
    let context = || folder.display().to_string();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().with_context(context)?;
        if kind.is_dir() && !matches!(name.as_str(), "target" | ".git") {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && name != ".git" {
            let text = std::fs::read_to_string(entry.path());
            files.extend(text.ok().map(|text| File { path, text }));
        }
    }
    Ok(())
}
