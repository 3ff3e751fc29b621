// SPDX-License-Identifier: Apache-2.0
//! `pintle version`.

use pintle_abi::ABI_VERSION;

use super::{
    Outcome,
    env::Env,
    output::{Cell, Column, Row, print_one},
};

/// Version of the JSON output; keys keep their meaning while it stays the same.
const OUTPUT_VERSION: u64 = 1;

/// The versions of this binary.
#[derive(Debug)]
pub struct VersionRow;

impl Row for VersionRow {
    const COLUMNS: &'static [Column] = &[
        Column::left("VERSION", "version"),
        Column::right("ABI", "abi"),
        Column::right("OUTPUT", "output_version"),
    ];

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::text(env!("CARGO_PKG_VERSION")),
            Cell::Number(ABI_VERSION.into()),
            Cell::Number(OUTPUT_VERSION),
        ]
    }

    fn name(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }
}

/// Prints the versions.
pub fn run(env: &mut Env<'_>) -> anyhow::Result<Outcome> {
    print_one(&VersionRow, &env.style, env.out)?;
    Ok(Outcome::Good)
}
