// SPDX-License-Identifier: Apache-2.0
//! A run as it is kept: one JSON document with every build's numbers, from which all tables and
//! pictures are made.

use serde::{Deserialize, Serialize};

use super::plan::{Extent, Skipped};
use super::turns::Measured;
use super::workload::Workload;
use super::world::World;
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
    /// What its microseconds are.
    #[serde(default)]
    pub clock: Clock,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Which part of that the machine below took the CPU away for, where it is a virtual one.
    pub stolen: f64,
    /// What was compared.
    pub worlds: Vec<WorldRecord>,
    /// What was not there to be compared, and why.
    pub skipped: Vec<Skipped>,
    /// Latency, a row for each workload and world.
    pub latency: Vec<Row>,
}

/// What a microsecond is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Time.
    #[default]
    Time,
    /// A thousand instructions of a guest, whoever has marked the run so: the guest does not know.
    Instructions,
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
    /// 99th percentile in microseconds, of each build, where single operations are timed; noise of the
    /// machine is most of it.
    pub p99_us: Option<Vec<f64>>,
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
            clock: Clock::Time,
            seconds: 0.0,
            stolen: 0.0,
            worlds: Vec::new(),
            skipped: Vec::new(),
            latency: Vec::new(),
        }
    }

    /// The row of a workload in a world.
    pub fn row(&self, workload: Workload, world: &str) -> Option<&Row> {
        self.latency.iter().find(|row| row.workload == workload && row.world == world)
    }

    /// The ratio that the design allows in a row.
    pub fn target(&self, row: &Row) -> Option<f64> {
        let world = self.worlds.iter().find(|world| world.name == row.world)?;
        row.workload.target(world.world.path)
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
pub fn add(rows: &mut Vec<Row>, workload: Workload, world: World, measured: &Measured) {
    let name = world.name();
    let found = rows.iter().position(|row| row.workload == workload && row.world == name);
    let index = found.unwrap_or_else(|| {
        rows.push(Row::new(workload, world));
        rows.len() - 1
    });
    rows[index].add(measured);
}

impl Row {
    fn new(workload: Workload, world: World) -> Self {
        Self {
            workload,
            world: world.name(),
            ratios: Vec::new(),
            median_us: Vec::new(),
            p99_us: None,
            cpu_us: Vec::new(),
            operations: 0,
            failed: 0,
            wall_seconds: 0.0,
            cpu_seconds: 0.0,
            estimate: Estimate { ratio: f64::NAN, interval95: None },
        }
    }

    fn add(&mut self, measured: &Measured) {
        let operations = measured.operations.max(1) as f64;
        self.ratios.push(measured.over_epochs(|epoch| epoch.ratio));
        self.median_us.push(measured.over_epochs(|epoch| epoch.median_ns) / 1e3);
        if measured.epochs.iter().all(|epoch| epoch.p99_ns.is_some()) {
            let p99 = measured.over_epochs(|epoch| epoch.p99_ns.unwrap_or_default()) / 1e3;
            self.p99_us.get_or_insert_default().push(p99);
        }
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
    use crate::compare::turns::Epoch;
    use crate::compare::world::DataPath;

    #[test]
    fn a_build_adds_to_the_row_of_its_world_and_workload() {
        let mut rows = Vec::new();
        let world = World { path: DataPath::Pintle, services: 1, conntrack: false };
        for ratio in [1.0, 1.21] {
            let epochs = vec![Epoch { ratio, median_ns: 1.0, p99_ns: None }];
            let measured =
                Measured { epochs, operations: 10, cpu_ns: 50_000, ..Measured::default() };
            add(&mut rows, Workload::TcpConnect, world, &measured);
            add(&mut rows, Workload::TcpConnect, World::DIRECT, &measured);
        }
        assert_eq!(rows.len(), 2);
        assert!((rows[0].estimate.ratio - 1.1).abs() < 1e-9);
        assert_eq!((rows[0].operations, rows[0].cpu_us[0]), (20, 5.0));
    }

    #[test]
    fn a_run_can_be_read_back() {
        let settings = Settings { extent: Extent::Quick, rebuilds: 1, seconds: 1 };
        let mut run = Run::new(settings, Machine::look(0));
        run.worlds.push(WorldRecord::new(World::DIRECT));
        let epochs = vec![Epoch { ratio: 1.0, median_ns: 1.0, p99_ns: Some(2.0) }];
        let measured = Measured { epochs, ..Measured::default() };
        add(&mut run.latency, Workload::TcpBulk, World::DIRECT, &measured);
        let text = serde_json::to_string(&run).unwrap();
        let back: Run = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert_eq!(back.workloads(), [Workload::TcpBulk]);
        assert_eq!(back.target(&back.latency[0]), None);
        assert!(back.row(Workload::TcpBulk, "direct").is_some());
    }
}
