// SPDX-License-Identifier: Apache-2.0
//! What was measured of control planes, as it is kept.

use serde::{Deserialize, Serialize};

use crate::compare::plan::Skipped;
use crate::compare::world::DataPath;
use crate::machine::Machine;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Where it ran.
    pub machine: Machine,
    /// Endpoints of each service.
    pub endpoints: u32,
    /// A row for each size and way.
    pub rows: Vec<Row>,
    /// What was not measured, and why.
    pub skipped: Vec<Skipped>,
}

/// One way at one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Which way.
    pub path: DataPath,
    /// Number of services.
    pub services: u32,
    /// Everything from nothing, in milliseconds: of kube-proxy's ways the loader alone, of Pintle from
    /// the start of the agent.
    pub load_ms: f64,
    /// CPU time of that.
    pub load_cpu_ms: f64,
    /// One endpoint changed, in microseconds: of kube-proxy's ways the loader alone, of Pintle from the
    /// event to the last write.
    pub change_us: Vec<f64>,
    /// Mean CPU time of a change in milliseconds.
    pub change_cpu_ms: f64,
    /// What the kernel holds for it, in MiB, where memory is charged to cgroups.
    pub kernel_mib: Option<f64>,
    /// Memory of the agent, or the most that the loader had, in MiB.
    pub process_mib: f64,
}

impl Row {
    /// Of which nothing is measured yet.
    pub fn new(path: DataPath, services: u32) -> Self {
        Self {
            path,
            services,
            load_ms: 0.0,
            load_cpu_ms: 0.0,
            change_us: Vec::new(),
            change_cpu_ms: 0.0,
            kernel_mib: None,
            process_mib: 0.0,
        }
    }

    /// Median and slowest change, in microseconds.
    pub fn change(&self) -> Option<[f64; 2]> {
        let mut sorted = self.change_us.clone();
        sorted.sort_by(f64::total_cmp);
        Some([*sorted.get(sorted.len() / 2)?, *sorted.last()?])
    }
}
