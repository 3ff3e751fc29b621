// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's objects in nf_tables: its own tables in nftables mode, and its chains in the tables
//! of `iptables-nft`. They go in one transaction; a table of its own has lost its entrances by then.
//! Numbers are those of `linux/netfilter/nf_tables.h`.

use std::{collections::BTreeMap, io};

use super::{
    names::{self, Cut, Fate, Jump},
    netlink::{Message, Netfilter, attribute, attributes, number, text},
};

const SUBSYSTEM: u16 = 10;
const GET_TABLE: u16 = 1;
const DEL_TABLE: u16 = 2;
const GET_CHAIN: u16 = 4;
const DEL_CHAIN: u16 = 5;
const GET_RULE: u16 = 7;
const DEL_RULE: u16 = 8;
const GET_GENERATION: u16 = 16;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const HOOK_NUMBER: u16 = 1;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_DATA: u16 = 2;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CHAIN: u16 = 2;
const GENERATION_ID: u16 = 1;

/// The hook where sources are translated (`NF_INET_POST_ROUTING`).
pub const POSTROUTING: u32 = 4;

const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];
/// How often rules are read again that changed before they were removed.
const ATTEMPTS: u32 = 8;

/// What kube-proxy has in nf_tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    tables: Vec<OwnTable>,
    cuts: Vec<TableCut>,
}

/// A table of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OwnTable {
    family: u8,
    /// Chains by which packets enter it. The one that translates sources is none of them: it does
    /// nothing but finish what those have begun.
    entrances: Vec<String>,
}

/// What goes from one table of `iptables-nft`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TableCut {
    family: u8,
    table: String,
    /// Rules of chains that stay: chain and handle.
    rules: Vec<(String, u64)>,
    /// How many of them lead packets to services.
    live: usize,
    emptied: Vec<String>,
    removed: Vec<String>,
}

impl Found {
    /// Number of tables that are kube-proxy's own.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// Number of chains that go from the tables of `iptables-nft`.
    pub fn chains(&self) -> usize {
        self.cuts.iter().map(|cut| cut.removed.len()).sum()
    }

    /// Number of rules that go from chains of others.
    pub fn hooks(&self) -> usize {
        self.cuts.iter().map(|cut| cut.rules.len()).sum()
    }

    /// Number of those by which packets meet kube-proxy's services.
    pub fn live(&self) -> usize {
        self.cuts.iter().map(|cut| cut.live).sum()
    }

    /// The changes after which no packet enters a table of its own.
    ///
    /// While a table is being removed, its maps find nothing some milliseconds before its rules stop to
    /// match: a packet that no map translates any more meets those that reject what is not translated.
    /// (Traced on Linux 6.18, also with `nft delete table`.) Rules alone go all at once.
    fn closing(&self) -> Vec<Message> {
        let close = |own: &OwnTable| {
            let family = own.family;
            own.entrances.iter().map(move |name| flush(family, names::TABLE, name)).collect()
        };
        self.tables.iter().flat_map::<Vec<_>, _>(close).collect()
    }

    /// The changes that remove everything, each possible once those before it are made.
    fn changes(&self) -> Vec<Message> {
        let mut changes: Vec<Message> =
            self.tables.iter().map(|own| table(DEL_TABLE, own.family, names::TABLE)).collect();
        for cut in &self.cuts {
            let flush = |name: &String| flush(cut.family, &cut.table, name);
            for (name, handle) in &cut.rules {
                changes.push(flush(name).wide(RULE_HANDLE, *handle));
            }
            // A chain can go once no rule leads to it, so all are emptied first.
            let emptied = cut.emptied.iter().chain(&cut.removed);
            changes.extend(emptied.map(flush));
            changes.extend(cut.removed.iter().map(|name| {
                Message::new(SUBSYSTEM, DEL_CHAIN, 0, cut.family)
                    .text(CHAIN_TABLE, &cut.table)
                    .text(CHAIN_NAME, name)
            }));
        }
        changes
    }
}

/// Removes the rules of a chain, or the one whose handle is added.
fn flush(family: u8, table: &str, chain: &str) -> Message {
    Message::new(SUBSYSTEM, DEL_RULE, 0, family).text(RULE_TABLE, table).text(RULE_CHAIN, chain)
}

/// A request about a table.
fn table(kind: u16, family: u8, name: &str) -> Message {
    Message::new(SUBSYSTEM, kind, 0, family).text(TABLE_NAME, name)
}

