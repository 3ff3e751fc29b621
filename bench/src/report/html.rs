// SPDX-License-Identifier: Apache-2.0
//! A run as one HTML file with its pictures in it: nothing is loaded from elsewhere.

use std::fmt::Write as _;

use anyhow::Result;

use super::detail::{Detail, HEADS};
use super::matrix::Matrix;
use super::{plot, table};
use crate::compare::record::Run;
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
        let _ = write!(out, "<th>{}</th>", workload.title());
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
    let _ = writeln!(out, "<h2>{}: {}</h2>", workload.name(), workload.title());
    *out += &plot::bars(run, workload)?;
    if let Some(lines) = plot::by_services(run, workload)? {
        *out += &lines;
    }
    *out += "<div class=\"wide\"><table><tr>";
    HEADS.iter().for_each(|head| {
        let _ = write!(out, "<th>{head}</th>");
    });
    *out += "</tr>\n";
    for row in run.worlds.iter().filter_map(|world| run.row(workload, &world.name)) {
        let detail = Detail::of(run, row);
        let _ = write!(out, "<tr class=\"{}\">", class(detail.verdict()));
        detail.cells().iter().for_each(|cell| {
            let _ = write!(out, "<td>{cell}</td>");
        });
        *out += "</tr>\n";
    }
    *out += "</table></div>\n";
    Ok(())
}

fn machine(out: &mut String, run: &Run) {
    *out += "<h2>Machine</h2>\n<table>\n";
    let facts = run.machine.facts().into_iter().chain([("Pintle", run.version.clone())]);
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
