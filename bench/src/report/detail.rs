// SPDX-License-Identifier: Apache-2.0
//! All numbers of one workload in one world, in the order of a table.

use crate::compare::record::{Row, Run};
use crate::statistics::Verdict;

/// Heads of the columns.
pub const HEADS: [&str; 12] = [
    "world",
    "ratio",
    "95 % interval",
    "to direct",
    "target",
    "median µs",
    "p99 µs",
    "CPU µs",
    "CPU s",
    "wall s",
    "operations",
    "failed",
];

/// One line.
pub struct Detail<'a> {
    run: &'a Run,
    row: &'a Row,
}

impl<'a> Detail<'a> {
    /// Of a row of a run.
    pub fn of(run: &'a Run, row: &'a Row) -> Self {
        Self { run, row }
    }

    /// What its interval says.
    pub fn verdict(&self) -> Verdict {
        self.row.estimate.verdict()
    }

    /// Its cells.
    pub fn cells(&self) -> [String; 12] {
        let row = self.row;
        let interval = row.estimate.interval95;
        let target = self.run.target(row).map(|target| format!("≤ {target:.2}"));
        [
            row.world.clone(),
            format!("{:.3}", row.estimate.ratio),
            interval.map_or("-".into(), |[low, high]| format!("{low:.3} to {high:.3}")),
            self.verdict().text().into(),
            target.unwrap_or_default(),
            format!("{:.2}", row.us()),
            row.p99_us.as_deref().map_or("-".into(), |p99| format!("{:.1}", mean(p99))),
            format!("{:.2}", mean(&row.cpu_us)),
            format!("{:.2}", row.cpu_seconds),
            format!("{:.2}", row.wall_seconds),
            row.operations.to_string(),
            row.failed.to_string(),
        ]
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
