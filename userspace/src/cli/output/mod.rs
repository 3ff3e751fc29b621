// SPDX-License-Identifier: Apache-2.0
//! From rows to text: one list of cells gives the table and the JSON, so a column cannot exist in one
//! only.

use std::io::{self, Write};

use clap::ValueEnum;

pub mod cell;
pub mod hint;
pub mod human;
pub mod json;
pub mod table;

pub use cell::{Cell, Tone};

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// The same with every column.
    Wide,
    /// One JSON document.
    Json,
    /// One JSON object per line.
    Jsonl,
    /// Names only.
    Name,
}

impl Format {
    /// For programs rather than people.
    pub fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl)
    }
}

/// How to print, in detail.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// The format.
    pub format: Format,
    /// With colour.
    pub color: bool,
    /// Tables with their first line.
    pub headers: bool,
    /// Addresses instead of names.
    pub numeric: bool,
}

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
    /// Addresses: the last colons stand below each other.
    Colon,
}

/// A column: its words in a table and in JSON.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Upper-case word of the table.
    pub title: &'static str,
    /// Key in JSON, with its unit.
    pub key: &'static str,
    /// How it is aligned.
    pub align: Align,
    /// Left out of the ordinary table.
    pub wide: bool,
}

impl Column {
    /// A column of text.
    pub const fn left(title: &'static str, key: &'static str) -> Self {
        Self { title, key, align: Align::Left, wide: false }
    }

    /// A column of numbers.
    pub const fn right(title: &'static str, key: &'static str) -> Self {
        Self { title, key, align: Align::Right, wide: false }
    }

    /// A column of addresses.
    pub const fn colon(title: &'static str, key: &'static str) -> Self {
        Self { title, key, align: Align::Colon, wide: false }
    }

    /// The same, left out of the ordinary table.
    pub const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }
}

/// Something that is printed as a line of a table or an object in JSON.
pub trait Row {
    /// The columns.
    const COLUMNS: &'static [Column];
    /// The cells, one per column.
    fn cells(&self) -> Vec<Cell>;
    /// The word that `-o name` prints.
    fn name(&self) -> String;
}

/// Prints a list.
pub fn print<R: Row>(rows: &[R], style: &Style, out: &mut dyn Write) -> io::Result<()> {
    match style.format {
        Format::Table | Format::Wide => table::print(rows, style, out),
        Format::Json => json::print_list(rows, out),
        Format::Jsonl => json::print_lines(rows, out),
        Format::Name => {
            // A service with several frontends is one name.
            let mut names: Vec<String> = rows.iter().map(Row::name).collect();
            names.dedup();
            names.iter().try_for_each(|name| writeln!(out, "{name}"))
        }
    }
}

/// Prints one thing: in JSON an object instead of a list.
pub fn print_one<R: Row>(row: &R, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    match style.format {
        Format::Json => json::print_lines(std::slice::from_ref(row), out),
        _ => print(std::slice::from_ref(row), style, out),
    }
}
