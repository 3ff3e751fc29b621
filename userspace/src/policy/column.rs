// SPDX-License-Identifier: Apache-2.0
//! Port classes of a ruleset: ports of which the same rules speak.
//!
//! Port class 0 is what no item names: other protocols, what has no ports, other ports.

use std::collections::{BTreeMap, HashMap};

use super::{
    lower::{Content, LoweredPeers, LoweredPorts, LoweredRule},
    table::PortPrefix,
};
use crate::model::{
    addr::Protocol,
    policy::{Action, Enforcement, NamedPort},
};

/// A row has so many bits.
pub(super) const MAX_PORT_CLASSES: usize = 256;

/// The rules that speak of the ports of one class, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Column {
    /// Of Admin, of namespaces, of Baseline.
    pub tiers: [Vec<Entry>; 3],
}

/// A rule of a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Entry {
    /// Its place in the tier.
    pub rule: usize,
    pub when: When,
}

/// Whether a rule speaks of a port whoever the peer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum When {
    Always,
    /// Only if the peer names one of these.
    Named(Vec<NamedPort>),
}

/// The port classes of a ruleset, and which port is in which.
#[derive(Debug)]
pub(super) struct Columns {
    pub columns: Vec<Column>,
    pub ports: Vec<(PortPrefix, u8)>,
}

/// The port classes of a content, or how many there would be.
pub(super) fn columns(content: &Content) -> Result<Columns, usize> {
    let tiers = content.tiers();
    let mut distinct = Distinct::default();
    distinct.number(any_port(tiers));
    // A range of all ports takes the place of what is said of the protocol.
    let mut ports: BTreeMap<PortPrefix, usize> = BTreeMap::new();
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let base = distinct.number(column(tiers, |rule| of_protocol(rule, protocol)));
        if base != 0 {
            ports.insert(PortPrefix { protocol, port: 0, bits: 0 }, base);
        }
        for (first, last, column) in stretches(tiers, protocol) {
            let number = distinct.number(column);
            if number != base {
                let prefixes = prefixes(first, last);
                ports.extend(
                    prefixes.map(|(port, bits)| (PortPrefix { protocol, port, bits }, number)),
                );
            }
        }
    }
    let mut columns = distinct.columns;
    if columns.len() > MAX_PORT_CLASSES {
        let merged = merged(&columns, tiers);
        ports.values_mut().for_each(|number| *number = merged.numbers[*number]);
        columns = merged.columns;
    }
    let count = columns.len();
    let fits = |(prefix, number)| Some((prefix, u8::try_from(number).ok()?));
    let ports: Option<Vec<_>> = ports.into_iter().map(fits).collect();
    match ports {
        Some(ports) if count <= MAX_PORT_CLASSES => Ok(Columns { columns, ports }),
        Some(_) | None => Err(count),
    }
}

#[derive(Default)]
struct Distinct {
    columns: Vec<Column>,
    numbers: HashMap<Column, usize>,
}

impl Distinct {
    fn number(&mut self, column: Column) -> usize {
        let next = self.columns.len();
        let number = *self.numbers.entry(column.clone()).or_insert(next);
        if number == next {
            self.columns.push(column);
        }
        number
    }
}

type Tiers<'a> = [&'a [LoweredRule]; 3];

fn column(tiers: Tiers<'_>, when: impl Fn(&LoweredRule) -> Option<When>) -> Column {
    let entries = |rules: &[LoweredRule]| {
        let entries = rules.iter().enumerate();
        entries.filter_map(|(rule, lowered)| Some(Entry { rule, when: when(lowered)? })).collect()
    };
    Column { tiers: tiers.map(entries) }
}

fn any_port(tiers: Tiers<'_>) -> Column {
    column(tiers, |rule| (rule.ports == LoweredPorts::Any).then_some(When::Always))
}

fn of_protocol(rule: &LoweredRule, protocol: Protocol) -> Option<When> {
    let speaks = match &rule.ports {
        LoweredPorts::Any => true,
        LoweredPorts::Only { protocols, .. } => protocols.contains(&protocol),
    };
    speaks.then_some(When::Always)
}

/// What one item adds at its first port and takes away behind its last one.
#[derive(Default)]
struct Step {
    begins: Vec<Item>,
    ends: Vec<Item>,
}

#[derive(Clone)]
struct Item {
    tier: usize,
    rule: usize,
    named: Option<NamedPort>,
}

/// Ports that some item names, cut where an item begins or ends, each with its rules.
fn stretches(tiers: Tiers<'_>, protocol: Protocol) -> Vec<(u16, u16, Column)> {
    let steps = steps(tiers, protocol);
    let mut speaking: [BTreeMap<usize, Speaking>; 3] = Default::default();
    for (tier, rules) in tiers.into_iter().enumerate() {
        for (rule, lowered) in rules.iter().enumerate() {
            if of_protocol(lowered, protocol).is_some() {
                speaking[tier].entry(rule).or_default().always += 1;
            }
        }
    }
    let mut active = 0_usize;
    let mut found: Vec<(u16, u16, Column)> = Vec::new();
    let mut steps = steps.into_iter().peekable();
    while let Some((at, step)) = steps.next() {
        active = active + step.begins.len() - step.ends.len();
        for item in step.begins {
            speaking[item.tier].entry(item.rule).or_default().begin(item.named);
        }
        for item in step.ends {
            if let Some(rule) = speaking[item.tier].get_mut(&item.rule) {
                rule.end(&item.named);
                if rule.is_silent() {
                    speaking[item.tier].remove(&item.rule);
                }
            }
        }
        let (Some((next, _)), true) = (steps.peek(), active > 0) else { continue };
        let (Ok(first), Ok(last)) = (u16::try_from(at), u16::try_from(next - 1)) else { continue };
        let column = Column { tiers: speaking.each_ref().map(entries) };
        match found.last_mut() {
            Some((_, end, same)) if *end + 1 == first && *same == column => *end = last,
            _ => found.push((first, last, column)),
        }
    }
    found
}

