// SPDX-License-Identifier: Apache-2.0
//! What Maglev's tables cost the control plane: made for many services, and anew for one change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pintle::model::addr::BackendAddr;
use pintle::plan::maglev::{self, TableSize};
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::manifest::{Condition, Endpoint, Port, Service};
use pintle_lab::self_report::{LOG_ARGS, programming_times};
use pintle_lab::topology::World;

use crate::figures::{Table, Unit};
use crate::interrupt;
use crate::progress::tell;

const BACKENDS: u32 = 100;
const SERVICES: u32 = 1_000;
const PORT: Port = Port { name: "http", protocol: "TCP", port: 80, target: 8080 };

/// Measures tables of the default size.
pub fn measure(world: &World, changes: u32, table: &mut Table) -> Result<()> {
    tell(&format!("tables of {SERVICES} services with {BACKENDS} backends"));
    make(table);
    tell(&format!("{changes} changes of a service with a table"));
    change(world, changes, table)
}

fn make(table: &mut Table) {
    let size = TableSize::default();
    let started = Instant::now();
    for service in 0..SERVICES {
        let backend = |number| BackendAddr { ip: address(service, number), port: 8080 };
        let backends: Vec<_> = (0..BACKENDS).map(backend).collect();
        std::hint::black_box(maglev::table(&backends, &[], size));
    }
    let name = format!(
        "Maglev tables of {size} slots, {SERVICES} services with {BACKENDS} backends: made on one CPU"
    );
    table.add(name, Unit::Milliseconds, started.elapsed().as_secs_f64() * 1e3, Some(1_000.0));
}

/// One backend comes and goes.
fn change(world: &World, changes: u32, table: &mut Table) -> Result<()> {
    let binary = std::env::current_exe()?;
    let mut agent = Agent::of_binary(&world.nodes[0], FastPath::Auto, binary)?;
    world.objects().show(&agent.manifests)?;
    agent.extra_args = LOG_ARGS.map(str::to_owned).to_vec();
    agent.extra_args.push("--backend-selection=maglev".to_owned());
    let service = Service {
        kind: "NodePort",
        node_ports: vec![(PORT.name, 30_080)],
        ..Service::dual_stack("web", 10, &[PORT])
    };
    let all: Vec<_> = (0..BACKENDS).map(endpoint).collect();
    agent.manifests.service(&service)?;
    agent.manifests.endpoints(&service, &all)?;
    agent.start()?;
    let before = programming_times(&agent).len();
    for number in 0..changes {
        interrupt::check()?;
        let present = all.len() - (number as usize + 1) % 2;
        agent.manifests.endpoints(&service, &all[..present])?;
        agent.settle()?;
    }
    std::thread::sleep(Duration::from_millis(50));
    let mut programmed = programming_times(&agent).split_off(before);
    ensure!(programmed.len() == changes as usize, "{} of {changes} changes", programmed.len());
    let name = format!("event to kernel, both families' tables of a service, {changes} changes");
    table.quantiles(&name, &mut programmed, Some(5_000.0));
    Ok(())
}

fn endpoint(number: u32) -> Endpoint {
    let v6 = Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, number as u16 + 1);
    let ips = [address(0, number), v6.into()];
    Endpoint { ips, node: "elsewhere".to_owned(), condition: Condition::Ready }
}

fn address(service: u32, number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0af4_0001 + (service << 8) + number).into()
}
