// SPDX-License-Identifier: Apache-2.0
//! A table of legacy iptables as the kernel hands it out: one block of rules, in which chains are
//! headers and jumps are offsets. Cuts kube-proxy's chains out of it. Pure.
//!
//! Layout: `struct ipt_entry` and `ip6t_entry` of the kernel's `linux/netfilter_ipv4/ip_tables.h` and
//! `linux/netfilter_ipv6/ip6_tables.h`. Rules that stay keep their bytes, except for offsets.

use std::collections::BTreeMap;

use thiserror::Error;

use super::names::{self, Cut, Fate, Jump};

/// Number of places at which netfilter calls a table.
pub const HOOKS: usize = 5;
/// `struct xt_entry_target` without its data: size, name, revision.
const TARGET: usize = 32;
const TARGET_NAME: std::ops::Range<usize> = 2..31;
/// Target of a header: the chain's name is its data.
const HEADER: &[u8] = b"ERROR";

/// Where the members of an entry stand, which depends on the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `target_offset`; `next_offset` follows.
    target_offset: usize,
    /// Size of an entry without matches and target.
    entry: usize,
}

/// IPv4.
pub const V4: Layout = Layout { target_offset: 88, entry: 112 };
/// IPv6.
pub const V6: Layout = Layout { target_offset: 140, entry: 168 };

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Bit for each hook that the table has.
    pub valid_hooks: u32,
    /// Offset of the first rule of each built-in chain.
    pub hook_entry: [u32; HOOKS],
    /// Offset of the policy of each built-in chain, its last rule.
    pub underflow: [u32; HOOKS],
    /// The rules.
    pub entries: Vec<u8>,
}

/// A table without kube-proxy's chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remainder {
    /// What is left.
    pub table: Table,
    /// The number that each entry had before, in order.
    pub kept: Vec<usize>,
    /// Number of chains that are gone.
    pub chains: usize,
    /// Number of rules that are gone from chains of others.
    pub hooks: usize,
    /// Number of those by which packets meet kube-proxy's services.
    pub live: usize,
}

/// The block is not as the kernel's headers describe it; it is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an unexpected {what} at offset {offset}")]
pub struct Malformed {
    /// The member.
    what: &'static str,
    /// Where it stands.
    offset: usize,
}

/// One entry of the block.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    offset: usize,
    len: usize,
    /// The chain that it belongs to, or that it is the header of.
    chain: String,
    built_in: bool,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The header of a chain, or the end of the block.
    Header,
    /// A rule that leads to the entry at this offset; its target's data stands at `at`.
    Jump { to: usize, at: usize },
    /// A rule whose target does not lead anywhere in the block.
    Rule,
}

/// The table without kube-proxy's chains; `None` if it has none.
pub fn cut(layout: Layout, table: &Table) -> Result<Option<Remainder>, Malformed> {
    let entries = parse(layout, table)?;
    let starts = starts(&entries);
    let jumps: Vec<(usize, Jump)> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| !names::is_kube_proxys(&entry.chain))
        .filter_map(|(index, entry)| Some((index, jump(entry, &starts)?)))
        .collect();
    let decided = Cut::new(jumps.iter().map(|(_, jump)| jump));
    let removed = || jumps.iter().filter(|(_, jump)| decided.removes(jump));
    let hooks: Vec<usize> = removed().map(|(index, _)| *index).collect();
    let live = removed().filter(|(_, jump)| names::is_live(jump)).count();
    let goes =
        |entry: &&Entry| entry.kind == Kind::Header && decided.fate(&entry.chain) == Fate::Removed;
    let chains = entries.iter().filter(goes).count();
    if chains == 0 && hooks.is_empty() {
        return Ok(None);
    }
    let stays = |index: usize| {
        let last_of_chain = entries.get(index + 1).is_none_or(|next| next.kind == Kind::Header);
        match decided.fate(&entries[index].chain) {
            Fate::Removed => false,
            // Header and the return at the end are the chain itself.
            Fate::Emptied => entries[index].kind == Kind::Header || last_of_chain,
            Fate::Stays => !hooks.contains(&index),
        }
    };
    let kept: Vec<usize> = (0..entries.len()).filter(|index| stays(*index)).collect();
    let table = rebuild(table, &entries, &kept)?;
    Ok(Some(Remainder { table, kept, chains, hooks: hooks.len(), live }))
}

