// SPDX-License-Identifier: Apache-2.0
//! Whether two runs say the same: where their intervals overlap.

use std::fmt::Write as _;

use crate::compare::record::{Row, Run};

/// What the runs have in common, and every cell in which they do not agree.
pub fn of(run: &Run, other: &Run) -> String {
    let cells = run.latency.iter().filter_map(|row| {
        let base = run.worlds.first().is_some_and(|world| world.name == row.world);
        let pair = other.row(row.workload, &row.world).filter(|_| !base)?;
        Some((row, pair))
    });
    let (mut count, mut apart) = (0, String::new());
    for (row, pair) in cells {
        count += 1;
        if !overlaps(row, pair) {
            let name = row.workload.name();
            let _ =
                writeln!(apart, "{name} {}: {} and {}", row.world, interval(row), interval(pair));
        }
    }
    let agreeing = count - apart.lines().count();
    format!("{agreeing} of {count} intervals overlap with those of the other run.\n{apart}")
}

/// One without an interval, after a single build, agrees with nothing but its own ratio.
fn overlaps(row: &Row, other: &Row) -> bool {
    let [low, high] = bounds(row);
    let [other_low, other_high] = bounds(other);
    low <= other_high && other_low <= high
}

fn bounds(row: &Row) -> [f64; 2] {
    row.estimate.interval95.unwrap_or([row.estimate.ratio; 2])
}

fn interval(row: &Row) -> String {
    let [low, high] = bounds(row);
    format!("{low:.3} to {high:.3}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn cells_whose_intervals_are_apart_are_told() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.json");
        let run: Run = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let cells = run.latency.iter().filter(|row| row.world != "direct").count();
        let all = format!("{cells} of {cells} intervals overlap with those of the other run.\n");
        assert_eq!(of(&run, &run), all);
        let mut other = run.clone();
        let row = other.latency.iter_mut().find(|row| row.world == "nftables@1").unwrap();
        row.estimate.interval95 = Some([7.0, 8.0]);
        let (text, workload) = (of(&run, &other), run.latency[0].workload.name());
        assert!(text.starts_with(&format!("{} of {cells} ", cells - 1)), "{text}");
        assert!(text.contains(&format!("\n{workload} nftables@1: ")), "{text}");
        assert!(text.ends_with(" and 7.000 to 8.000\n"), "{text}");
    }
}
