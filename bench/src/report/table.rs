// SPDX-License-Identifier: Apache-2.0
//! A run on a terminal.

use std::fmt::Write as _;

use super::matrix::Matrix;
use crate::compare::record::{Clock, Run};

/// The text.
pub fn of(run: &Run) -> String {
    let Matrix { workloads, direct_us, lines } = Matrix::of(run);
    let mut rows = vec![vec!["WORLD".to_owned()], vec!["direct, us".to_owned()]];
    rows[0].extend(workloads.iter().map(|workload| workload.name().to_uppercase()));
    rows[1].extend(direct_us.iter().map(|us| format!("{us:.2}")));
    for (world, cells) in lines {
        let cells = cells.into_iter().map(|cell| match cell {
            Some(cell) if cell.misses_target => format!("{} !", cell.text),
            Some(cell) => cell.text,
            None => "-".to_owned(),
        });
        rows.push(std::iter::once(world).chain(cells).collect());
    }
    let mut out = align(&rows);
    let _ = writeln!(out, "\n{}", explanation(run));
    out
}

/// What the numbers are.
pub fn explanation(run: &Run) -> String {
    let mut out = format!(
        "Ratio of median latency to direct, 95 % interval over {} builds of {} s for each workload; \
         \"same\": no difference to direct; \"!\": above the design's target.\n",
        run.settings.rebuilds, run.settings.seconds
    );
    if run.clock == Clock::Instructions {
        out += "A guest under an interpreter that counts: 1 us is 1,000 of its instructions. Caches do not count.\n";
    }
    let machine = &run.machine;
    let _ = writeln!(
        out,
        "{} x {}, CPU {}, Linux {}, load {:.1} at the start; {:.0} s, {:.1} % of it stolen; {} operations failed.",
        machine.cpus,
        machine.processor,
        machine.measured_cpu,
        machine.kernel,
        machine.load,
        run.seconds,
        run.stolen * 100.0,
        run.failed()
    );
    for skipped in &run.skipped {
        let _ = writeln!(out, "Not measured: {}.", skipped.text());
    }
    out
}

/// Columns as wide as their widest cell; the first to the left, numbers to the right.
pub fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(out, "{cell:<width$}"),
                _ => write!(out, "   {cell:>width$}"),
            };
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_below_each_other() {
        let rows = [["WORLD", "X"], ["a", "1.000 ±0.1"], ["long name", "2"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            align(&rows),
            "WORLD                X\na           1.000 ±0.1\nlong name            2\n"
        );
    }
}
