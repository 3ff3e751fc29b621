// SPDX-License-Identifier: Apache-2.0
//! `pintle bench program`: what Pintle's programs cost for a packet, over an empty program.
//!
//! The programs are those that an agent has attached, with its maps; packets go through them by
//! `BPF_PROG_TEST_RUN`. Both the program and the empty one run behind a [`wrapper::Wrapper`] that lays
//! down the original headers before each run; the cost is the difference. Every round measures every
//! case, so a disturbance of the machine hits all of them.

use std::io::{self, Write as _};

use anyhow::{Context, Result};
use clap::Args;
use pintle::cli::Outcome;
use pintle::cli::output::Format;
use pintle_lab::topology::Family;

mod calibration;
mod case;
mod record;
mod site;
mod wrapper;

use crate::cpu::Cpus;
use crate::machine::Machine;
use crate::{check_rights, interrupt, progress};
use calibration::Calibration;
use case::{Case, Empty, Kind};
use record::{Row, Run};
use site::{Extent, Site};

/// What to measure.
#[derive(Debug, Args)]
pub struct Program {
    /// With so many services and one policy
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "1,1000,100000",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    services: Vec<u32>,
    /// With one service and so many policies, all of which select the pods that are policed
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "100,10000",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    policies: Vec<u32>,
    /// Rounds; the median is told
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Program {
    /// Measures and prints.
    pub fn run(&self, output: Format) -> Result<Outcome> {
        check_rights()?;
        interrupt::watch()?;
        let run = self.measure()?;
        match self.json || output == Format::Json {
            true => writeln!(io::stdout(), "{:#}", serde_json::to_value(&run)?)?,
            false => write!(io::stdout(), "{}", run.table())?,
        }
        Ok(Outcome::Good)
    }

    fn extents(&self) -> Vec<Extent> {
        let services =
            self.services.iter().map(|services| Extent { services: *services, policies: 1 });
        let policies =
            self.policies.iter().map(|policies| Extent { services: 1, policies: *policies });
        let mut extents: Vec<Extent> = Vec::new();
        for extent in services.chain(policies) {
            if !extents.contains(&extent) {
                extents.push(extent);
            }
        }
        extents
    }

    fn measure(&self) -> Result<Run> {
        let cpus = Cpus::choose()?;
        let machine = Machine::look(cpus.measured());
        cpus.keep_off().context("leave the CPU of the measurement")?;
        let extents = self.extents();
        let bar = progress::bar((extents.len() as u32 + self.rounds).into());
        let empty = Empty::load()?;
        let mut sites = Vec::new();
        for extent in extents {
            interrupt::check()?;
            let Extent { services, policies } = extent;
            bar.set_message(format!("loading {services} services, {policies} policies"));
            let site = Site::build(extent)?;
            let cases = self.cases(&site, &empty, cpus)?;
            sites.push((site, cases));
            bar.inc(1);
        }
        for round in 1..=self.rounds {
            bar.set_message(format!("round {round} of {}", self.rounds));
            for (site, cases) in &mut sites {
                measure_all(site, cases, cpus)?;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let rows = sites
            .iter()
            .flat_map(|(site, cases)| cases.iter().map(|case| Row::of(site.extent, case)));
        Ok(Run {
            machine,
            rounds: self.rounds,
            calibration: Calibration::measure(cpus)?,
            rows: rows.collect(),
            programs: record::programs()?,
        })
    }

    fn cases(&self, site: &Site, empty: &Empty, cpus: Cpus) -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        for family in Family::BOTH {
            for is_udp in [false, true] {
                for kind in Kind::ALL {
                    if kind.name().contains(&self.only) && kind.applies_to(site, family, is_udp) {
                        let case = Case::new(site, (kind, family, is_udp), empty, cpus);
                        cases.push(case.with_context(|| kind.name())?);
                    }
                }
            }
        }
        Ok(cases)
    }
}

fn measure_all(site: &Site, cases: &mut [Case], cpus: Cpus) -> Result<()> {
    for case in cases {
        interrupt::check()?;
        let (name, family) = (case.kind.name(), case.family);
        case.measure(site, cpus).with_context(|| format!("{name}, {family:?}"))?;
    }
    Ok(())
}