fn entries(rules: &BTreeMap<usize, Speaking>) -> Vec<Entry> {
    rules.iter().map(|(rule, speaking)| Entry { rule: *rule, when: speaking.when() }).collect()
}

fn steps(tiers: Tiers<'_>, protocol: Protocol) -> BTreeMap<u32, Step> {
    let mut steps: BTreeMap<u32, Step> = BTreeMap::new();
    let mut add = |first: u16, last: u16, item: Item| {
        steps.entry(u32::from(first)).or_default().begins.push(item.clone());
        steps.entry(u32::from(last) + 1).or_default().ends.push(item);
    };
    for (tier, rules) in tiers.into_iter().enumerate() {
        for (rule, lowered) in rules.iter().enumerate() {
            let LoweredPorts::Only { ranges, named, .. } = &lowered.ports else { continue };
            for (_, first, last) in ranges.iter().filter(|range| range.0 == protocol) {
                add(*first, *last, Item { tier, rule, named: None });
            }
            for port in named.iter().filter(|port| port.protocol == protocol) {
                add(port.number, port.number, Item { tier, rule, named: Some(port.clone()) });
            }
        }
    }
    steps
}

/// In how many ways a rule speaks of a port.
#[derive(Default)]
struct Speaking {
    always: usize,
    named: Vec<NamedPort>,
}

impl Speaking {
    fn begin(&mut self, named: Option<NamedPort>) {
        match named {
            None => self.always += 1,
            Some(port) => self.named.push(port),
        }
    }

    fn end(&mut self, named: &Option<NamedPort>) {
        match named {
            None => self.always -= 1,
            Some(port) => self.named.retain(|known| known != port),
        }
    }

    fn is_silent(&self) -> bool {
        self.always == 0 && self.named.is_empty()
    }

    fn when(&self) -> When {
        if self.always > 0 {
            return When::Always;
        }
        let mut named = self.named.clone();
        named.sort_unstable();
        When::Named(named)
    }
}

/// The prefixes that make up a range of ports, the lowest first.
fn prefixes(first: u16, last: u16) -> impl Iterator<Item = (u16, u8)> {
    let (mut at, end) = (u32::from(first), u32::from(last) + 1);
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let aligned = at.trailing_zeros().min(16);
        let fitting = (end - at).ilog2();
        let size = aligned.min(fitting);
        let prefix = (u16::try_from(at).ok()?, u8::try_from(16 - size).ok()?);
        at += 1 << size;
        Some(prefix)
    })
}

struct Merged {
    columns: Vec<Column>,
    /// The new number of each old column.
    numbers: Vec<usize>,
}

/// What a rule does in a verdict, whatever policy it is from.
type Effect<'a> = (Action, Enforcement, &'a LoweredPeers, &'a When);

/// Makes one of columns that give the same verdicts, though by other rules.
fn merged(columns: &[Column], tiers: Tiers<'_>) -> Merged {
    let mut numbers_of: HashMap<[Vec<Effect<'_>>; 3], usize> = HashMap::new();
    let mut merged = Merged { columns: Vec::new(), numbers: Vec::new() };
    for column in columns {
        let mut tier = 0;
        let effects = column.tiers.each_ref().map(|entries| {
            let rules = tiers[tier];
            tier += 1;
            let mut effects: Vec<Effect<'_>> = entries
                .iter()
                .map(|entry| {
                    let rule = &rules[entry.rule];
                    (rule.action, rule.enforcement, &rule.peers, &entry.when)
                })
                .collect();
            // Rules of one action in a row may stand in any order; namespaces' rules all have one.
            for run in effects.chunk_by_mut(|a, b| a.0 == b.0) {
                run.sort_unstable();
            }
            effects.dedup();
            effects
        });
        let next = merged.columns.len();
        let number = *numbers_of.entry(effects).or_insert(next);
        if number == next {
            merged.columns.push(column.clone());
        }
        merged.numbers.push(number);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_covered_once_and_whole() {
        let check = |first: u16, last: u16, most: usize| {
            let found: Vec<_> = prefixes(first, last).collect();
            assert!(found.len() <= most, "{first} {last}: {found:?}");
            let mut next = u32::from(first);
            for (port, bits) in found {
                assert_eq!(u32::from(port), next, "{first} {last}");
                assert_eq!(u32::from(port) % (1 << (16 - bits)), 0, "{first} {last}");
                next += 1 << (16 - bits);
            }
            assert_eq!(next, u32::from(last) + 1);
        };
        check(0, u16::MAX, 1);
        check(80, 80, 1);
        check(0, 0, 1);
        check(u16::MAX, u16::MAX, 1);
        check(1, u16::MAX - 1, 30);
        check(1, u16::MAX, 16);
        check(32000, 32768, 30);
    }
}
