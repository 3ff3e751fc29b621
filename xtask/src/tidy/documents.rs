// SPDX-License-Identifier: Apache-2.0
//! ARCHITECTURE.md names every map, drop reason and counter that the ABI declares.

use super::File;
use pintle_abi::counter::Counter;
use pintle_abi::drop_reason::DropReason;
use pintle_abi::map;

/// What ARCHITECTURE.md does not mention.
pub fn check(file: &File) -> Vec<String> {
    let maps = map::ALL.iter().filter(|map| !in_table(&file.text, map.name));
    let maps = maps.map(|map| format!("no table row for the map {}", map.name));
    let reasons = DropReason::ALL.iter().map(|reason| ("drop reason", reason.as_str()));
    let counters = Counter::ALL.iter().map(|counter| ("counter", counter.as_str()));
    let words = reasons.chain(counters).filter(|(_, text)| !file.text.contains(text));
    let words = words.map(|(kind, text)| format!("does not mention the {kind} \"{text}\""));
    maps.chain(words).map(|what| format!("{}: {what}", file.path)).collect()
}

/// Whether a row of some table has the name as a word.
fn in_table(text: &str, name: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let rows = text.lines().filter(|line| line.trim_start().starts_with('|'));
    rows.flat_map(|row| row.split(|letter| !is_part(letter))).any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_document_misses_everything() {
        let file = File { path: "ARCHITECTURE.md".into(), text: String::new() };
        let expected = map::ALL.len() + DropReason::ALL.len() + Counter::ALL.len();
        assert_eq!(check(&file).len(), expected);
    }

    #[test]
    fn a_map_counts_only_in_a_table() {
        assert!(in_table("| `DEVICES` | ifindex |", "DEVICES"));
        assert!(!in_table("DEVICES is a map", "DEVICES"));
        assert!(!in_table("| MY_DEVICES |", "DEVICES"));
    }
}
