// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test cluster`: a kind cluster without kube-proxy, Pintle from the image, Kubernetes' own
//! tests of services, and a rolling restart under load.
//!
//! Needs a container engine and several programs, and pulls images: so it only runs when it is asked
//! for by name. The cluster is deleted at the end, also when something fails; after an interrupt the next
//! run says how.

mod commands;
mod load;
mod tools;

use crate::{image, setup, workspace};
use anyhow::{Context, Result, ensure};
use commands::Commands;
use std::process::Command;
use tools::Tools;

pub use tools::obstacle;

/// A cluster that is deleted with the handle.
struct Cluster<'a>(&'a Commands);

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if let Err(error) = step("delete the cluster", self.0.delete()) {
            println!("{error:#}");
        }
    }
}

/// The tier.
pub fn test() -> Result<()> {
    let commands = Commands::new(Tools::find()?);
    let present = workspace::run_quietly(&mut commands.clusters())?;
    ensure!(
        !present.lines().any(|name| name == commands::NAME),
        "a kind cluster named {0} is there already: `kind delete cluster --name {0}`",
        commands::NAME
    );
    setup::ensure(setup::Extent::Image)?;
    let archive = image::make_default()?;
    std::fs::create_dir_all(commands.results())?;
    let cluster = Cluster(&commands);
    let outcome = install(&commands, &archive).and_then(|()| examine(&commands));
    if outcome.is_err() {
        // What the log of an error cannot tell.
        for command in commands.evidence() {
            let _ = step("for the record", command);
        }
    }
    drop(cluster);
    outcome
}

/// From nothing to a cluster whose services are Pintle's.
fn install(commands: &Commands, archive: &std::path::Path) -> Result<()> {
    step("make a cluster without kube-proxy", commands.create())?;
    step("load the image", commands.load_image(archive))?;
    let nodes = workspace::run_quietly(&mut commands.nodes())?;
    for node in nodes.lines() {
        step("mount bpffs", commands.mount_bpffs(node))?;
    }
    step("apply the manifests", commands.apply())?;
    step("wait for the agents", commands.wait_for_agents())?;
    step("wait for the nodes", commands.wait_for_nodes())
}

/// Both parts run, also when the first one fails.
fn examine(commands: &Commands) -> Result<()> {
    let conformance = step("Kubernetes' tests of sig-network", commands.conformance())
        .context("Kubernetes' own tests");
    let restart = restart_under_load(commands).context("the rolling restart under load");
    let word = |outcome: &Result<()>| if outcome.is_ok() { "passed" } else { "failed" };
    println!("\nsig-network: {}; rolling restart: {}", word(&conformance), word(&restart));
    conformance.and(restart)
}

/// Clients make connection after connection while one agent after the other is replaced.
fn restart_under_load(commands: &Commands) -> Result<()> {
    let images = workspace::run_quietly(&mut commands.images())?;
    let objects = load::write(load::image(&images)?)?;
    step("start servers and clients", commands.apply_file(&objects))?;
    step("wait for them", commands.wait_for_load())?;
    step("restart the agents", commands.restart())?;
    step("wait for the new ones", commands.wait_for_agents())?;
    let clients = workspace::run_quietly(&mut commands.clients())?;
    let mut counts = Vec::new();
    for client in clients.split_whitespace() {
        let text = workspace::run_quietly(&mut commands.count_of(client))?;
        let count = load::Count::parse(&text).with_context(|| format!("{client}: {text}"))?;
        println!("{client}: {count}");
        counts.push(count);
    }
    load::judge(&counts)
}

fn step(title: &str, mut command: Command) -> Result<()> {
    println!("-- {title}: {}", workspace::shown(&command));
    workspace::run(&mut command)
}
