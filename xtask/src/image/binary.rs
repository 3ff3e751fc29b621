// SPDX-License-Identifier: Apache-2.0
//! The static binary: musl, so that nothing of it is looked up in a file system that has nothing else.

use crate::workspace::{self, cargo};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// What it is built for; an image runs on machines like this one.
pub const TARGET: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-musl"
} else {
    "x86_64-unknown-linux-musl"
};

/// The profile of `Cargo.toml`.
const PROFILE: &str = "image";

/// Why this machine cannot build it, if so.
pub fn obstacle() -> Option<String> {
    let has_target = workspace::has_target(TARGET);
    (!has_target).then(|| format!("the toolchain lacks {TARGET}: run `cargo xtask setup`"))
}

/// Builds it and says where it is.
pub fn build() -> Result<PathBuf> {
    let variable = |name: &str| format!("{name}_{}", TARGET.replace('-', "_"));
    let mut command = cargo(["build", "--package", "pintle", "--profile", PROFILE]);
    command.args(["--target", TARGET]);
    command.env(format!("CARGO_TARGET_{}", upper("RUSTFLAGS")), flags());
    // The machine's own compiler does for the little C in dependencies: it uses no library.
    if std::env::var_os(variable("CC")).is_none() {
        command.env(variable("CC"), "cc");
    }
    workspace::run(&mut command)?;
    Ok(workspace::target_dir().join(TARGET).join(PROFILE).join("pintle"))
}

fn upper(name: &str) -> String {
    format!("{}_{name}", TARGET.replace('-', "_").to_uppercase())
}

/// Folders of this machine are in messages of panics; elsewhere they must be the same.
fn flags() -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let library = workspace::sysroot().join("lib/rustlib/src/rust");
    let root = workspace::root().to_path_buf();
    let folders = [(Some(root), "/pintle"), (home, "/cargo"), (Some(library), "/rustc")];
    let flags = folders.iter().filter_map(|(folder, name)| {
        Some(format!("--remap-path-prefix={}={name}", folder.as_ref()?.display()))
    });
    flags.collect::<Vec<_>>().join(" ")
}
