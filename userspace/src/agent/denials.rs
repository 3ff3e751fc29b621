// SPDX-License-Identifier: Apache-2.0
//! Watches what policies deny: the programs count, and once a second what has grown is logged with
//! its names and added to the metrics. What they allow is named and added up on the way.
//!
//! Nothing is logged for each packet. A rule that denies a pod's packets all the time is logged once
//! a minute, and at most [`LOGGED`] lines come in a second; the counts are complete all the same.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use prometheus_client::metrics::{counter::Counter, family::Family};
use tracing::{info, warn};

use super::{
    Shared,
    allowed::{Allowed, Growth},
    lock,
    node_agent::NodeAgent,
    policy_report,
};
use crate::{
    datapath::{pins::Pins, policy_entry::DeniedEntry, policy_view::VerdictMaps},
    model::policy::Direction,
    policy::{DenialKey, Outcome},
    server::policy::{Cause, Denial, NamedDenial},
};

/// How often the counts are read.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a rule that goes on to deny is not logged again.
const QUIET: Duration = Duration::from_secs(60);
/// How many lines are logged in a period.
const LOGGED: usize = 20;

type Labels = [(&'static str, &'static str); 2];

/// Packets by direction and what became of them.
pub type Packets = Family<Labels, Counter>;

/// What is remembered of denials, for all who ask.
#[derive(Debug, Default)]
pub struct Denials {
    /// Names that were known when packets were denied: policies change, and counts stay.
    names: Mutex<HashMap<DenialKey, NamedDenial>>,
    /// Since the agent started.
    pub packets: Packets,
    /// Of what is allowed.
    pub allowed: Allowed,
}

impl Denials {
    /// Nothing yet.
    pub fn new() -> Self {
        let denials = Self::default();
        for direction in Direction::ALL {
            for outcome in Outcome::ALL {
                denials.packets.get_or_create(&labels(direction, outcome)).inc_by(0);
            }
        }
        denials
    }

    /// The names that a denial had.
    pub fn name(&self, key: &DenialKey) -> Option<NamedDenial> {
        lock(&self.names).get(key).cloned()
    }

    /// Remembers names. One of a pod that is not known yet would stay without the pod.
    pub fn remember(&self, named: impl IntoIterator<Item = (DenialKey, NamedDenial)>) {
        let complete = named.into_iter().filter(|(_, named)| named.pod.is_some());
        lock(&self.names).extend(complete);
    }

    /// Forgets the names of what is not counted any more.
    fn retain(&self, counted: &[DeniedEntry]) {
        let mut names = lock(&self.names);
        if names.len() > counted.len() {
            let keys: HashSet<DenialKey> = counted.iter().map(|entry| entry.key).collect();
            names.retain(|key, _| keys.contains(key));
        }
    }
}

fn labels(direction: Direction, outcome: Outcome) -> Labels {
    [("direction", direction.as_str()), ("verdict", outcome.as_str())]
}

/// Watches in a thread that ends when the returned sender is dropped.
pub fn watch(
    pins: &Pins,
    agent: Shared,
    denials: Arc<Denials>,
) -> anyhow::Result<mpsc::Sender<()>> {
    let maps = VerdictMaps::open(pins).context("open the maps of verdicts")?;
    let mut watch = Watch::new(&maps.denied().context("read the map of denials")?);
    let mut growth = Growth::new(&maps.allowed().context("read the map of what is allowed")?);
    let (stop, stopped) = mpsc::channel();
    let run = move || {
        let mut was_readable = true;
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(PERIOD) {
            let is_readable = round(&maps, &mut watch, &agent, &denials)
                .and_then(|()| add_up(&maps, &mut growth, &agent, &denials.allowed));
            if let (Err(error), true) = (&is_readable, was_readable) {
                warn!(%error, "read what policies deny and allow");
            }
            was_readable = is_readable.is_ok();
        }
    };
    std::thread::Builder::new().name("denials".to_owned()).spawn(run).context("start a thread")?;
    Ok(stop)
}

fn round(
    maps: &VerdictMaps,
    watch: &mut Watch,
    agent: &Shared,
    denials: &Denials,
) -> io::Result<()> {
    let entries = maps.denied()?;
    let seen = watch.take(&entries, Instant::now());
    for (key, packets) in &seen.grown {
        denials.packets.get_or_create(&labels(key.direction, key.outcome)).inc_by(*packets);
    }
    let unnamed: Vec<&DeniedEntry> =
        entries.iter().filter(|entry| denials.name(&entry.key).is_none()).collect();
    if !unnamed.is_empty() {
        denials.remember(names(&lock(agent), &unnamed));
    }
    denials.retain(&entries);
    for (entry, packets) in &seen.lines {
        let peer = policy_report::peer(&lock(agent), entry.peer);
        tell(entry, *packets, denials.name(&entry.key), peer);
    }
    if seen.unlogged > 0 {
        info!(
            rules = seen.unlogged,
            "more denials, to be logged later; `pintle get drops` has all"
        );
    }
    Ok(())
}

fn add_up(
    maps: &VerdictMaps,
    growth: &mut Growth,
    agent: &Shared,
    allowed: &Allowed,
) -> io::Result<()> {
    let entries = maps.allowed()?;
    allowed.connections.inc_by(growth.take(&entries));
    let unnamed = allowed.unnamed(&entries);
    if !unnamed.is_empty() {
        let agent = lock(agent);
        let name = |key| Some((key, policy_report::allowed_by(&agent, &key)?));
        allowed.remember(unnamed.into_iter().filter_map(name));
    }
    Ok(())
}

