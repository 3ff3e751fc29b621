// SPDX-License-Identifier: Apache-2.0
//! `pintle bench control`: how long it takes to bring services into the kernel, all at once and one
//! change, and what they hold there.
//!
//! Of kube-proxy only the programs are measured that it runs, with what it feeds them; the process
//! itself, its second between syncs and the reading back of tables come on top.

use std::io::{self, Write as _};

use anyhow::{Context, Result};
use clap::Args;
use pintle::cli::Outcome;
use pintle::cli::output::Format;
use pintle_lab::cluster::Cluster;

mod agent;
mod details;
mod maglev;
mod memory;
pub mod record;
mod rules;

use crate::compare::plan::Skipped;
use crate::compare::world::DataPath;
use crate::cpu::Cpus;
use crate::machine::Machine;
use crate::progress::tell;
use crate::report::table::align;
use crate::{check_rights, interrupt};
use memory::MemoryGroup;
use record::{Row, Run};

/// Endpoints of each service.
const ENDPOINTS: u32 = 5;
const MIB: f64 = 1024.0 * 1024.0;
const WAYS: [DataPath; 4] =
    [DataPath::Pintle, DataPath::IptablesLegacy, DataPath::IptablesNft, DataPath::Nftables];

/// What to measure.
#[derive(Debug, Args)]
pub struct Control {
    /// With 1,000 services only
    #[arg(long)]
    quick: bool,
    /// With so many services
    #[arg(long, value_delimiter = ',', value_name = "N,...", conflicts_with_all = ["quick", "details"],
          value_parser = clap::value_parser!(u32).range(1..=30_000))]
    services: Vec<u32>,
    /// Changes of one endpoint; of the slow ways those that fit into 15 seconds
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "details",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    changes: u32,
    /// Pintle alone, in every detail, with its targets
    #[arg(long)]
    details: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Control {
    /// Measures and prints.
    pub fn run(&self, output: Format) -> Result<Outcome> {
        check_rights()?;
        interrupt::watch()?;
        let json = self.json || output == Format::Json;
        if self.details {
            details::measure(self.quick)?.print(json)?;
            return Ok(Outcome::Good);
        }
        let sizes = match (self.services.is_empty(), self.quick) {
            (false, _) => &self.services[..],
            (true, true) => &[1_000],
            (true, false) => &[1_000, 10_000],
        };
        let run = measure(sizes, self.changes)?;
        tell("");
        let mut out = io::stdout().lock();
        match json {
            true => writeln!(out, "{:#}", serde_json::to_value(&run)?)?,
            false => write!(out, "{}", table(&run))?,
        }
        Ok(Outcome::Good)
    }
}

fn measure(sizes: &[u32], changes: u32) -> Result<Run> {
    let cpus = Cpus::choose()?;
    let machine = Machine::look(cpus.measured());
    let mut run = Run { machine, endpoints: ENDPOINTS, rows: Vec::new(), skipped: Vec::new() };
    for services in sizes.iter().copied() {
        for path in WAYS {
            let name = format!("{}@{services}", path.name());
            if let Some(reason) = path.obstacle().or_else(|| path.too_many(services)) {
                run.skipped.push(Skipped { world: name, reason });
                continue;
            }
            tell(&name);
            let cluster = Cluster { services, endpoints: ENDPOINTS };
            // A new one each time: what was charged before is freed at leisure.
            let memory = MemoryGroup::enter().context("a memory cgroup")?;
            let row = match path {
                DataPath::Pintle => agent::measure(cluster, changes, memory.as_ref()),
                _ => rules::measure(path, cluster, changes, memory.as_ref()),
            };
            run.rows.push(row.context(name)?);
        }
    }
    Ok(run)
}

/// Kernel memory beyond what there was, in MiB.
fn grown(memory: Option<&MemoryGroup>, before: Option<u64>) -> Result<Option<f64>> {
    let Some((memory, before)) = memory.zip(before) else { return Ok(None) };
    Ok(Some((memory.kernel_bytes()? as f64 - before as f64) / MIB))
}

fn table(run: &Run) -> String {
    let head = [
        "WORLD",
        "LOAD MS",
        "CPU MS",
        "CHANGE US",
        "SLOWEST US",
        "CPU US",
        "KERNEL MIB",
        "PROCESS MIB",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(run.rows.iter().map(cells));
    let mut out = align(&rows);
    out += &format!(
        "\n{} endpoints each. LOAD: everything from nothing; of Pintle from the start of the agent, of the \
         others the loader alone.\nCHANGE: another address for one endpoint, median; \
         of Pintle from the event to the last write, of the others the loader alone.\n\
         PROCESS: the agent, or the most that the loader had.\n",
        run.endpoints
    );
    for skipped in &run.skipped {
        out += &format!("Not measured: {}.\n", skipped.text());
    }
    out
}

fn cells(row: &Row) -> Vec<String> {
    let [median, slowest] = row.change().unwrap_or([f64::NAN; 2]);
    vec![
        format!("{}@{}", row.path.name(), row.services),
        format!("{:.0}", row.load_ms),
        format!("{:.0}", row.load_cpu_ms),
        format!("{median:.0}"),
        format!("{slowest:.0}"),
        format!("{:.0}", row.change_cpu_ms * 1e3),
        row.kernel_mib.map_or("-".into(), |mib| format!("{mib:.1}")),
        format!("{:.1}", row.process_mib),
    ]
}