/// Offset of a chain's first rule → the chain's name.
fn starts(entries: &[Entry]) -> BTreeMap<usize, &str> {
    let headers = entries.iter().filter(|entry| entry.kind == Kind::Header);
    headers.map(|entry| (entry.offset + entry.len, entry.chain.as_str())).collect()
}

fn jump(entry: &Entry, starts: &BTreeMap<usize, &str>) -> Option<Jump> {
    let Kind::Jump { to, .. } = entry.kind else { return None };
    let to = (*starts.get(&to)?).to_owned();
    Some(Jump { from: entry.chain.clone(), built_in: entry.built_in, to })
}

fn parse(layout: Layout, table: &Table) -> Result<Vec<Entry>, Malformed> {
    let mut entries = Vec::new();
    let mut offset = 0;
    let mut chain = (String::new(), true);
    while offset < table.entries.len() {
        let bytes = &table.entries[offset..];
        let bad = |what| Malformed { what, offset };
        let target = half(bytes, layout.target_offset).ok_or(bad("entry"))?;
        let len = half(bytes, layout.target_offset + 2).ok_or(bad("entry"))?;
        if target < layout.entry || len < target + TARGET || len > bytes.len() || len % 8 != 0 {
            return Err(bad("size"));
        }
        let name = text(&bytes[target..][TARGET_NAME]);
        let kind = match name {
            HEADER => Kind::Header,
            b"" => {
                let verdict = word(bytes, target + TARGET).filter(|_| len >= target + TARGET + 4);
                match verdict.ok_or(bad("verdict"))?.cast_signed() {
                    ..0 => Kind::Rule,
                    to => Kind::Jump { to: to as usize, at: target + TARGET },
                }
            }
            _ => Kind::Rule,
        };
        if let Some(hook) = built_in_at(table, offset) {
            chain = (format!("built-in {hook}"), true);
        } else if kind == Kind::Header {
            let name = text(&bytes[target + TARGET..len]);
            chain = (String::from_utf8_lossy(name).into_owned(), false);
        }
        let (chain, built_in) = chain.clone();
        entries.push(Entry { offset, len, chain, built_in, kind });
        offset += len;
    }
    Ok(entries)
}

fn built_in_at(table: &Table, offset: usize) -> Option<usize> {
    (0..HOOKS).find(|hook| {
        table.valid_hooks & 1 << hook != 0 && table.hook_entry[*hook] as usize == offset
    })
}

