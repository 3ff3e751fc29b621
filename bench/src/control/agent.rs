// SPDX-License-Identifier: Apache-2.0
//! What Pintle's agent takes for the same state: from its start to everything programmed, and from an
//! event to the last write of a map.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::cluster::{Cluster, Layout};
use pintle_lab::self_report::{LOG_ARGS, cpu_time, process_memory, programming_times, since};
use pintle_lab::topology::{Cni, World};

use super::memory::MemoryGroup;
use super::record::Row;
use crate::compare::world::DataPath;
use crate::interrupt;

/// How long a change may take to be programmed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts an agent in a node of its own, and changes one slice after the other.
pub fn measure(cluster: Cluster, changes: u32, memory: Option<&MemoryGroup>) -> Result<Row> {
    let world = World::new(1, Cni::Ptp)?;
    let binary = std::env::current_exe()?;
    let mut agent = Agent::of_binary(&world.nodes[0], FastPath::Auto, binary)?;
    world.objects().show(&agent.manifests)?;
    agent.extra_args = LOG_ARGS.map(str::to_owned).to_vec();
    cluster.write(&agent.manifests, Layout::JsonFiles)?;
    let mut row = Row::new(DataPath::Pintle, cluster.services);
    let before = memory.map(MemoryGroup::kernel_bytes).transpose()?;
    let spawned = SystemTime::now();
    agent.start()?;
    row.load_ms = since(&agent, spawned, "synced")?;
    row.load_cpu_ms = cpu_time(&agent)?;
    row.kernel_mib = super::grown(memory, before)?;
    let cpu = cpu_time(&agent)?;
    change(&agent, cluster, changes)?;
    row.change_us = programming_times(&agent).split_off(0);
    row.change_us.drain(..row.change_us.len().saturating_sub(changes as usize));
    row.change_cpu_ms = (cpu_time(&agent)? - cpu) / f64::from(changes.max(1));
    row.process_mib = process_memory(&agent, "VmRSS:")?;
    Ok(row)
}

fn change(agent: &Agent, cluster: Cluster, changes: u32) -> Result<()> {
    for number in 0..changes {
        interrupt::check()?;
        let before = programming_times(agent).len();
        // Far apart, so that nothing is warm that would be cold in a cluster.
        let service = number * 7919 % cluster.services;
        cluster.write_slice_json(&agent.manifests, service, 1 + number / cluster.services)?;
        let end = Instant::now() + PATIENCE;
        while programming_times(agent).len() == before {
            ensure!(Instant::now() < end, "a change was not programmed: {}", agent.log());
            thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}
