// SPDX-License-Identifier: Apache-2.0
//! The comparison: worlds are built, take turns at every workload, are torn down and built again.
//!
//! The way of a number: [`client`] times an operation, [`turns`] takes the median of an epoch and its
//! ratio to direct, [`record`] keeps it for each build, [`crate::statistics`] makes an interval of the
//! builds, [`crate::report`] shows it.

use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::ProgressBar;

pub mod client;
pub mod plan;
pub mod record;
pub mod site;
pub mod turns;
pub mod workload;
pub mod world;

use crate::cpu::Cpus;
use crate::interrupt;
use crate::machine::Machine;
use crate::{packets, progress};
use client::Client;
use plan::Plan;
use record::{Row, Run, Settings, WorldRecord};
use site::Site;
use workload::{Operation, Workload};

/// Does what is planned and returns what was measured.
pub fn run(plan: &Plan) -> Result<Run> {
    let cpus = Cpus::choose()?;
    let (started, stolen) = (Instant::now(), cpus.stolen());
    let mut run = Run::new(settings(plan), Machine::look(cpus.measured()));
    cpus.keep_off().context("leave the CPU of the measurement")?;
    run.skipped.clone_from(&plan.skipped);
    run.worlds = plan.worlds.iter().map(|world| WorldRecord::new(*world)).collect();
    let progress = progress::bar(steps(plan));
    for build in 1..=plan.rebuilds {
        let sites = build_all(plan, &mut run, cpus, &progress, build)?;
        for workload in &plan.workloads {
            progress.set_message(format!(
                "build {build} of {}: {}",
                plan.rebuilds,
                workload.name()
            ));
            measure(&sites, *workload, plan.seconds, cpus, &mut run.latency)
                .with_context(|| workload.name())?;
            progress.inc(u64::from(plan.seconds));
        }
        progress.set_message("taking down");
    }
    progress.finish_and_clear();
    run.seconds = started.elapsed().as_secs_f64();
    run.stolen = (cpus.stolen() - stolen) / run.seconds;
    Ok(run)
}

fn settings(plan: &Plan) -> Settings {
    Settings { extent: plan.extent, rebuilds: plan.rebuilds, seconds: plan.seconds }
}

fn steps(plan: &Plan) -> u64 {
    let measuring = plan.workloads.len() as u64 * u64::from(plan.seconds);
    u64::from(plan.rebuilds) * (plan.worlds.len() as u64 + measuring)
}

fn build_all(
    plan: &Plan,
    run: &mut Run,
    cpus: Cpus,
    progress: &ProgressBar,
    build: u32,
) -> Result<Vec<Site>> {
    let mut sites = Vec::new();
    for (world, record) in plan.worlds.iter().zip(&mut run.worlds) {
        interrupt::check()?;
        let name = world.name();
        progress.set_message(format!("build {build} of {}: making {name}", plan.rebuilds));
        let start = Instant::now();
        sites.push(Site::build(*world, cpus).with_context(|| format!("make {name}"))?);
        record.build_seconds.push(start.elapsed().as_secs_f64());
        progress.inc(1);
    }
    Ok(sites)
}

fn measure(
    sites: &[Site],
    workload: Workload,
    seconds: u32,
    cpus: Cpus,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let sites: Vec<&Site> =
        sites.iter().filter(|site| workload.applies_to(site.world.path)).collect();
    let measured = match workload.operation() {
        Operation::Packets(flows) => {
            let tracks = sites.iter().map(|site| site.track()).collect::<Result<Vec<_>>>()?;
            packets::measure(&tracks, flows, seconds, cpus)?
        }
        operation => {
            let start = |site: &&Site| {
                let place = site.place(workload.route(), operation);
                Client::start(place, operation, cpus).with_context(|| site.world.name())
            };
            let clients = sites.iter().map(start).collect::<Result<Vec<_>>>()?;
            turns::measure(&clients, seconds)?
        }
    };
    for (site, measured) in sites.iter().zip(measured) {
        record::add(rows, workload, site.world, &measured);
    }
    Ok(())
}