/// Looks for what kube-proxy has in nf_tables.
pub fn find(netfilter: &mut Netfilter) -> io::Result<Found> {
    let families = tables(netfilter, names::TABLE)?;
    let mut all = chains(netfilter)?;
    let own = |family: u8| {
        let chains = all.remove(&(family, names::TABLE.to_owned())).unwrap_or_default();
        let is_entrance = |hook: Option<u32>| hook.is_some_and(|hook| hook != POSTROUTING);
        let entrances = chains.into_iter().filter(|(_, hook)| is_entrance(*hook));
        OwnTable { family, entrances: entrances.map(|(name, _)| name).collect() }
    };
    let tables = families.into_iter().map(own).collect();
    let mut cuts = Vec::new();
    for ((family, table), chains) in all {
        if chains.keys().any(|chain| names::is_kube_proxys(chain)) {
            cuts.push(cut(netfilter, family, table, &chains)?);
        }
    }
    cuts.retain(|cut| !cut.rules.is_empty() || !cut.removed.is_empty());
    Ok(Found { tables, cuts })
}

/// The families of IP that have a table of this name.
pub fn tables(netfilter: &mut Netfilter, name: &str) -> io::Result<Vec<u8>> {
    let request = Message::new(SUBSYSTEM, GET_TABLE, 0, 0);
    let found = netfilter.dump(&request, |found: &mut Vec<u8>, family, attributes| {
        let table = attribute(attributes, TABLE_NAME).map(text);
        if FAMILIES.contains(&family) && table.as_deref() == Some(name) {
            found.push(family);
        }
    });
    match found {
        // A kernel without nf_tables has no rules in it.
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        found => found,
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT))
}

/// Chains of a table, each with the hook at which the kernel enters it, if it does.
type Chains = BTreeMap<String, Option<u32>>;

/// The tables that kube-proxy may have chains in, and their chains.
fn chains(netfilter: &mut Netfilter) -> io::Result<BTreeMap<(u8, String), Chains>> {
    let request = Message::new(SUBSYSTEM, GET_CHAIN, 0, 0);
    let found = netfilter.dump(&request, |found: &mut BTreeMap<_, Chains>, family, attributes| {
        let named = |kind| attribute(attributes, kind).map(text);
        let (Some(table), Some(chain)) = (named(CHAIN_TABLE), named(CHAIN_NAME)) else { return };
        let is_asked = table == names::TABLE || names::IPTABLES.contains(&table.as_str());
        if FAMILIES.contains(&family) && is_asked {
            let hook = attribute(attributes, CHAIN_HOOK)
                .and_then(|hook| attribute(hook, HOOK_NUMBER))
                .map(|hook| number(hook) as u32);
            found.entry((family, table)).or_default().insert(chain, hook);
        }
    });
    match found {
        Err(error) if is_missing(&error) => Ok(BTreeMap::new()),
        found => found,
    }
}

/// Decides what goes from a table; reads the rules of chains that are not kube-proxy's.
fn cut(
    netfilter: &mut Netfilter,
    family: u8,
    table: String,
    chains: &Chains,
) -> io::Result<TableCut> {
    let mut jumps = Vec::new();
    for (chain, hook) in chains.iter().filter(|(chain, _)| !names::is_kube_proxys(chain)) {
        let request = Message::new(SUBSYSTEM, GET_RULE, 0, family)
            .text(RULE_TABLE, &table)
            .text(RULE_CHAIN, chain);
        jumps.extend(netfilter.dump(&request, |found: &mut Vec<(Jump, u64)>, _, attributes| {
            let Some(handle) = attribute(attributes, RULE_HANDLE).map(number) else { return };
            let expressions = attribute(attributes, RULE_EXPRESSIONS).unwrap_or_default();
            found
                .extend(targets(expressions).map(|to| {
                    (Jump { from: chain.clone(), built_in: hook.is_some(), to }, handle)
                }));
        })?);
    }
    let decided = Cut::new(jumps.iter().map(|(jump, _)| jump));
    let of = |fate: Fate| {
        chains.keys().filter(|chain| decided.fate(chain) == fate).cloned().collect::<Vec<_>>()
    };
    let (emptied, removed) = (of(Fate::Emptied), of(Fate::Removed));
    let removes = |jump: &Jump| decided.removes(jump);
    let live = jumps.iter().filter(|(jump, _)| removes(jump) && names::is_live(jump)).count();
    let rules = jumps.into_iter().filter(|(jump, _)| removes(jump));
    let rules = rules.map(|(jump, handle)| (jump.from, handle)).collect();
    Ok(TableCut { family, table, rules, live, emptied, removed })
}

/// The chains that a rule's expressions lead to.
fn targets(expressions: &[u8]) -> impl Iterator<Item = String> {
    attributes(expressions).filter_map(|(_, expression)| {
        let data = attribute(expression, EXPRESSION_DATA)?;
        let verdict = attribute(attribute(data, IMMEDIATE_DATA)?, DATA_VERDICT)?;
        attribute(verdict, VERDICT_CHAIN).map(text)
    })
}

