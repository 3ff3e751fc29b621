// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask verify`: what the kernel's verifier spends on each program, against a budget.

use crate::setup::{self, Extent};
use crate::vm::{self, Report, Task};
use crate::workspace::{self, cargo};
use anyhow::{Result, bail};
use serde_json::Value;
use std::process::{Command, ExitCode};

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Verify {
    /// Also on the other kernels that we support, under QEMU.
    #[arg(long)]
    vm: bool,
    /// One line of JSON for each kernel.
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Prints the costs on this kernel, then on the guests'; fails when one is over budget.
    pub fn run(self) -> Result<ExitCode> {
        setup::ensure(if self.vm { Extent::Everything } else { Extent::Build })?;
        if !workspace::is_root() {
            bail!("loading programs needs root: repeat with sudo");
        }
        let mut within = self.on_this_kernel()?;
        if self.vm {
            if let Some(obstacle) = vm::obstacle() {
                bail!("{obstacle}");
            }
            let reports = vm::boot_all(Task::Verify)?;
            reports.iter().for_each(|report| self.print(report));
            within &= reports.iter().all(|report| report.failure.is_none());
        }
        Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn on_this_kernel(&self) -> Result<bool> {
        let build = ["build", "--quiet", "--package", "pintle-tests", "--bin", "verify"];
        workspace::run(&mut cargo(build))?;
        let mut command = Command::new(workspace::target_dir().join("debug/verify"));
        command.arg(workspace::object()).args(self.json.then_some("--json"));
        Ok(command.status()?.success())
    }

    fn print(&self, report: &Report) {
        match self.json {
            true => println!("{}", report.verify),
            false => rows(&report.verify).iter().for_each(|row| println!("{row}")),
        }
        if let Some(failure) = &report.failure {
            eprintln!("kernel {}: {failure}", report.series);
        }
    }
}

/// Rows in the columns of the verify binary's table.
fn rows(line: &str) -> Vec<String> {
    let Ok(report) = serde_json::from_str::<Value>(line) else { return vec![line.to_owned()] };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let budget = report["budget"].as_u64().unwrap_or_default().max(1);
    let programs = report["programs"].as_array().cloned().unwrap_or_default();
    let row = |program: &Value| {
        let (kernel, name) = (text(&report["kernel"]), text(&program["name"]));
        let Some(verified) = program["verified"].as_u64() else {
            return format!("{kernel:<28} {name:<20} {:>9}", "refused");
        };
        let translated = program["translated"].as_u64().unwrap_or_default();
        let share = verified * 100 / budget;
        format!("{kernel:<28} {name:<20} {verified:>9} {translated:>11} {share:>6}%")
    };
    programs.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_line_becomes_a_row_for_each_program() {
        let line = r#"{"budget":1000,"kernel":"6.1","programs":
            [{"name":"from_pod","translated":14,"verified":500}]}"#;
        let rows = rows(line);
        assert_eq!(rows.len(), 1);
        assert!(rows[0].starts_with("6.1 ") && rows[0].ends_with(" 50%"), "{}", rows[0]);
    }
}
