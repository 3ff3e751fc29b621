// SPDX-License-Identifier: Apache-2.0
//! Runs the tests of a target side by side, each in a process of its own.
//!
//! Threads of one process would not do: a child has copies of all open files and sockets until its
//! program begins, also of those that belong to the tests beside it, and what these have closed
//! meanwhile is still in use. Tests that need the machine for themselves see to that.

use crate::workspace::{self, cargo};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

const PACKAGE: &str = "pintle-tests";

/// So ends the name of a test that takes minutes. It begins first, or everybody would wait for it in
/// the end.
const LONG: &str = "_for_minutes";

/// Which tests of a target run, and with what in their environment.
pub struct Selection {
    /// Modules whose tests run; all do if there are none.
    pub modules: &'static [&'static str],
    /// A variable and its value.
    pub variable: Option<(&'static str, &'static str)>,
}

impl Selection {
    /// Every test, as it is.
    pub const EVERYTHING: Self = Self { modules: &[], variable: None };

    fn includes(&self, name: &str) -> bool {
        let module = name.split("::").next().unwrap_or(name);
        self.modules.is_empty() || self.modules.contains(&module)
    }
}

/// A test that did not pass, with all that it printed.
struct Failure {
    name: String,
    output: String,
}

/// What the workers share.
struct Run<'a> {
    program: &'a Path,
    names: &'a [String],
    variable: Option<(&'static str, &'static str)>,
    next: AtomicUsize,
    failures: Mutex<Vec<Failure>>,
}

/// Builds a target of the tests' crate and runs tests in it, so many at a time.
pub fn run(target: &str, at_once: usize, selection: &Selection) -> Result<()> {
    let program = build(target)?;
    let mut names = list(&program)?;
    names.retain(|name| selection.includes(name));
    for module in selection.modules {
        let is_there = names.iter().any(|name| name.split("::").next() == Some(*module));
        ensure!(is_there, "{target} has no tests in {module}");
    }
    names.sort_by_key(|name| !name.ends_with(LONG));
    let with = selection.variable.map(|(name, value)| format!(" with {name}={value}"));
    println!("running {} tests{}, {at_once} at a time", names.len(), with.unwrap_or_default());
    let (next, failures) = (AtomicUsize::new(0), Mutex::default());
    let variable = selection.variable;
    let run = Run { program: &program, names: &names, variable, next, failures };
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| run.work());
        }
    });
    let failures = run.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    for Failure { name, output } in &failures {
        println!("\n---- {name} ----\n{}", output.trim_end());
    }
    println!("\n{} passed, {} failed", names.len() - failures.len(), failures.len());
    if failures.is_empty() {
        return Ok(());
    }
    let failed: Vec<&str> = failures.iter().map(|failure| failure.name.as_str()).collect();
    bail!("{} of {} tests failed: {}", failed.len(), names.len(), failed.join(", "))
}

impl Run<'_> {
    /// Takes one test after the other until there are none left.
    fn work(&self) {
        while let Some(name) = self.names.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let start = Instant::now();
            let failure = run_one(self.program, name, self.variable).err();
            let word = if failure.is_none() { "ok" } else { "FAILED" };
            println!("test {name} ... {word} ({:.1} s)", start.elapsed().as_secs_f64());
            if let Some(error) = failure {
                let failure = Failure { name: name.clone(), output: error.to_string() };
                self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
            }
        }
    }
}

/// Compiles the target and returns its program.
fn build(target: &str) -> Result<PathBuf> {
    let arguments = ["test", "--package", PACKAGE, "--features", "kernel", "--no-run"];
    let mut command = cargo(arguments);
    command.args(["--test", target, "--message-format=json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "`{}` failed", workspace::shown(&command));
    let text = String::from_utf8(output.stdout).context("cargo's messages")?;
    program_of(&text, target).with_context(|| format!("cargo names no program of {target}"))
}

/// The program of a test target in the messages of cargo, one JSON object on each line.
fn program_of(messages: &str, target: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut artifacts = messages.filter(|message| {
        message["reason"] == "compiler-artifact"
            && message["target"]["name"] == target
            && message["target"]["kind"][0] == "test"
    });
    artifacts.find_map(|artifact| Some(artifact["executable"].as_str()?.into()))
}

fn list(program: &Path) -> Result<Vec<String>> {
    let text = workspace::run_quietly(Command::new(program).arg("--list"))?;
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    let names: Vec<String> = names.map(str::to_owned).collect();
    ensure!(!names.is_empty(), "{} has no tests", program.display());
    Ok(names)
}

/// Runs one test; the error is what it printed.
fn run_one(program: &Path, name: &str, variable: Option<(&str, &str)>) -> Result<()> {
    let mut command = Command::new(program);
    command.envs(variable);
    command.args([name, "--exact", "--nocapture"]).stdin(Stdio::null());
    let output = command.current_dir(workspace::root().join("tests")).output()?;
    let [printed, errors] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    // A program that has run no test has succeeded, too.
    if output.status.success() && printed.contains("test result: ok. 1 passed") {
        return Ok(());
    }
    bail!("{printed}{errors}{}", output.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_that_of_the_test_of_this_name() {
        let artifact = |name: &str, kind: &str, program: &str| {
            format!(
                "{{\"reason\": \"compiler-artifact\", \"executable\": {program}, \
                 \"target\": {{\"name\": \"{name}\", \"kind\": [\"{kind}\"]}}}}\n"
            )
        };
        let messages = [
            artifact("netns", "bin", "\"/other\""),
            artifact("datapath", "test", "\"/datapath\""),
            artifact("netns", "test", "null"),
            "no message\n".to_owned(),
            artifact("netns", "test", "\"/netns\""),
        ];
        assert_eq!(program_of(&messages.concat(), "netns"), Some("/netns".into()));
        assert_eq!(program_of(&messages.concat(), "sctp"), None);
    }
}
