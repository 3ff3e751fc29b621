// SPDX-License-Identifier: Apache-2.0
//! `pintle bench`: Pintle beside iptables, nftables, IPVS and no service at all, in one run.
//!
//! Everything happens in network namespaces that the run makes; nothing is left of them when it ends.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use pintle::cli::Outcome;
use pintle::cli::output::Format;

pub mod compare;
pub mod control;
pub mod cpu;
pub mod figures;
pub mod fixed;
pub mod frame;
pub mod interrupt;
pub mod machine;
pub mod packets;
pub mod program;
pub mod progress;
pub mod report;
pub mod statistics;
pub mod xdp;

use compare::record::Run;

/// Compare with iptables, nftables and IPVS on this machine (in namespaces of its own)
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    plan: compare::plan::Arguments,
    /// Print the run as JSON
    #[arg(long)]
    json: bool,
    /// Write a report with pictures
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Cold load, one change, memory: against the loaders of kube-proxy
    Control(control::Control),
    /// What Pintle's programs cost: ns for a packet, verified instructions
    Program(program::Program),
    /// What a packet from outside to another node's pod costs: through XDP, through tc, and at least
    Xdp(xdp::Xdp),
    /// Show a run that was kept with --json
    Report(Report),
}

/// Shows a run that was kept.
#[derive(Debug, Args)]
struct Report {
    /// The file
    run: PathBuf,
    /// Print Markdown instead of a table
    #[arg(long)]
    markdown: bool,
    /// Print where another run does not agree with it, instead of a table
    #[arg(long, value_name = "FILE", conflicts_with = "markdown")]
    against: Option<PathBuf>,
    /// Write a report with pictures
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Bench {
    /// Measures or shows; an operation that failed makes a bad answer.
    pub fn run(self, output: Format) -> Result<Outcome> {
        match &self.what {
            Some(What::Control(control)) => control.run(output),
            Some(What::Program(program)) => program.run(output),
            Some(What::Xdp(xdp)) => xdp.run(output),
            Some(What::Report(report)) => report.show(),
            None => self.compare(output),
        }
    }

    fn compare(&self, output: Format) -> Result<Outcome> {
        check_rights()?;
        let plan = self.plan.plan(compare::world::DataPath::obstacle)?;
        interrupt::watch()?;
        let run = compare::run(&plan)?;
        write_html(self.html.as_ref(), &run)?;
        if self.json || output == Format::Json {
            writeln!(io::stdout(), "{:#}", serde_json::to_value(&run)?)?;
        } else {
            write!(io::stdout(), "{}", report::table::of(&run))?;
        }
        Ok(if run.failed() == 0 { Outcome::Good } else { Outcome::Bad })
    }
}

impl Report {
    fn show(&self) -> Result<Outcome> {
        let run = read(&self.run)?;
        write_html(self.html.as_ref(), &run)?;
        let shown = match &self.against {
            Some(other) => report::agreement::of(&run, &read(other)?),
            None if self.markdown => report::markdown::document(&run),
            None => report::table::of(&run),
        };
        write!(io::stdout(), "{shown}")?;
        Ok(Outcome::Good)
    }
}

fn read(path: &Path) -> Result<Run> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("{} is no run", path.display()))
}

fn write_html(path: Option<&PathBuf>, run: &Run) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, report::html::of(run)?).with_context(|| path.display().to_string())
}

/// Whether namespaces can be made and programs loaded.
fn check_rights() -> io::Result<()> {
    // SAFETY: the call has no preconditions.
    match unsafe { libc::geteuid() } {
        0 => Ok(()),
        _ => Err(io::Error::other("namespaces and programs need root: repeat with sudo")),
    }
}
