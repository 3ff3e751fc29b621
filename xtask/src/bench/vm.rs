// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench vm`: `pintle bench` in a guest whose clock counts instructions, on a kernel that
//! has IPVS. One nanosecond is one instruction, so a microsecond in a table is a thousand of them.
//!
//! What it does not see is memory: tables that no longer fit into a cache look cheaper than they are.

use crate::setup::{self, Extent};
use crate::vm::{self, Report, Task};
use crate::workspace::{self, cargo};
use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Workloads that say something in a guest: bulk and live frames do not.
const WORKLOADS: &str = "tcp-connect,tcp-connect-request-close,udp-new-port,tcp-request-response,\
                         udp-request-response,node-port-local,node-port-remote";

/// Counts instructions in a guest.
#[derive(Parser)]
#[command(name = "vm", bin_name = "cargo xtask bench vm")]
struct Arguments {
    /// The kernel: 6.1 or 6.12.
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// Guests to run, one after the other; the second is compared with the first.
    #[arg(long, default_value_t = 2)]
    runs: usize,
    /// Numbers of services.
    #[arg(long, default_value = "1,1000")]
    services: String,
    /// What clients do.
    #[arg(long, default_value = WORKLOADS)]
    workloads: String,
    /// Seconds of the guest for each workload: billions of instructions.
    #[arg(long, default_value_t = 1)]
    seconds: u32,
}

/// Boots the guests, keeps what they measured, shows it.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let Arguments { kernel, runs, services, workloads, seconds } = Arguments::parse_from(arguments);
    setup::ensure(Extent::Everything)?;
    if let Some(obstacle) = vm::obstacle() {
        bail!("{obstacle}");
    }
    let line =
        format!("--services={services} --workloads={workloads} --rebuilds=1 --seconds={seconds}");
    let reports = vm::boot_often(&kernel, Task::Bench(&line), runs.max(1))?;
    let mut kept = Vec::new();
    for (number, report) in reports.iter().enumerate() {
        kept.push(keep(report, number + 1)?);
    }
    let (_, first) = &kept[0];
    show(first)?;
    println!("{:.0} s in the first guest.", reports[0].seconds);
    for (run, _) in &kept[1..] {
        println!("{}", difference(&kept[0].0, run));
    }
    Ok(ExitCode::SUCCESS)
}

fn keep(report: &Report, number: usize) -> Result<(Value, PathBuf)> {
    if let Some(failure) = &report.failure {
        bail!("kernel {}: {failure}", report.series);
    }
    let mut run: Value = serde_json::from_str(&report.bench).context("what the guest printed")?;
    run["clock"] = "instructions".into();
    let path = vm::folder(report.series).join(format!("bench-{number}.json"));
    fs::write(&path, format!("{run:#}")).with_context(|| path.display().to_string())?;
    println!("kept {}", path.display());
    Ok((run, path))
}

fn show(run: &Path) -> Result<()> {
    let mut command = cargo(["run", "--quiet", "--package", "pintle", "--", "bench", "report"]);
    workspace::run(command.arg(run))
}

/// How far two runs differ.
fn difference(first: &Value, second: &Value) -> String {
    let rows = |run: &Value| run["latency"].as_array().cloned().unwrap_or_default();
    let value = |row: &Value| row["median_us"][0].as_f64().unwrap_or(f64::NAN);
    let (first, second) = (rows(first), rows(second));
    let mut all: Vec<(f64, String)> = first
        .iter()
        .zip(&second)
        .map(|(one, other)| {
            let name = format!("{} {}", one["workload"], one["world"]).replace('"', "");
            ((value(other) / value(one) - 1.0).abs() * 100.0, name)
        })
        .collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let identical = all.iter().filter(|(percent, _)| *percent == 0.0).count();
    if identical == all.len() {
        return format!("All {identical} medians are identical in both runs.");
    }
    let (middle, most) = (all.len() / 2, all.last());
    let median = all.get(middle).map_or(0.0, |(percent, _)| *percent);
    let most = most.map_or(String::new(), |(percent, name)| format!("{percent:.2} % ({name})"));
    format!(
        "Of {} medians {identical} are identical in both runs; half differ by at most {median:.2} %, \
         the farthest by {most}.",
        all.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(us: [f64; 3]) -> Value {
        let row = |us: f64| json!({"workload": "w", "world": us.floor(), "median_us": [us]});
        json!({"latency": us.map(row)})
    }

    #[test]
    fn equal_runs_are_identical() {
        let run = run([1.0, 2.0, 4.0]);
        assert_eq!(difference(&run, &run), "All 3 medians are identical in both runs.");
    }

    #[test]
    fn the_difference_of_two_runs_names_the_farthest() {
        assert_eq!(
            difference(&run([1.0, 2.0, 4.0]), &run([1.0, 2.02, 4.2])),
            "Of 3 medians 1 are identical in both runs; half differ by at most 1.00 %, the farthest by \
             5.00 % (w 4.0)."
        );
    }
}
