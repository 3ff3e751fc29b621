// SPDX-License-Identifier: Apache-2.0
//! A run as one HTML file with its pictures in it: nothing is loaded from elsewhere.

use std::fmt::Write as _;

use anyhow::Result;

use super::matrix::Matrix;
use super::{plot, table};
use crate::compare::record::{Row, Run};
use crate::compare::workload::Workload;
use crate::statistics::Verdict;

const STYLE: &str = "\
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: .25em .7em; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.faster { color: #1a7a3a; } .slower { color: #a33; } .no-difference, .unknown { color: #666; }
.missed { font-weight: bold; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
code { background: #f3f3f3; padding: .1em .3em; }";

/// The document.
pub fn of(run: &Run) -> Result<String> {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>pintle bench</title><style>{STYLE}</style></head><body>\n<h1>pintle bench</h1>\n"
    );
    let _ = writeln!(out, "<p>{}</p>", escape(&table::explanation(run)));
    let _ = writeln!(out, "<p>Reproduce: <code>{}</code></p>", escape(&run.command));
    out += &matrix(run);
    for workload in run.workloads() {
        section(&mut out, run, workload)?;
    }
    machine(&mut out, run);
    Ok(out + "</body></html>\n")
}

fn matrix(run: &Run) -> String {
    let Matrix { workloads, direct_us, lines } = Matrix::of(run);
    let mut out = String::from("<div class=\"wide\"><table><tr><th>world</th>");
    workloads.iter().for_each(|workload| {
        let _ = write!(out, "<th>{}</th>", workload.name());
    });
    out += "</tr>\n<tr><td>direct, µs</td>";
    direct_us.iter().for_each(|us| {
        let _ = write!(out, "<td>{us:.2}</td>");
    });
    for (world, cells) in lines {
        let _ = write!(out, "</tr>\n<tr><td>{world}</td>");
        for cell in cells {
            let Some(cell) = cell else {
                out += "<td></td>";
                continue;
            };
            let missed = if cell.misses_target { " missed" } else { "" };
            let verdict = class(cell.verdict);
            let _ = write!(out, "<td class=\"{verdict}{missed}\">{}</td>", cell.text);
        }
    }
    out + "</tr></table></div>\n"
}

fn section(out: &mut String, run: &Run, workload: Workload) -> Result<()> {
    let _ = writeln!(out, "<h2>{}</h2>", workload.name());
    *out += &plot::bars(run, workload)?;
    if let Some(lines) = plot::by_services(run, workload)? {
        *out += &lines;
    }
    *out += "<div class=\"wide\"><table><tr><th>world</th><th>ratio</th><th>95 % interval</th>\
             <th>to direct</th><th>target</th><th>median µs</th><th>p99 µs</th>\
             <th>CPU µs</th><th>CPU s</th><th>wall s</th><th>operations</th><th>failed</th></tr>\n";
    for world in &run.worlds {
        if let Some(row) = run.row(workload, &world.name) {
            line(out, row);
        }
    }
    *out += "</table></div>\n";
    Ok(())
}

fn line(out: &mut String, row: &Row) {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let interval = row.estimate.interval95;
    let interval = interval.map_or("-".into(), |[low, high]| format!("{low:.3} to {high:.3}"));
    let target = row.target.map_or(String::new(), |target| format!("≤ {target:.2}"));
    let verdict = row.estimate.verdict();
    let _ = writeln!(
        out,
        "<tr><td>{}</td><td>{:.3}</td><td>{interval}</td><td class=\"{}\">{}</td><td>{target}</td>\
         <td>{:.2}</td><td>{:.1}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{}</td>\
         <td>{}</td></tr>",
        row.world,
        row.estimate.ratio,
        class(verdict),
        verdict.text(),
        row.us(),
        mean(&row.p99_us),
        mean(&row.cpu_us),
        row.cpu_seconds,
        row.wall_seconds,
        row.operations,
        row.failed
    );
}

fn machine(out: &mut String, run: &Run) {
    let machine = &run.machine;
    *out += "<h2>machine</h2>\n<table>\n";
    let facts = [
        ("processor", format!("{} × {}", machine.cpus, machine.processor)),
        ("memory", format!("{} GiB", machine.memory_gib)),
        ("kernel", machine.kernel.clone()),
        ("mitigations", machine.mitigations.join("; ")),
        ("programs", machine.programs.join("; ")),
        ("load at the start", machine.load.to_string()),
        ("Pintle", run.version.clone()),
    ];
    for (name, value) in facts {
        let _ = writeln!(
            out,
            "<tr><td>{name}</td><td style=\"text-align: left; white-space: normal\">{}</td></tr>",
            escape(&value)
        );
    }
    *out += "</table>\n";
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Faster => "faster",
        Verdict::NoDifference => "no-difference",
        Verdict::Slower => "slower",
        Verdict::Unknown => "unknown",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
