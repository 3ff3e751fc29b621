// SPDX-License-Identifier: Apache-2.0
//! Tables for people. Pure.

use std::io::{self, Write};

use super::{Align, Column, Format, Row, Style, Tone};

const GAP: &str = "   ";

/// Widths of a column in display cells; those of an aligned address are kept in two parts.
#[derive(Clone, Copy, Default)]
struct Width {
    whole: usize,
    before: usize,
    after: usize,
}

/// Prints the rows below each other; an empty list is its header only.
pub fn print<R: Row>(rows: &[R], style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let shown = |column: &Column| !column.wide || style.format == Format::Wide;
    let columns: Vec<Column> = R::COLUMNS.iter().copied().filter(shown).collect();
    let header = style.headers.then(|| {
        columns.iter().map(|column| (column.title.to_owned(), Tone::Plain)).collect::<Vec<_>>()
    });
    let body: Vec<Vec<(String, Tone)>> = rows
        .iter()
        .map(|row| {
            let cells = row.cells();
            debug_assert_eq!(cells.len(), R::COLUMNS.len(), "one cell per column");
            let cells = R::COLUMNS.iter().zip(cells).filter(|(column, _)| shown(column));
            cells.map(|(_, cell)| (cell.for_people(), cell.tone())).collect()
        })
        .collect();
    let widths = widths(&columns, header.as_deref(), &body);
    if let Some(header) = header {
        // A header is no address: it begins where its column begins.
        let align =
            |column: &Column| if column.align == Align::Right { Align::Right } else { Align::Left };
        let aligns: Vec<Align> = columns.iter().map(align).collect();
        line(&header, &aligns, &widths, style.color, out)?;
    }
    let aligns: Vec<Align> = columns.iter().map(|column| column.align).collect();
    body.iter().try_for_each(|cells| line(cells, &aligns, &widths, style.color, out))
}

fn widths(
    columns: &[Column],
    header: Option<&[(String, Tone)]>,
    body: &[Vec<(String, Tone)>],
) -> Vec<Width> {
    let mut widths = vec![Width::default(); columns.len()];
    for cells in body {
        for ((width, (text, _)), column) in widths.iter_mut().zip(cells).zip(columns) {
            if column.align == Align::Colon {
                let (before, after) = split(text);
                width.before = width.before.max(cells_of(before));
                width.after = width.after.max(cells_of(after));
            }
            width.whole = width.whole.max(cells_of(text)).max(width.before + width.after);
        }
    }
    for (width, (title, _)) in widths.iter_mut().zip(header.unwrap_or_default()) {
        width.whole = width.whole.max(cells_of(title));
    }
    widths
}

fn line(
    cells: &[(String, Tone)],
    aligns: &[Align],
    widths: &[Width],
    color: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut text = String::new();
    let mut pending = String::new();
    for (((cell, tone), align), width) in cells.iter().zip(aligns).zip(widths) {
        let before = match align {
            Align::Left => 0,
            Align::Right => width.whole - cells_of(cell),
            Align::Colon => width.before - cells_of(split(cell).0),
        };
        // Blanks are written only when something follows, so that no line ends with them.
        text.push_str(&pending);
        text.push_str(&" ".repeat(before));
        text.push_str(&if color { tone.paint(cell) } else { cell.clone() });
        pending = " ".repeat(width.whole - before - cells_of(cell)) + GAP;
    }
    writeln!(out, "{text}")
}

/// An address before and from its last colon.
fn split(text: &str) -> (&str, &str) {
    text.rfind(':').map_or((text, ""), |at| text.split_at(at))
}

/// Display cells. Kubernetes names, numbers and addresses are ASCII.
fn cells_of(text: &str) -> usize {
    text.chars().count()
}