/// The block of the entries that stay, with offsets put right.
fn rebuild(table: &Table, entries: &[Entry], kept: &[usize]) -> Result<Table, Malformed> {
    // Old offset → new; an entry that goes has the new offset of the next that stays.
    let mut moved = BTreeMap::new();
    let mut stays = kept.iter().copied().peekable();
    let mut end = 0;
    for (index, entry) in entries.iter().enumerate() {
        moved.insert(entry.offset, end);
        if stays.next_if_eq(&index).is_some() {
            end += entry.len;
        }
    }
    let mut bytes = Vec::with_capacity(end);
    for entry in kept.iter().map(|index| &entries[*index]) {
        let start = bytes.len();
        bytes.extend_from_slice(&table.entries[entry.offset..entry.offset + entry.len]);
        if let Kind::Jump { to, at } = entry.kind {
            let to = match to == entry.offset + entry.len {
                // A rule without target goes on with the next one.
                true => start + entry.len,
                false => *moved.get(&to).ok_or(Malformed { what: "jump", offset: entry.offset })?,
            };
            bytes[start + at..start + at + 4].copy_from_slice(&(to as u32).to_ne_bytes());
        }
    }
    let mut result = Table { entries: bytes, ..*table };
    for hook in (0..HOOKS).filter(|hook| table.valid_hooks & 1 << hook != 0) {
        for offset in [&mut result.hook_entry[hook], &mut result.underflow[hook]] {
            let old = *offset as usize;
            let new = moved.get(&old).ok_or(Malformed { what: "hook", offset: old })?;
            *offset = *new as u32;
        }
    }
    Ok(result)
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?;
    Some(usize::from(u16::from_ne_bytes([bytes[0], bytes[1]])))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: i32 = -5;
    const ACCEPT: i32 = -2;

    /// Builds a table from lines such as `PREROUTING -> KUBE-SERVICES`, to be compared as lines.
    struct Builder {
        layout: Layout,
        bytes: Vec<u8>,
        /// Places of verdicts, and the chains they lead to.
        open: Vec<(usize, &'static str)>,
        starts: BTreeMap<&'static str, u32>,
        table: Table,
    }

    impl Builder {
        fn new(layout: Layout) -> Self {
            let table =
                Table { valid_hooks: 0, hook_entry: [0; 5], underflow: [0; 5], entries: vec![] };
            Self { layout, bytes: vec![], open: vec![], starts: BTreeMap::new(), table }
        }

        /// An entry with `matches` bytes of matches, filled with `mark`.
        fn entry(&mut self, mark: u8, matches: usize, name: &[u8], data: &[u8]) -> usize {
            let start = self.bytes.len();
            let target = self.layout.entry + matches;
            let len = (target + TARGET + data.len()).next_multiple_of(8);
            let mut entry = vec![mark; len];
            entry[self.layout.target_offset..][..2].copy_from_slice(&(target as u16).to_ne_bytes());
            entry[self.layout.target_offset + 2..][..2]
                .copy_from_slice(&(len as u16).to_ne_bytes());
            entry[target..].fill(0);
            entry[target + 2..target + 2 + name.len()].copy_from_slice(name);
            entry[target + TARGET..target + TARGET + data.len()].copy_from_slice(data);
            self.bytes.extend(entry);
            start + target + TARGET
        }

        fn verdict(&mut self, mark: u8, verdict: i32) {
            self.entry(mark, 0, b"", &verdict.to_ne_bytes());
        }

        fn rule(&mut self, mark: u8) {
            self.entry(mark, 40, b"DNAT", &[7; 24]);
        }

        fn jump(&mut self, mark: u8, to: &'static str) {
            let at = self.entry(mark, 8, b"", &[0; 4]);
            self.open.push((at, to));
        }

        fn fall_through(&mut self, mark: u8) {
            let at = self.entry(mark, 16, b"", &[0; 4]);
            let next = self.bytes.len() as u32;
            self.bytes[at..at + 4].copy_from_slice(&next.to_ne_bytes());
        }

        fn built_in(&mut self, hook: usize, rules: impl FnOnce(&mut Self)) {
            self.table.valid_hooks |= 1 << hook;
            self.table.hook_entry[hook] = self.bytes.len() as u32;
            rules(self);
            self.table.underflow[hook] = self.bytes.len() as u32;
            self.verdict(0xee, ACCEPT);
        }

        fn chain(&mut self, name: &'static str, rules: impl FnOnce(&mut Self)) {
            let mut data = name.as_bytes().to_vec();
            data.resize(30, 0);
            self.entry(0, 0, b"ERROR", &data);
            self.starts.insert(name, self.bytes.len() as u32);
            rules(self);
            self.verdict(0xdd, RETURN);
        }

        fn finish(mut self) -> Table {
            let mut data = b"ERROR".to_vec();
            data.resize(30, 0);
            self.entry(0, 0, b"ERROR", &data);
            for (at, to) in self.open {
                self.bytes[at..at + 4].copy_from_slice(&self.starts[to].to_ne_bytes());
            }
            Table { entries: self.bytes, ..self.table }
        }
    }

    fn before(layout: Layout) -> Table {
        let mut table = Builder::new(layout);
        table.built_in(0, |chain| {
            chain.jump(1, "KUBE-SERVICES");
            chain.rule(2);
            chain.jump(3, "MINE");
        });
        table.built_in(4, |chain| {
            chain.jump(4, "MINE");
            chain.jump(5, "KUBE-POSTROUTING");
        });
        table.chain("KUBE-POSTROUTING", |chain| chain.rule(6));
        table.chain("KUBE-SERVICES", |chain| chain.jump(7, "KUBE-SVC-A"));
        table.chain("KUBE-SVC-A", |chain| {
            chain.fall_through(8);
            chain.rule(9);
        });
        table.chain("MINE", |chain| {
            chain.fall_through(10);
            chain.rule(11);
            chain.jump(12, "KUBE-FIREWALL");
        });
        table.chain("KUBE-FIREWALL", |chain| chain.rule(13));
        table.finish()
    }

    fn after(layout: Layout) -> Table {
        let mut table = Builder::new(layout);
        table.built_in(0, |chain| {
            chain.rule(2);
            chain.jump(3, "MINE");
        });
        table.built_in(4, |chain| chain.jump(4, "MINE"));
        table.chain("MINE", |chain| {
            chain.fall_through(10);
            chain.rule(11);
            chain.jump(12, "KUBE-FIREWALL");
        });
        table.chain("KUBE-FIREWALL", |chain| chain.rule(13));
        table.finish()
    }

    #[test]
    fn kube_proxys_chains_go_and_every_offset_is_right() {
        for layout in [V4, V6] {
            let remainder = cut(layout, &before(layout)).unwrap().unwrap();
            assert_eq!(remainder.table, after(layout));
            assert_eq!((remainder.chains, remainder.hooks, remainder.live), (3, 2, 1));
            // Entries are numbered in the order they stand in.
            let kept = [1, 2, 3, 4, 6, 17, 18, 19, 20, 21, 22, 23, 24, 25];
            assert_eq!(remainder.kept, kept);
            let again = cut(layout, &remainder.table).unwrap();
            assert_eq!(again, None, "nothing is left to go");
        }
    }

    #[test]
    fn a_chain_that_a_foreign_chain_leads_to_stays_without_rules() {
        let mut table = Builder::new(V4);
        table.built_in(2, |chain| chain.jump(1, "MINE"));
        table.chain("KUBE-FORWARD", |chain| {
            chain.jump(2, "KUBE-MARK-MASQ");
            chain.rule(3);
        });
        table.chain("KUBE-MARK-MASQ", |chain| chain.rule(4));
        table.chain("MINE", |chain| chain.jump(5, "KUBE-FORWARD"));
        let remainder = cut(V4, &table.finish()).unwrap().unwrap();

        let mut expected = Builder::new(V4);
        expected.built_in(2, |chain| chain.jump(1, "MINE"));
        expected.chain("KUBE-FORWARD", |_| {});
        expected.chain("MINE", |chain| chain.jump(5, "KUBE-FORWARD"));
        assert_eq!(remainder.table, expected.finish());
    }

    #[test]
    fn a_table_without_kube_proxys_chains_is_left_alone() {
        assert_eq!(cut(V6, &after(V6)), Ok(None));
    }

    #[test]
    fn a_malformed_block_is_refused() {
        let mut table = before(V4);
        table.entries.truncate(200);
        assert!(cut(V4, &table).is_err());
        let mut table = before(V4);
        table.entries[V4.target_offset + 2..][..2].copy_from_slice(&[0, 0]);
        assert!(cut(V4, &table).is_err());
        let mut table = before(V4);
        table.hook_entry[0] += 8;
        assert!(cut(V4, &table).is_err());
    }
}
