// SPDX-License-Identifier: Apache-2.0
//! `pintle counters`: totals since the programs were loaded, by reason and hook.

use pintle_abi::counter::Hook;

use super::{
    Outcome,
    env::Env,
    output::{Cell, Column, Row, print},
};
use crate::datapath::entry::{Counted, CounterEntry, Place};

/// The hooks, and where sockets dial.
const PLACES: usize = Hook::ALL.len() + 1;

/// A reason with its count at every place.
#[derive(Clone, Debug)]
pub struct CounterRow {
    kind: &'static str,
    reason: String,
    heading: bool,
    /// By place, in the order of [`Place::all`].
    counts: [u64; PLACES],
}

impl Row for CounterRow {
    const COLUMNS: &'static [Column] = &[
        Column::left("REASON", "reason"),
        Column::left("KIND", "kind").wide(),
        Column::right("FROM_POD", "from_pod"),
        Column::right("TO_POD", "to_pod"),
        Column::right("FROM_NET", "from_net"),
        Column::right("TO_NET", "to_net"),
        Column::right("XDP", "xdp"),
        Column::right("CONNECT", "connect"),
    ];

    fn cells(&self) -> Vec<Cell> {
        let reason = match self.kind {
            "drop" if !self.heading => Cell::Part(self.reason.clone()),
            _ => Cell::text(&self.reason),
        };
        let counts = self.counts.iter().map(|count| Cell::Number(*count));
        [reason, Cell::text(self.kind)].into_iter().chain(counts).collect()
    }

    fn name(&self) -> String {
        self.reason.clone()
    }
}

/// Prints the counters.
pub fn run(env: &mut Env<'_>) -> anyhow::Result<Outcome> {
    let counters = (env.maps)()?.counters()?;
    print(&rows(&counters), &env.style, env.out)?;
    Ok(Outcome::Good)
}

fn rows(counters: &[CounterEntry]) -> Vec<CounterRow> {
    let places: Vec<Place> = Place::all().collect();
    let sum = |place: usize, wanted: &dyn Fn(Counted) -> bool| {
        let cells = counters.iter().filter(|c| c.place == places[place] && wanted(c.counted));
        cells.map(|counter| counter.value).sum()
    };
    let row = |kind, reason: String, heading, wanted: &dyn Fn(Counted) -> bool| CounterRow {
        kind,
        reason,
        heading,
        counts: std::array::from_fn(|index| sum(index, wanted)),
    };
    let one = |kind, counted: Counted| {
        row(kind, counted.to_string(), false, &move |other| other == counted)
    };
    let (drops, events): (Vec<Counted>, Vec<Counted>) =
        Counted::all().partition(|counted| matches!(counted, Counted::Drop(_)));
    let mut rows: Vec<CounterRow> = events.into_iter().map(|event| one("event", event)).collect();
    let is_drop = |counted| matches!(counted, Counted::Drop(_));
    rows.push(row("drop", "dropped".into(), true, &is_drop));
    rows.extend(drops.into_iter().map(|reason| one("drop", reason)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_column_for_every_place() {
        let titles: Vec<String> =
            CounterRow::COLUMNS[2..].iter().map(|column| column.key.to_owned()).collect();
        let places: Vec<&str> = Place::all().map(Place::as_str).collect();
        assert_eq!(titles, places);
    }
}
