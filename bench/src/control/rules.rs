// SPDX-License-Identifier: Apache-2.0
//! What kube-proxy's programs take for the same state: all services at once, and one change.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use pintle_lab::cluster::Cluster;
use pintle_lab::kube_proxy::{Iptables, ServiceRules, iptables, loader::Cost, nft, nftables};
use pintle_lab::netns::NetNs;
use pintle_lab::topology::Family;

use super::memory::MemoryGroup;
use super::record::Row;
use crate::compare::world::DataPath;
use crate::interrupt;

/// No more changes begin after this.
const LONG_ENOUGH: Duration = Duration::from_secs(15);

/// Loads and changes rules in a namespace of its own.
pub fn measure(
    path: DataPath,
    cluster: Cluster,
    changes: u32,
    memory: Option<&MemoryGroup>,
) -> Result<Row> {
    let ns = NetNs::new()?;
    let mut services: Vec<ServiceRules> =
        (0..cluster.services).map(|service| cluster.rules(service)).collect();
    let mut row = Row::new(path, cluster.services);
    let before = memory.map(MemoryGroup::kernel_bytes).transpose()?;
    let cost = load(path, &ns, &services)?;
    row.load_ms = cost.wall.as_secs_f64() * 1e3;
    row.load_cpu_ms = cost.cpu.as_secs_f64() * 1e3;
    row.process_mib = cost.peak_kib as f64 / 1024.0;
    row.kernel_mib = super::grown(memory, before)?;
    let end = Instant::now() + LONG_ENOUGH;
    for number in 0..changes {
        interrupt::check()?;
        // Far apart, so that nothing is warm that would be cold in a cluster.
        let index = (number * 7919 % cluster.services) as usize;
        let cost = change(path, &ns, &mut services, index)?;
        row.change_us.push(cost.wall.as_secs_f64() * 1e6);
        row.change_cpu_ms += cost.cpu.as_secs_f64() * 1e3;
        if Instant::now() > end {
            break;
        }
    }
    row.change_cpu_ms /= row.change_us.len().max(1) as f64;
    Ok(row)
}

fn load(path: DataPath, ns: &NetNs, services: &[ServiceRules]) -> Result<Cost> {
    match iptables_of(path) {
        Some(iptables) => iptables.restore(ns, Family::V4, &iptables::iptables_mode(services)),
        None => nft(ns, &nftables::nftables_mode(Family::V4, services, &[])),
    }
}

/// The first endpoint of a service gets another address.
fn change(path: DataPath, ns: &NetNs, all: &mut [ServiceRules], index: usize) -> Result<Cost> {
    let before = all[index].clone();
    if let Some(SocketAddr::V4(first)) = all[index].endpoints.first_mut() {
        let [a, b, c, d] = first.ip().octets();
        first.set_ip([a, b ^ 0x40, c, d].into());
    }
    match iptables_of(path) {
        Some(iptables) => iptables.restore(ns, Family::V4, &iptables::change(all, index, &before)),
        None => nft(ns, &nftables::change(Family::V4, &all[index])),
    }
}

fn iptables_of(path: DataPath) -> Option<Iptables> {
    match path {
        DataPath::IptablesLegacy => Some(Iptables::Legacy),
        DataPath::IptablesNft => Some(Iptables::Nft),
        _ => None,
    }
}