/// The names of denials, as far as they are known now.
fn names(agent: &NodeAgent, entries: &[&DeniedEntry]) -> Vec<(DenialKey, NamedDenial)> {
    let pods = agent.policies.reconciler.bound();
    let name = |entry: &&DeniedEntry| {
        let denial = Denial { key: entry.key, peer: entry.peer };
        Some((entry.key, policy_report::name(agent, &pods, &denial)?))
    };
    entries.iter().filter_map(name).collect()
}

fn tell(entry: &DeniedEntry, packets: u64, named: Option<NamedDenial>, peer: Option<String>) {
    let DeniedEntry { key, peer: ip, port, .. } = entry;
    let cause = named.as_ref().map_or(&Cause::Changed, |named| &named.cause);
    let pod = named.as_ref().and_then(|named| named.pod.as_deref());
    let pod = pod.map_or_else(|| format!("interface {}", key.ifindex), str::to_owned);
    let peer = peer.unwrap_or_else(|| ip.to_string());
    let (direction, proto) = (key.direction.as_str(), entry.protocol());
    let (tier, policy, rule) =
        (cause.tier().unwrap_or("-"), cause.policies().join(","), cause.rule());
    let verdict = key.outcome.as_str();
    info!(pod, direction, peer, proto, port, tier, policy, rule, packets, "{verdict}");
}

/// What was seen of the counts.
#[derive(Debug)]
struct Watch {
    known: HashMap<DenialKey, Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    packets: u64,
    unlogged: u64,
    logged: Option<Instant>,
}

/// What one look has shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// How many packets came since the look before.
    grown: Vec<(DenialKey, u64)>,
    /// What to log, and of how many packets.
    lines: Vec<(DeniedEntry, u64)>,
    /// How many lines are left for later.
    unlogged: usize,
}

impl Watch {
    /// What was denied before the agent started is not news.
    fn new(entries: &[DeniedEntry]) -> Self {
        let known =
            |entry: &DeniedEntry| (entry.key, Known { packets: entry.packets, ..Known::default() });
        Self { known: entries.iter().map(known).collect() }
    }

    fn take(&mut self, entries: &[DeniedEntry], now: Instant) -> Seen {
        let mut before = std::mem::take(&mut self.known);
        let mut seen = Seen::default();
        let mut known = HashMap::with_capacity(entries.len());
        for entry in entries {
            let mut own = before.remove(&entry.key).unwrap_or_default();
            // Fewer than before: it was evicted and came back.
            let grown = entry.packets.checked_sub(own.packets).unwrap_or(entry.packets);
            own.packets = entry.packets;
            if grown > 0 {
                seen.grown.push((entry.key, grown));
                own.unlogged += grown;
            }
            let is_quiet = own.logged.is_some_and(|at| now.duration_since(at) < QUIET);
            if own.unlogged > 0 && !is_quiet {
                if seen.lines.len() < LOGGED {
                    seen.lines.push((entry.clone(), own.unlogged));
                    (own.unlogged, own.logged) = (0, Some(now));
                } else {
                    seen.unlogged += 1;
                }
            }
            known.insert(entry.key, own);
        }
        self.known = known;
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ruleset: u32, packets: u64) -> DeniedEntry {
        let (direction, outcome) = (Direction::Ingress, Outcome::Denied);
        let key = DenialKey { ifindex: 7, ruleset, class: 0, port_class: 0, direction, outcome };
        let peer = "10.0.0.1".parse().unwrap();
        DeniedEntry { key, packets, last_seen_ns: 0, peer, proto: 6, port: 80, hook: None }
    }

    fn logged(seen: &Seen) -> Vec<(u32, u64)> {
        seen.lines.iter().map(|(entry, packets)| (entry.key.ruleset, *packets)).collect()
    }

    #[test]
    fn what_was_denied_before_the_agent_started_is_not_news() {
        let (mut watch, now) = (Watch::new(&[entry(9, 5)]), Instant::now());
        assert_eq!(watch.take(&[entry(9, 5)], now), Seen::default());
        let seen = watch.take(&[entry(9, 8), entry(10, 1)], now);
        assert_eq!(logged(&seen), [(9, 3), (10, 1)]);
        assert_eq!(seen.grown.iter().map(|(_, packets)| packets).sum::<u64>(), 4);
    }

    #[test]
    fn a_rule_that_goes_on_to_deny_is_logged_once_a_minute_and_counted_always() {
        let (mut watch, now) = (Watch::new(&[]), Instant::now());
        assert_eq!(logged(&watch.take(&[entry(9, 1)], now)), [(9, 1)]);
        for second in 1..60 {
            let seen = watch.take(&[entry(9, 1 + second)], now + PERIOD * second as u32);
            assert_eq!((logged(&seen), seen.grown.len()), (vec![], 1));
        }
        assert_eq!(logged(&watch.take(&[entry(9, 60)], now + QUIET)), [(9, 59)]);
    }

    #[test]
    fn a_flood_of_rules_is_logged_bit_by_bit() {
        let (mut watch, now) = (Watch::new(&[]), Instant::now());
        let many: Vec<DeniedEntry> = (0..50).map(|ruleset| entry(ruleset, 1)).collect();
        let lines = [20, 20, 10, 0].map(|_| {
            let seen = watch.take(&many, now);
            (seen.lines.len(), seen.unlogged)
        });
        assert_eq!(lines, [(20, 30), (20, 10), (10, 0), (0, 0)]);
    }

    #[test]
    fn a_count_that_was_evicted_begins_anew() {
        let (mut watch, now) = (Watch::new(&[entry(9, 100)]), Instant::now());
        assert_eq!(watch.take(&[], now), Seen::default());
        assert_eq!(logged(&watch.take(&[entry(9, 2)], now)), [(9, 2)]);
        let seen = watch.take(&[entry(9, 1)], now);
        assert_eq!(seen.grown, [(entry(9, 1).key, 1)]);
    }
}
