// SPDX-License-Identifier: Apache-2.0
//! Finds bpf-linker; the build script of `userspace` includes this file, so both agree on the place.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The version both sides were tested with: its LLVM must be at least the compiler's.
pub const VERSION: &str = "0.13.0";

/// What a search for bpf-linker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The right version is here.
    Ready(PathBuf),
    /// Only another version is there: it is not used, and not replaced either.
    Other(String),
    /// None that runs.
    Missing,
}

/// Looks in `target/tools/bin`, then where `cargo install` puts programs, then in `PATH`.
pub fn find(target_dir: &Path) -> Found {
    let mut other = None;
    for candidate in candidates(target_dir) {
        match version(&candidate) {
            Some(text) if text == VERSION => return Found::Ready(candidate),
            Some(text) => other = other.or(Some(text)),
            None => {}
        }
    }
    other.map_or(Found::Missing, Found::Other)
}

fn candidates(target_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![target_dir.join("tools/bin")];
    folders.extend(cargo_home.map(|home| home.join("bin")));
    folders.extend(std::env::split_paths(&path));
    folders.into_iter().map(|folder| folder.join("bpf-linker")).filter(|file| file.is_file())
}

/// The version a program reports; `None` when it does not run, for example without its LLVM.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.split_whitespace().nth(1).map(str::to_owned))?
}
