// SPDX-License-Identifier: Apache-2.0
//! JSON for programs: keys in the order of the columns, one object per line. Pure.

use std::io::{self, Write};

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::Row;

struct Object<'a, R>(&'a R);

impl<R: Row> Serialize for Object<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(R::COLUMNS.len()))?;
        for (column, cell) in R::COLUMNS.iter().zip(self.0.cells()) {
            map.serialize_entry(column.key, &cell)?;
        }
        map.end()
    }
}

/// Prints an array with one object per line.
pub fn print_list<R: Row>(rows: &[R], out: &mut dyn Write) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "[]");
    }
    for (index, row) in rows.iter().enumerate() {
        out.write_all(if index == 0 { b"[\n  " } else { b",\n  " })?;
        serde_json::to_writer(&mut *out, &Object(row))?;
    }
    writeln!(out, "\n]")
}

/// Prints one object per line.
pub fn print_lines<R: Row>(rows: &[R], out: &mut dyn Write) -> io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut *out, &Object(row))?;
        writeln!(out)?;
    }
    Ok(())
}
