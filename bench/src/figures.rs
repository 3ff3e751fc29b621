// SPDX-License-Identifier: Apache-2.0
//! What a benchmark has measured, as a table or as JSON.

use std::io::{self, Write};

use anyhow::Result;
use serde_json::{Value, json};

use crate::progress::tell;

/// One figure, with its target where it has one: at most so much.
struct Row {
    what: String,
    unit: Unit,
    value: f64,
    target: Option<f64>,
}

/// What a figure is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Mebibytes.
    MiB,
    /// Entries of a table.
    Entries,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "us",
            Unit::MiB => "MiB",
            Unit::Entries => "",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Unit::Entries => format!("{value}"),
            Unit::Milliseconds | Unit::Microseconds | Unit::MiB => {
                format!("{value:.1} {}", self.name())
            }
        }
    }
}

/// The figures so far.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds a figure; what belongs to the one before it is indented by two.
    pub fn add(&mut self, what: impl Into<String>, unit: Unit, value: f64, target: Option<f64>) {
        self.0.push(Row { what: what.into(), unit, value, target });
    }

    /// Adds the median, the 99th percentile, which has the target, and the slowest.
    pub fn quantiles(&mut self, name: &str, micros: &mut [f64], target: Option<f64>) {
        micros.sort_by(f64::total_cmp);
        let at = |part: f64| micros[((micros.len() - 1) as f64 * part).round() as usize];
        self.add(format!("{name}, median"), Unit::Microseconds, at(0.5), None);
        self.add("  p99", Unit::Microseconds, at(0.99), target);
        self.add("  slowest", Unit::Microseconds, at(1.0), None);
    }

    /// Prints all figures.
    pub fn print(&self, as_json: bool) -> Result<()> {
        tell("");
        let mut out = io::stdout().lock();
        if as_json {
            writeln!(out, "{:#}", self.json())?;
            return Ok(());
        }
        writeln!(out, "{:<72}   {:>12}   {:>12}   VERDICT", "WHAT", "VALUE", "TARGET")?;
        for row in &self.0 {
            let value = row.unit.show(row.value);
            let unit = row.unit.name();
            let target = row.target.map_or("-".into(), |target| format!("< {target} {unit}"));
            writeln!(out, "{:<72}   {value:>12}   {target:>12}   {}", row.what, row.verdict())?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "what": row.what.trim(),
                "unit": row.unit.name(),
                "value": row.value,
                "target": row.target,
                "verdict": row.verdict(),
            })
        };
        self.0.iter().map(row).collect()
    }
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.target {
            Some(target) if self.value < target => "met",
            Some(_) => "missed",
            None => "-",
        }
    }
}
