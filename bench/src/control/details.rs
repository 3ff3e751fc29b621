// SPDX-License-Identifier: Apache-2.0
//! Pintle's control plane in detail: cold load, changes, memory; with the real agent and real maps.
//!
//! The time of a change runs from the moment the agent's source learns of a file's new content to
//! the end of the last map write, on the agent's own clock. End to end is seen from here: from
//! renaming the file to the map's new value.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use pintle::datapath::pins::Pins;
use pintle_abi::addr::{V4, proto};
use pintle_abi::map::FRONTENDS_V4;
use pintle_abi::service::{Frontend, FrontendKey};
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::cluster::{Cluster, Layout};
use pintle_lab::self_report::{
    LOG_ARGS, figure, map_memory, process_memory, programming_times, since,
};
use pintle_lab::topology::{Cni, World};

use super::maglev;
use crate::figures::{Table, Unit};
use crate::interrupt;
use crate::progress::tell;

const ENDPOINTS: u32 = 10;
/// How long a change may take to appear before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures everything, or a tenth of the services and of the changes; the targets are for the full
/// size.
pub fn measure(quick: bool) -> Result<Table> {
    let (services, changes) = if quick { (1_000, 100) } else { (10_000, 1_000) };
    let world = World::new(1, Cni::Ptp)?;
    let mut table = Table::default();
    let small = Cluster { services: 100, endpoints: ENDPOINTS };
    let large = Cluster { services, endpoints: ENDPOINTS };
    tell("loading 100 services");
    let agent = load(&world, small, Layout::YamlFiles, None)?;
    memory(&agent, small, &mut table)?;
    drop(agent);
    for layout in Layout::ALL {
        tell(&format!("loading {services} services: {}", layout.name()));
        let mut agent = load(&world, large, layout, Some(&mut table))?;
        if layout == Layout::YamlFiles {
            memory(&agent, large, &mut table)?;
            tell(&format!("{changes} changes among {services} services"));
            change(&agent, large, changes, &mut table)?;
            restart(&mut agent, large, &mut table)?;
        }
    }
    maglev::measure(&world, changes.div_ceil(10), &mut table)?;
    Ok(table)
}

/// Starts an agent over empty maps and waits until everything is programmed.
fn load(
    world: &World,
    cluster: Cluster,
    layout: Layout,
    table: Option<&mut Table>,
) -> Result<Agent> {
    interrupt::check()?;
    let binary = std::env::current_exe()?;
    let mut agent = Agent::of_binary(&world.nodes[0], FastPath::Auto, binary)?;
    world.objects().show(&agent.manifests)?;
    agent.extra_args = LOG_ARGS.map(str::to_owned).to_vec();
    cluster.write(&agent.manifests, layout)?;
    let spawned = SystemTime::now();
    agent.start()?;
    let Some(table) = table else { return Ok(agent) };
    let name = |what: &str| format!("{what}, {} services, {}", cluster.services, layout.name());
    let total = since(&agent, spawned, "synced")?;
    table.add(name("process start to programmed"), Unit::Milliseconds, total, Some(2_000.0));
    let program = figure(&agent, "synced", "program_ms")?;
    table.add("  of which writing the maps", Unit::Milliseconds, program, None);
    let loading = figure(&agent, "loaded", "load_ms")?;
    table.add("  of which loading the programs", Unit::Milliseconds, loading, None);
    table.add("  agent, peak", Unit::MiB, process_memory(&agent, "VmHWM:")?, None);
    table.add("  agent", Unit::MiB, process_memory(&agent, "VmRSS:")?, Some(60.0));
    Ok(agent)
}

fn memory(agent: &Agent, cluster: Cluster, table: &mut Table) -> Result<()> {
    let of = |belongs: fn(&str) -> bool| map_memory(agent, belongs);
    let services = cluster.services;
    let target = if services > 1_000 { 40.0 } else { 8.0 };
    let is_service = |name: &str| {
        ["FRONTENDS", "SLOTS", "BACKENDS"].iter().any(|prefix| name.starts_with(prefix))
    };
    table.add(
        format!("kernel memory of all maps, {services} services"),
        Unit::MiB,
        of(|_| true)?,
        Some(target),
    );
    table.add("  of which services", Unit::MiB, of(is_service)?, None);
    Ok(())
}

/// Changes one endpoint of one service after the other.
fn change(agent: &Agent, cluster: Cluster, changes: u32, table: &mut Table) -> Result<()> {
    let frontends = open(agent)?;
    let mut end_to_end = Vec::new();
    let before = programming_times(agent).len();
    for number in 0..changes {
        // Far apart, so that nothing is warm that would be cold in a cluster.
        let service = number * 7919 % cluster.services;
        let version = 1 + number / cluster.services;
        let old = lookup(&frontends, cluster, service)?;
        let started = Instant::now();
        cluster.write_slice(&agent.manifests, service, version)?;
        while lookup(&frontends, cluster, service)? == old {
            ensure!(
                started.elapsed() < PATIENCE,
                "a change has not reached the maps: {}",
                agent.log()
            );
        }
        end_to_end.push(started.elapsed().as_secs_f64() * 1e6);
    }
    std::thread::sleep(Duration::from_millis(50));
    let mut programmed = programming_times(agent).split_off(before);
    ensure!(programmed.len() == changes as usize, "{} of {changes} changes", programmed.len());
    let name = format!("event to kernel, {changes} changes, {} services", cluster.services);
    table.quantiles(&name, &mut programmed, Some(1_000.0));
    let name = "  end to end: file written and renamed, map polled";
    table.quantiles(name, &mut end_to_end, None);
    table.add("  agent, afterwards", Unit::MiB, process_memory(agent, "VmRSS:")?, Some(60.0));
    Ok(())
}

/// Restarts the agent over maps that hold everything already.
fn restart(agent: &mut Agent, cluster: Cluster, table: &mut Table) -> Result<()> {
    agent.stop()?;
    let spawned = SystemTime::now();
    agent.start()?;
    let total = since(agent, spawned, "synced")?;
    let name = format!("restart to programmed, {} services", cluster.services);
    table.add(name, Unit::Milliseconds, total, Some(2_000.0));
    Ok(())
}

fn open(agent: &Agent) -> Result<HashMap<MapData, FrontendKey<V4>, Frontend>> {
    let data = MapData::from_pin(Pins::new(agent.bpf_root()).map(&FRONTENDS_V4))?;
    Ok(Map::HashMap(data).try_into()?)
}

fn lookup(
    frontends: &HashMap<MapData, FrontendKey<V4>, Frontend>,
    cluster: Cluster,
    service: u32,
) -> Result<u32> {
    let (ip, port) = cluster.frontend(service);
    let key = FrontendKey { addr: ip.into(), port: port.to_be(), proto: proto::TCP, scope: 0 };
    // The kernel may not see a key for a moment while its value is replaced.
    let found = (0..10).find_map(|_| frontends.get(&key, 0).ok());
    Ok(found.context("the frontend of a service")?.base)
}
