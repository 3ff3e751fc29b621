// SPDX-License-Identifier: Apache-2.0
//! Builds what runs inside a guest: static, because a guest has no C library.

use super::Task;
use crate::image;
use crate::workspace::{self, cargo, run_quietly};
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Naming the target, though it is the host's, keeps build scripts from being linked statically too.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A file of this machine, and its place in a guest.
pub type Placed = (PathBuf, &'static str);

/// Builds what a task takes; programs are stripped.
pub fn build(task: Task) -> Result<Vec<Placed>> {
    match task {
        // The binary of the image is static, and what users run.
        Task::Bench(_) => Ok(vec![(image::binary()?, "bin/pintle")]),
        Task::Verify => verify(),
        Task::Test => {
            let mut files = verify()?;
            files.push((test_program("datapath")?, "bin/datapath"));
            files.push((test_program("sctp")?, "bin/sctp"));
            files.push((test_program("clock")?, "bin/clock"));
            let pintle = ["build", "--package=pintle", "--bin=pintle"];
            files.push((static_program("pintle", pintle)?, "bin/pintle"));
            Ok(files)
        }
    }
}

fn verify() -> Result<Vec<Placed>> {
    let verify = static_program("verify", ["build", "--package=pintle-tests", "--bin=verify"])?;
    Ok(vec![(verify, "bin/verify"), (workspace::object(), "object")])
}

fn test_program(name: &str) -> Result<PathBuf> {
    let target = format!("--test={name}");
    let package = "--package=pintle-tests";
    static_program(name, ["test", "--no-run", package, "--features=kernel", &target])
}

/// Builds one program and returns a stripped copy.
fn static_program<const N: usize>(name: &str, arguments: [&str; N]) -> Result<PathBuf> {
    let mut command = cargo(arguments);
    command.args(["--target", TARGET, "--message-format=json-render-diagnostics"]);
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    // Cargo's progress goes to the terminal, its messages to us.
    command.stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    anyhow::ensure!(output.status.success(), "`{}` failed", workspace::shown(&command));
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = executable(&messages, name).context("cargo reported no executable")?;
    stripped(Path::new(&program))
}

/// The executable that cargo reported for the target of that name.
fn executable(messages: &str, name: &str) -> Option<String> {
    let mut found = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let wanted = message["target"]["name"] == name;
        message["executable"].as_str().filter(|_| wanted).map(str::to_owned)
    });
    found.next()
}

fn stripped(program: &Path) -> Result<PathBuf> {
    let folder = super::folder("bin");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let name = program.file_name().context("a program without a name")?;
    let copy = folder.join(name);
    run_quietly(Command::new("strip").arg("-o").arg(&copy).arg(program))?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_target_asked_for_is_taken() {
        let messages = r#"{"target":{"name":"datapath"},"executable":null}
            noise
            {"target":{"name":"verify"},"executable":"debug/verify"}
            {"target":{"name":"datapath"},"executable":"deps/datapath-1"}"#;
        assert_eq!(executable(messages, "datapath").as_deref(), Some("deps/datapath-1"));
        assert_eq!(executable(messages, "netns"), None);
    }
}
