// SPDX-License-Identifier: Apache-2.0
//! A run as it is kept: one JSON document with every build's numbers, from which all tables and
//! pictures are made.

use serde::{Deserialize, Serialize};

use super::plan::{Extent, Skipped};
use super::turns::Measured;
use super::workload::Workload;
use super::world::{DataPath, World};
use crate::machine::Machine;
use crate::statistics::Estimate;

/// Changes when a reader of the last one would misread a run.
pub const SCHEMA: u32 = 1;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// Version of Pintle.
    pub version: String,
    /// The command that reproduces it.
    pub command: String,
    /// Where it ran.
    pub machine: Machine,
    /// How it was measured.
    pub settings: Settings,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What was compared.
    pub worlds: Vec<WorldRecord>,
    /// What was not there to be compared, and why.
    pub skipped: Vec<Skipped>,
    /// Latency, a row for each workload and world.
    pub latency: Vec<Row>,
}

/// How it was measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// How much.
    pub extent: Extent,
    /// How often the worlds were built.
    pub rebuilds: u32,
    /// Seconds of each workload in each build, over all worlds.
    pub seconds: u32,
}

/// A world and what it took to make it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorldRecord {
    /// Its name.
    pub name: String,
    /// Which it is.
    #[serde(flatten)]
    pub world: World,
    /// Seconds to make it, for each build: namespaces, pods, rules or agent.
    pub build_seconds: Vec<f64>,
}

/// A workload in a world.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What clients did.
    pub workload: Workload,
    /// Name of the world.
    pub world: String,
    /// Ratio of median latency to direct's, of each build.
    pub ratios: Vec<f64>,
    /// Median latency in microseconds, of each build.
    pub median_us: Vec<f64>,
    /// 99th percentile in microseconds, of each build; noise of the machine is most of it.
    pub p99_us: Vec<f64>,
    /// CPU time of client and servers for an operation in microseconds, of each build.
    pub cpu_us: Vec<f64>,
    /// Operations that succeeded.
    pub operations: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Seconds of all its turns.
    pub wall_seconds: f64,
    /// CPU seconds of client and servers in its turns.
    pub cpu_seconds: f64,
    /// The ratio and its interval.
    pub estimate: Estimate,
    /// The ratio that the design allows.
    pub target: Option<f64>,
}

impl WorldRecord {
    /// Of a world that was not made yet.
    pub fn new(world: World) -> Self {
        Self { name: world.name(), world, build_seconds: Vec::new() }
    }
}

impl Run {
    /// Of which nothing is measured yet.
    pub fn new(settings: Settings, machine: Machine) -> Self {
        let command: Vec<String> = std::env::args().skip(1).collect();
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            command: format!("pintle {}", command.join(" ")),
            machine,
            settings,
            seconds: 0.0,
            worlds: Vec::new(),
            skipped: Vec::new(),
            latency: Vec::new(),
        }
    }

    /// The row of a workload in a world.
    pub fn row(&self, workload: Workload, world: &str) -> Option<&Row> {
        self.latency.iter().find(|row| row.workload == workload && row.world == world)
    }

    /// The workloads that were measured, in their order.
    pub fn workloads(&self) -> Vec<Workload> {
        let mut all: Vec<Workload> = self.latency.iter().map(|row| row.workload).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Operations that failed, in all worlds.
    pub fn failed(&self) -> u64 {
        self.latency.iter().map(|row| row.failed).sum()
    }
}

/// Adds what one build gave.
pub fn add(rows: &mut Vec<Row>, workload: Workload, world: World, measured: Measured) {
    let name = world.name();
    let found = rows.iter().position(|row| row.workload == workload && row.world == name);
    let index = found.unwrap_or_else(|| {
        rows.push(Row::new(workload, world));
        rows.len() - 1
    });
    rows[index].add(&measured);
}

impl Row {
    fn new(workload: Workload, world: World) -> Self {
        let target = workload.targets().and_then(|[packets, sockets]| match world.path {
            DataPath::Pintle => Some(packets),
            DataPath::PintleSockets if !world.conntrack => Some(sockets),
            _ => None,
        });
        Self {
            workload,
            world: world.name(),
            ratios: Vec::new(),
            median_us: Vec::new(),
            p99_us: Vec::new(),
            cpu_us: Vec::new(),
            operations: 0,
            failed: 0,
            wall_seconds: 0.0,
            cpu_seconds: 0.0,
            estimate: Estimate { ratio: f64::NAN, interval95: None },
            target: target.filter(|target| target.is_finite()),
        }
    }

    fn add(&mut self, measured: &Measured) {
        let operations = measured.operations.max(1) as f64;
        self.ratios.push(measured.ratio);
        self.median_us.push(measured.median_ns / 1e3);
        self.p99_us.push(measured.p99_ns / 1e3);
        self.cpu_us.push(measured.cpu_ns as f64 / operations / 1e3);
        self.operations += measured.operations;
        self.failed += measured.failed;
        self.wall_seconds += measured.wall_ns as f64 / 1e9;
        self.cpu_seconds += measured.cpu_ns as f64 / 1e9;
        self.estimate = Estimate::of(&self.ratios);
    }

    /// Mean of the medians of all builds, in microseconds.
    pub fn us(&self) -> f64 {
        self.median_us.iter().sum::<f64>() / self.median_us.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_adds_to_the_row_of_its_world_and_workload() {
        let mut rows = Vec::new();
        let world = World { path: DataPath::Pintle, services: 1, conntrack: false };
        for ratio in [1.0, 1.21] {
            let measured =
                Measured { ratio, operations: 10, cpu_ns: 50_000, ..Measured::default() };
            add(&mut rows, Workload::TcpConnect, world, measured);
            add(&mut rows, Workload::TcpConnect, World::DIRECT, measured);
        }
        assert_eq!(rows.len(), 2);
        assert!((rows[0].estimate.ratio - 1.1).abs() < 1e-9);
        assert_eq!((rows[0].operations, rows[0].cpu_us[0]), (20, 5.0));
        assert_eq!((rows[0].target, rows[1].target), (Some(1.08), None));
    }

    #[test]
    fn a_run_can_be_read_back() {
        let settings = Settings { extent: Extent::Quick, rebuilds: 1, seconds: 1 };
        let mut run = Run::new(settings, Machine::look(0));
        run.worlds.push(WorldRecord::new(World::DIRECT));
        add(
            &mut run.latency,
            Workload::TcpBulk,
            World::DIRECT,
            Measured { ratio: 1.0, ..Measured::default() },
        );
        let text = serde_json::to_string(&run).unwrap();
        let back: Run = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert_eq!(back.workloads(), [Workload::TcpBulk]);
        assert!(back.row(Workload::TcpBulk, "direct").is_some());
    }
}
