// SPDX-License-Identifier: Apache-2.0
//! The ratios of a run as a matrix: a line for each world, a column for each workload.

use crate::compare::record::{Row, Run};
use crate::compare::workload::Workload;
use crate::statistics::{Estimate, Verdict};

/// A ratio in one cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// What is written there: `1.024 ±0.005`, or `1.002 same` where no difference was found.
    pub text: String,
    /// What the interval says.
    pub verdict: Verdict,
    /// Whether the ratio is above what the design allows.
    pub misses_target: bool,
}

/// All of them.
pub struct Matrix {
    /// Heads of the columns.
    pub workloads: Vec<Workload>,
    /// Median latency of direct, in microseconds.
    pub direct_us: Vec<f64>,
    /// Worlds with their cells.
    pub lines: Vec<(String, Vec<Option<Cell>>)>,
}

impl Matrix {
    /// The matrix of a run.
    pub fn of(run: &Run) -> Self {
        let workloads = run.workloads();
        let direct = run.worlds.first().map(|world| world.name.as_str()).unwrap_or_default();
        let us = |workload: &Workload| run.row(*workload, direct).map_or(0.0, Row::us);
        let direct_us = workloads.iter().map(us).collect();
        let others = run.worlds.iter().skip(1);
        let lines = others.map(|world| {
            let cell = |workload: &Workload| Some(Cell::of(run, run.row(*workload, &world.name)?));
            (world.name.clone(), workloads.iter().map(cell).collect())
        });
        let lines = lines.collect();
        Self { workloads, direct_us, lines }
    }
}

impl Cell {
    fn of(run: &Run, row: &Row) -> Self {
        let estimate = row.estimate;
        let misses_target = run.target(row).is_some_and(|target| estimate.ratio > target);
        Self { text: show(estimate), verdict: estimate.verdict(), misses_target }
    }
}

/// `1.024 ±0.005`; `8.2 (3.5 to 19.1)` where that is wide; `1.002 same` where one is inside.
pub fn show(estimate: Estimate) -> String {
    let Estimate { ratio, interval95 } = estimate;
    let digits = if ratio >= 10.0 { 1 } else { 3 };
    match interval95 {
        None => format!("{ratio:.digits$}"),
        Some(_) if estimate.verdict() == Verdict::NoDifference => format!("{ratio:.digits$} same"),
        Some([low, high]) if high > 1.5 * low => format!("{ratio:.1} ({low:.1} to {high:.1})"),
        Some([low, high]) => format!("{ratio:.digits$} ±{:.digits$}", (high - low) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_says_where_no_difference_was_found() {
        let show = |ratios: &[f64]| show(Estimate::of(ratios));
        assert_eq!(show(&[1.0, 1.01, 0.99]), "1.000 same");
        assert_eq!(show(&[1.10, 1.11, 1.12]), "1.110 ±0.025");
        assert_eq!(show(&[14.0, 14.1]), "14.0 ±0.6");
        assert_eq!(show(&[8.0, 9.0]), "8.5 (4.0 to 17.9)");
        assert_eq!(show(&[1.5]), "1.500");
    }
}
