// SPDX-License-Identifier: Apache-2.0
//! Takes one step of the set-up and prints one line about it.

use super::plan::Step;
use crate::{image, linker, workspace};
use anyhow::{Result, anyhow};
use std::process::Command;
use std::sync::Once;
use std::time::Instant;

/// Where Debian puts the LLVM that bpf-linker is built with. Two build scripts ask for it under two
/// names; without them they take the `llvm-config` in `PATH`, which is often an older LLVM's.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Takes a step. What it could not do is printed with what the user can do about it.
pub fn take(step: &Step) -> Result<()> {
    if let Step::Tell { message, .. } = step {
        eprintln!("set-up: please {message}");
        return Err(anyhow!("{message}"));
    }
    eprint!("set-up: {} ... ", title(step));
    let start = Instant::now();
    let result = perform(step);
    match &result {
        Ok(()) => eprintln!("{:.1} s", start.elapsed().as_secs_f64()),
        Err(error) => eprintln!("failed\n    {error:#}\n    {}", advice(step)),
    }
    result
}

fn title(step: &Step) -> String {
    match step {
        Step::Packages { names, .. } => format!("install {}", names.join(" ")),
        Step::RustSrc => "add rust-src to the toolchain".into(),
        Step::StaticTarget => format!("add {} to the toolchain", image::TARGET),
        Step::Checkers(names) => format!("add {} to the toolchain", names.join(" ")),
        Step::Linker { .. } => format!("build bpf-linker {} (about a minute)", linker::VERSION),
        Step::Bpffs => "mount /sys/fs/bpf".into(),
        Step::Tell { message, .. } => message.clone(),
    }
}

fn advice(step: &Step) -> String {
    match step {
        Step::StaticTarget => "`cargo xtask image` needs it; building does not".into(),
        Step::Checkers(_) => "`cargo xtask test fmt lint` needs these; building does not".into(),
        Step::Packages { needed_to_build: false, .. } => {
            "the kernel tests need these; building does not".into()
        }
        Step::Bpffs => "the kernel tests and the agent need it; building does not".into(),
        _ => "repeat by hand what failed, then run `cargo xtask setup` again".into(),
    }
}

fn perform(step: &Step) -> Result<()> {
    let mut command = match step {
        Step::Packages { names, .. } => return install_packages(names),
        Step::Tell { .. } => return Ok(()),
        Step::RustSrc => rustup("component", &["rust-src"]),
        Step::StaticTarget => rustup("target", &[image::TARGET]),
        Step::Checkers(names) => rustup("component", names),
        Step::Linker { private } => install_linker(*private),
        Step::Bpffs => {
            let mut mount = Command::new("mount");
            mount.args(["-t", "bpf", "bpffs", "/sys/fs/bpf"]);
            mount
        }
    };
    workspace::run_quietly(&mut command).map(|_| ())
}

fn rustup(kind: &str, names: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args([kind, "add"]).args(names).current_dir(workspace::root());
    command
}

/// The package lists are refreshed once per run, and only when something is to be installed.
fn install_packages(names: &[&str]) -> Result<()> {
    static REFRESHED: Once = Once::new();
    let mut refresh = Ok(String::new());
    REFRESHED.call_once(|| refresh = workspace::run_quietly(&mut apt(&["update", "-qq"])));
    let mut install = apt(&["install", "-y", "-qq", "--no-install-recommends"]);
    workspace::run_quietly(install.args(names)).map_err(|error| match refresh {
        Ok(_) => error,
        Err(cause) => error.context(format!("{cause:#}")),
    })?;
    Ok(())
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn install_linker(private: bool) -> Command {
    let mut command = workspace::cargo(["install", "bpf-linker", "--locked", "--quiet"]);
    command
        .args(["--version", linker::VERSION, "--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .env("LLVM_SYS_221_PREFIX", LLVM_PREFIX);
    if private {
        command.arg("--root").arg(workspace::target_dir().join("tools"));
    }
    command
}
