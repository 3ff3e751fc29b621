// SPDX-License-Identifier: Apache-2.0
//! Loads every program of an object and reports what the running kernel's verifier spent on each.
//!
//! `cargo xtask verify` runs it on this machine and, with `--vm`, inside the guests.

use anyhow::{Context, Result, bail};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Large enough for every map's code, small enough for a guest's memory.
const ENTRIES: u32 = 1024;

/// Loads every program of an object and reports its cost.
#[derive(Parser)]
struct Arguments {
    /// The object file.
    object: PathBuf,
    /// One line of JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Most instructions the verifier may process for one program.
    #[arg(long, default_value_t = 65_536)]
    budget: u32,
}

/// One loaded program.
struct Cost {
    name: String,
    verified: u32,
    translated: u32,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    let costs = measure(&arguments.object)?;
    match arguments.json {
        true => println!("{}", json(&kernel, arguments.budget, &costs)),
        false => table(&kernel, arguments.budget, &costs),
    }
    let within = costs.iter().all(|cost| cost.verified <= arguments.budget);
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(object: &Path) -> Result<Vec<Cost>> {
    let bytes = std::fs::read(object).with_context(|| object.display().to_string())?;
    let mut loader = EbpfLoader::new();
    for map in pintle_abi::map::ALL {
        loader.map_max_entries(map.name, map.entries.min(ENTRIES));
    }
    let mut ebpf = loader.load(&bytes).context("the object cannot be loaded")?;
    let mut costs = load_programs(&mut ebpf)?;
    if costs.is_empty() {
        bail!("{} has no programs", object.display());
    }
    costs.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(costs)
}

fn load_programs(ebpf: &mut Ebpf) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for (name, program) in ebpf.programs_mut() {
        load(program).with_context(|| format!("program {name}"))?;
        let info = program.info().with_context(|| format!("program {name}"))?;
        let verified = info.verified_instruction_count();
        costs.push(Cost {
            name: name.to_owned(),
            verified: verified.context("this kernel does not report the verifier's work")?,
            translated: info.size_translated().unwrap_or_default() / 8,
        });
    }
    Ok(costs)
}

/// The kinds of program that load without anything but the object.
fn load(program: &mut Program) -> Result<()> {
    match program {
        Program::SchedClassifier(program) => program.load()?,
        Program::Xdp(program) => program.load()?,
        Program::CgroupSockAddr(program) => program.load()?,
        Program::CgroupSock(program) => program.load()?,
        Program::CgroupSockopt(program) => program.load()?,
        Program::SockOps(program) => program.load()?,
        other => bail!("verify does not know how to load a {:?} program", other.prog_type()),
    }
    Ok(())
}

fn json(kernel: &str, budget: u32, costs: &[Cost]) -> serde_json::Value {
    let programs: Vec<_> = costs
        .iter()
        .map(|cost| {
            serde_json::json!({
                "name": cost.name,
                "verified": cost.verified,
                "translated": cost.translated,
            })
        })
        .collect();
    serde_json::json!({ "kernel": kernel, "budget": budget, "programs": programs })
}

fn table(kernel: &str, budget: u32, costs: &[Cost]) {
    println!(
        "{:<24} {:<20} {:>9} {:>11} {:>7}",
        "KERNEL", "PROGRAM", "VERIFIED", "TRANSLATED", "BUDGET"
    );
    for Cost { name, verified, translated } in costs {
        let share = u64::from(*verified) * 100 / u64::from(budget.max(1));
        println!("{kernel:<24} {name:<20} {verified:>9} {translated:>11} {share:>6}%");
    }
}
