// SPDX-License-Identifier: Apache-2.0
//! `pintle get maps`.

use crate::{
    cli::{
        env::Env,
        output::{Cell, Column, Row, print},
    },
    datapath::entry::MapFill,
};

impl Row for MapFill {
    const COLUMNS: &'static [Column] = &[
        Column::left("NAME", "name"),
        Column::right("ENTRIES", "entries"),
        Column::right("CAPACITY", "capacity"),
        Column::right("FULL", "full_percent"),
        Column::right("BYTES", "bytes"),
    ];

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::text(self.name),
            self.entries.map_or(Cell::None, Cell::Number),
            Cell::Number(self.capacity),
            self.entries.map_or(Cell::None, |entries| Cell::Percent(entries, self.capacity)),
            self.bytes.map_or(Cell::Unknown, Cell::Bytes),
        ]
    }

    fn name(&self) -> String {
        self.name.into()
    }
}

/// Prints the fill levels.
pub fn run(env: &mut Env<'_>) -> anyhow::Result<()> {
    let rows = (env.maps)()?.fill(|_| true)?;
    Ok(print(&rows, &env.style, env.out)?)
}