/// Removes everything of kube-proxy's, and tells what that was.
pub fn remove(netfilter: &mut Netfilter) -> io::Result<Found> {
    if !tables(netfilter, names::TABLE)?.is_empty() {
        transact(netfilter, Found::closing)?;
    }
    transact(netfilter, Found::changes)
}

/// Makes changes to what is found, in one transaction.
fn transact(
    netfilter: &mut Netfilter,
    changes: impl Fn(&Found) -> Vec<Message>,
) -> io::Result<Found> {
    let mut attempt = 1;
    loop {
        let generation = generation(netfilter)?;
        let found = find(netfilter)?;
        match netfilter.transact(changes(&found), generation) {
            Ok(()) => return Ok(found),
            // Somebody else has changed rules since they were read.
            Err(error) if error.raw_os_error() == Some(libc::ERESTART) && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The generation of the rules; `None` without nf_tables.
fn generation(netfilter: &mut Netfilter) -> io::Result<Option<u32>> {
    match netfilter.ask(Message::new(SUBSYSTEM, GET_GENERATION, 0, 0)) {
        Ok(answer) => Ok(attribute(&answer, GENERATION_ID).map(|id| number(id) as u32)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rules_jump_is_found_among_its_expressions() {
        let message = Message::new(SUBSYSTEM, GET_RULE, 0, 2).nested(RULE_EXPRESSIONS, |list| {
            list.nested(1, |match_| match_.text(1, "match").nested(2, |data| data.text(1, "x")))
                .nested(1, |jump| {
                    jump.text(1, "immediate").nested(EXPRESSION_DATA, |data| {
                        data.number(1, 0).nested(IMMEDIATE_DATA, |value| {
                            value.nested(DATA_VERDICT, |verdict| {
                                verdict
                                    .number(1, -3_i32 as u32)
                                    .text(VERDICT_CHAIN, "KUBE-SERVICES")
                            })
                        })
                    })
                })
        });
        let bytes = message.body().to_vec();
        let expressions = attribute(&bytes, RULE_EXPRESSIONS).unwrap();
        assert_eq!(targets(expressions).collect::<Vec<_>>(), ["KUBE-SERVICES"]);
    }

    #[test]
    fn a_table_is_closed_before_it_goes() {
        let entrances = ["filter-output", "nat-output"].map(str::to_owned).to_vec();
        let own = OwnTable { family: 10, entrances };
        let found = Found { tables: vec![own], cuts: Vec::new() };
        let word = |change: &Message, kind| attribute(change.body(), kind).map(text);
        let told = |change| (word(change, RULE_TABLE), word(change, RULE_CHAIN));
        let closing: Vec<_> = found.closing().iter().map(told).collect();
        let table = Some(names::TABLE.to_owned());
        let expected =
            ["filter-output", "nat-output"].map(|chain| (table.clone(), Some(chain.into())));
        assert_eq!(closing, expected);
        assert_eq!(found.changes().len(), 1);
    }

    #[test]
    fn rules_go_before_the_chains_they_lead_to() {
        let found = Found {
            tables: vec![OwnTable { family: 2, entrances: vec!["nat-output".into()] }],
            cuts: vec![TableCut {
                family: 2,
                table: "nat".into(),
                rules: vec![("PREROUTING".into(), 7)],
                live: 1,
                emptied: vec!["KUBE-SERVICES".into()],
                removed: vec!["KUBE-SEP-A".into(), "KUBE-SVC-B".into()],
            }],
        };
        let told: Vec<_> = found
            .changes()
            .iter()
            .map(|change| {
                let body = change.body();
                let word = |kind| attribute(body, kind).map(text).unwrap_or_default();
                let last = match change.kind() & 0xff {
                    DEL_CHAIN => word(CHAIN_NAME),
                    _ => word(RULE_CHAIN),
                };
                let handle =
                    attribute(body, RULE_HANDLE).filter(|_| change.kind() & 0xff == DEL_RULE);
                (change.kind() & 0xff, word(1), last, handle.map(number))
            })
            .collect();
        let change = |kind, table: &str, chain: &str, handle| {
            (kind, table.to_owned(), chain.to_owned(), handle)
        };
        assert_eq!(
            told,
            [
                change(DEL_TABLE, "kube-proxy", "", None),
                change(DEL_RULE, "nat", "PREROUTING", Some(7)),
                change(DEL_RULE, "nat", "KUBE-SERVICES", None),
                change(DEL_RULE, "nat", "KUBE-SEP-A", None),
                change(DEL_RULE, "nat", "KUBE-SVC-B", None),
                change(DEL_CHAIN, "nat", "KUBE-SEP-A", None),
                change(DEL_CHAIN, "nat", "KUBE-SVC-B", None),
            ]
        );
    }
}
