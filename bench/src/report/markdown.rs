// SPDX-License-Identifier: Apache-2.0
//! A run as Markdown, for README and docs.

use std::fmt::Write as _;

use super::matrix::Matrix;
use super::table;
use crate::compare::record::Run;

/// The text.
pub fn of(run: &Run) -> String {
    let Matrix { workloads, direct_us, lines } = Matrix::of(run);
    let mut out = String::from("| world |");
    workloads.iter().for_each(|workload| {
        let _ = write!(out, " {} |", workload.name());
    });
    let _ = write!(out, "\n|---|{}\n| *direct, µs* |", "---|".repeat(workloads.len()));
    direct_us.iter().for_each(|us| {
        let _ = write!(out, " *{us:.1}* |");
    });
    out.push('\n');
    for (world, cells) in lines {
        let _ = write!(out, "| {world} |");
        for cell in cells {
            let _ = match cell {
                Some(cell) if cell.misses_target => write!(out, " **{}** |", cell.text),
                Some(cell) => write!(out, " {} |", cell.text),
                None => write!(out, " |"),
            };
        }
        out.push('\n');
    }
    let explanation = table::explanation(run).replace("\"!\"", "bold");
    let _ = write!(out, "\n{explanation}\nReproduce: `{}`\n", run.command);
    out
}
