// SPDX-License-Identifier: Apache-2.0
//! What is remembered of the connections that policies allow: names, and how many there were.
//!
//! The programs count by ruleset, class and port class. When policies change, these numbers lose their
//! meaning, and the counts stay.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Mutex,
};

use prometheus_client::metrics::counter::Counter;

use super::lock;
use crate::{datapath::policy_entry::AllowedEntry, policy::AllowedKey, server::policy::Cause};

/// What is remembered of allowed connections, for all who ask.
#[derive(Debug, Default)]
pub struct Allowed {
    /// Names that were known when connections were allowed.
    names: Mutex<HashMap<AllowedKey, Cause>>,
    /// Connections since the agent started.
    pub connections: Counter,
}

impl Allowed {
    /// What allowed connections, as far as that was ever known.
    pub fn name(&self, key: &AllowedKey) -> Option<Cause> {
        lock(&self.names).get(key).cloned()
    }

    /// Remembers names.
    pub fn remember(&self, named: impl IntoIterator<Item = (AllowedKey, Cause)>) {
        lock(&self.names).extend(named);
    }

    /// What has no name yet, of what is counted now. The names of what is not counted are forgotten.
    pub fn unnamed(&self, counted: &[AllowedEntry]) -> Vec<AllowedKey> {
        let mut names = lock(&self.names);
        if names.len() > counted.len() {
            let keys: HashSet<AllowedKey> = counted.iter().map(|entry| entry.key).collect();
            names.retain(|key, _| keys.contains(key));
        }
        let keys = counted.iter().map(|entry| entry.key);
        keys.filter(|key| !names.contains_key(key)).collect()
    }
}

/// What was seen of the counts.
#[derive(Debug)]
pub struct Growth {
    known: HashMap<AllowedKey, u64>,
}

impl Growth {
    /// What was allowed before the agent started is not news.
    pub fn new(entries: &[AllowedEntry]) -> Self {
        Self { known: counts(entries) }
    }

    /// How many connections came since the look before.
    pub fn take(&mut self, entries: &[AllowedEntry]) -> u64 {
        let before = mem::replace(&mut self.known, counts(entries));
        let grown = |entry: &AllowedEntry| {
            let known = before.get(&entry.key).copied().unwrap_or(0);
            // Fewer than before: it was evicted and came back.
            entry.connections.checked_sub(known).unwrap_or(entry.connections)
        };
        entries.iter().map(grown).sum()
    }
}

fn counts(entries: &[AllowedEntry]) -> HashMap<AllowedKey, u64> {
    entries.iter().map(|entry| (entry.key, entry.connections)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ruleset: u32, connections: u64) -> AllowedEntry {
        AllowedEntry { key: AllowedKey { ruleset, class: 0, port_class: 0 }, connections }
    }

    #[test]
    fn what_was_allowed_before_the_agent_started_is_not_news() {
        let mut growth = Growth::new(&[entry(9, 5)]);
        assert_eq!(growth.take(&[entry(9, 8), entry(10, 1)]), 4);
        assert_eq!(growth.take(&[entry(10, 1)]), 0);
        assert_eq!(growth.take(&[entry(9, 2), entry(10, 1)]), 2, "evicted, and come back");
    }

    #[test]
    fn names_stay_as_long_as_the_counts() {
        let allowed = Allowed::default();
        let counted = [entry(9, 1), entry(10, 1)];
        let keys = counted.clone().map(|entry| entry.key);
        assert_eq!(allowed.unnamed(&counted), keys);
        allowed.remember(keys.map(|key| (key, Cause::NoPolicy)));
        assert_eq!(allowed.unnamed(&counted), []);
        assert_eq!(allowed.unnamed(&counted[1..]), []);
        assert_eq!(keys.map(|key| allowed.name(&key)), [None, Some(Cause::NoPolicy)]);
    }
}
