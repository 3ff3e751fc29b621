// SPDX-License-Identifier: Apache-2.0
//! Loads every program of an object and reports what the running kernel's verifier spent on each.
//!
//! `cargo xtask verify` runs it on this machine and, with `--vm`, inside the guests.

use anyhow::{Context, Result, bail};
use aya::EbpfLoader;
use aya::programs::Program;
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

/// How much of the verifier's log is shown; the reason is at its end.
const LOG_TAIL: usize = 24;

/// What the verifier said about one program.
struct Verdict {
    name: String,
    cost: Result<Cost>,
}

/// One loaded program's size.
struct Cost {
    verified: u32,
    translated: u32,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every program loads and is within the budget.
fn run(arguments: &Arguments) -> Result<bool> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("osrelease")?;
    let (kernel, budget) = (kernel.trim(), arguments.budget);
    let verdicts = load_all(&arguments.object)?;
    match arguments.json {
        true => println!("{}", json(kernel, budget, &verdicts)),
        false => table(kernel, budget, &verdicts),
    }
    for Verdict { name, cost } in &verdicts {
        match cost {
            Ok(cost) if cost.verified > budget => {
                eprintln!("{name}: {} verified instructions, {budget} allowed", cost.verified);
            }
            Ok(_) => {}
            Err(error) => eprintln!("{name} is refused:\n{}", tail(&format!("{error:#}"))),
        }
    }
    let within = |verdict: &Verdict| matches!(&verdict.cost, Ok(cost) if cost.verified <= budget);
    Ok(verdicts.iter().all(within))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}

fn load_all(object: &Path) -> Result<Vec<Verdict>> {
    let bytes = std::fs::read(object).with_context(|| object.display().to_string())?;
    let mut loader = EbpfLoader::new();
    for map in pintle_abi::map::ALL {
        loader.map_max_entries(map.name, map.entries.min(ENTRIES));
    }
    let mut ebpf = loader.load(&bytes).context("the object cannot be loaded")?;
    let programs = ebpf.programs_mut();
    let mut verdicts: Vec<_> = programs
        .map(|(name, program)| Verdict { name: name.to_owned(), cost: cost(program) })
        .collect();
    if verdicts.is_empty() {
        bail!("{} has no programs", object.display());
    }
    verdicts.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(verdicts)
}

fn cost(program: &mut Program) -> Result<Cost> {
    load(program)?;
    let info = program.info()?;
    let verified = info.verified_instruction_count();
    Ok(Cost {
        verified: verified.context("this kernel does not report the verifier's work")?,
        translated: info.size_translated().unwrap_or_default() / 8,
    })
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

fn json(kernel: &str, budget: u32, verdicts: &[Verdict]) -> serde_json::Value {
    let program = |Verdict { name, cost }: &Verdict| match cost {
        Ok(Cost { verified, translated }) => {
            serde_json::json!({ "name": name, "verified": verified, "translated": translated })
        }
        Err(_) => serde_json::json!({ "name": name, "refused": true }),
    };
    let programs: Vec<_> = verdicts.iter().map(program).collect();
    serde_json::json!({ "kernel": kernel, "budget": budget, "programs": programs })
}

fn table(kernel: &str, budget: u32, verdicts: &[Verdict]) {
    let header = ["VERIFIED", "TRANSLATED", "BUDGET"];
    println!(
        "{:<28} {:<20} {:>9} {:>11} {:>7}",
        "KERNEL", "PROGRAM", header[0], header[1], header[2]
    );
    for Verdict { name, cost } in verdicts {
        let Ok(Cost { verified, translated }) = cost else {
            println!("{kernel:<28} {name:<20} {:>9}", "refused");
            continue;
        };
        let share = u64::from(*verified) * 100 / u64::from(budget.max(1));
        println!("{kernel:<28} {name:<20} {verified:>9} {translated:>11} {share:>6}%");
    }
}
