// SPDX-License-Identifier: Apache-2.0
//! Manifests in, maps out: every script in `tests/golden`, through the real parser, planner and
//! reconciler, over maps in memory of which every tenth write fails.
//!
//! A script is a list of commands and then named sections. `apply F…` writes files, from the
//! sections of their names; `replace F with S` gives a file the text of another section; `delete
//! F…` removes files; `node-addresses IP…` gives the node its addresses; `options
//! WORD…` starts an agent with other options; `restart` lets the agent die and start again; `expect S` compares the maps,
//! as they are when all retries and the grace period are over, with a section; `expect-empty` wants
//! them empty. We are `node-1`. `UPDATE_GOLDEN=1` writes what was found into the scripts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use pintle_abi::service::{frontend_flags, wildcard_flags};

use crate::{
    model::event::{Batch, Event},
    plan::{
        desired::Changes,
        options::{NodeAddresses, Options, Unallocated, UnknownPort},
        planner::Planner,
    },
    reconcile::{
        fake::FakeTables,
        reconciler::{GRACE, Reconciler},
        tables::Redirect,
    },
    source::text::Texts,
};

const NODE: &str = "node-1";
const FAILURES: u32 = 10;

/// The commands of a script, and its sections in order.
struct Script {
    commands: String,
    sections: Vec<(String, String)>,
}

impl Script {
    fn parse(text: &str) -> Self {
        let mut parts = text.split("\n-- ");
        let commands = parts.next().unwrap_or_default().to_owned();
        let section = |part: &str| {
            let (name, body) = part.split_once(" --\n").expect("-- NAME -- on a line of its own");
            (name.to_owned(), format!("{}\n", body.trim_end_matches('\n')))
        };
        Self { commands, sections: parts.map(section).collect() }
    }

    fn section(&mut self, name: &str) -> &mut String {
        let found = self.sections.iter_mut().find(|(other, _)| other == name);
        &mut found.unwrap_or_else(|| panic!("no section {name}")).1
    }

    fn print(&self) -> String {
        let mut text = format!("{}\n", self.commands.trim_end());
        for (name, body) in &self.sections {
            let _ = write!(text, "\n-- {name} --\n{body}");
        }
        text
    }
}

/// The words of flags of frontends; what happens without backends is told in another way.
const FLAGS: &[(u32, &str)] = &[
    (frontend_flags::SPLIT, "split"),
    (frontend_flags::MASQUERADE_OTHERS, "masquerades others"),
    (frontend_flags::MASQUERADE, "masquerades"),
    (frontend_flags::MASQUERADE_LOCAL, "always"),
    (frontend_flags::SOURCE_RANGES, "ranges"),
];

/// The words of flags of wildcard entries.
const WILDCARDS: &[(u32, &str)] = &[
    (wildcard_flags::CLUSTER, "cluster"),
    (wildcard_flags::LOAD_BALANCER, "balancer"),
    (wildcard_flags::NODE, "node"),
];

fn words(flags: u32, words: &[(u32, &str)]) -> String {
    let set = words.iter().filter(|(flag, _)| flags & flag != 0);
    set.map(|(_, word)| format!("   {word}")).collect()
}

/// An agent without kernel.
struct Node {
    files: Texts,
    /// Everything that was told so far, for the next agent.
    told: Batch,
    planner: Planner,
    reconciler: Reconciler<FakeTables>,
    options: Options,
    addresses: NodeAddresses,
}

fn resolve(_: std::net::IpAddr) -> Option<Redirect> {
    Some(Redirect { ifindex: 7, mtu: 1500 })
}

impl Node {
    fn new() -> Self {
        let mut tables = FakeTables::new();
        tables.faults.percent = FAILURES;
        let mut node = Self {
            files: Texts::default(),
            told: vec![Event::Synced],
            planner: Planner::new(NODE, Options::default()),
            reconciler: Reconciler::new(tables),
            options: Options::default(),
            addresses: NodeAddresses::default(),
        };
        node.planner.apply(node.told.clone());
        node
    }

    fn take_events(&mut self) {
        let batch = self.files.events();
        self.told.splice(self.told.len() - 1..self.told.len() - 1, batch.clone());
        let changes = self.planner.apply(batch);
        self.program(changes);
    }

    /// Another agent starts, with other options.
    fn set_options(&mut self, words: &[&str]) {
        self.options = Options::default();
        for word in words {
            match *word {
                "masquerade-all" => self.options.masquerade_all = true,
                "no-detector" => self.options.has_detector = false,
                "no-external-ips" => self.options.external_ips = false,
                "pass" => {
                    self.options.unknown_port = UnknownPort::Pass;
                    self.options.unallocated = Unallocated::Pass;
                }
                _ => panic!("what is the option '{word}'?"),
            }
        }
        self.restart();
    }

    fn set_addresses(&mut self, ips: &[&str]) {
        let ips: BTreeSet<_> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        self.addresses = NodeAddresses { node_ports: ips.clone(), own: ips };
        let changes = self.planner.set_node_addresses(self.addresses.clone());
        self.program(changes);
    }

    fn program(&mut self, changes: Changes) {
        let now = self.reconciler.tables().now;
        self.reconciler.apply(changes, &resolve, now);
    }

    /// Until nothing is left to be tried or freed.
    fn settle(&mut self) {
        for _ in 0..50 {
            let now = self.reconciler.tables().now;
            self.reconciler.retry(&resolve, now);
            self.reconciler.tables_mut().sleep(GRACE);
            self.reconciler.free_retired(now + GRACE);
        }
        assert_eq!(self.reconciler.errors().count(), 0);
        assert!(self.reconciler.due_error().is_none());
    }

    fn restart(&mut self) {
        let tables = std::mem::replace(self.reconciler.tables_mut(), FakeTables::new());
        let realized = tables.realized();
        self.reconciler = Reconciler::new(tables);
        self.reconciler.adopt(realized);
        self.planner = Planner::new(NODE, self.options.clone());
        self.planner.set_node_addresses(self.addresses.clone());
        let mut changes = self.planner.apply(self.told.clone());
        self.reconciler.complete(&mut changes);
        self.program(changes);
        let now = self.reconciler.tables().now;
        self.reconciler.sweep(now);
    }

    /// The maps, without the numbers that depend on what failed.
    fn dump(&self) -> String {
        let mut text = self.dump_frontends();
        let tables = self.reconciler.tables();
        for (ip, flags) in &tables.marks {
            let _ = writeln!(text, "mark       {ip}{}", words(*flags, WILDCARDS));
        }
        let names = self.names();
        for (service, range) in &tables.source_ranges {
            let _ = writeln!(text, "source     {}   {range}", names[service]);
        }
        for range in tables.cluster_ranges.values() {
            let _ = writeln!(text, "cluster    {range}");
        }
        let mut live: Vec<_> = tables.backends.values().filter(|b| b.addr.is_some()).collect();
        live.sort_by_key(|backend| backend.addr);
        let reached: Vec<_> =
            tables.frontends.keys().filter_map(|addr| tables.reached(addr)).flatten().collect();
        for backend in live {
            let Some(addr) = backend.addr else { continue };
            assert_eq!(backend.local, backend.redirect.is_some());
            let place = if backend.local { "   local" } else { "" };
            let drains = if reached.contains(&addr) { "" } else { "   drains" };
            let _ = writeln!(text, "backend    {addr}{place}{drains}");
        }
        for rejection in self.planner.rejections() {
            let _ = writeln!(text, "rejected   {rejection}");
        }
        text
    }

    /// Names of service ports by number.
    fn names(&self) -> BTreeMap<u32, String> {
        let names = self.reconciler.service_names().names();
        names.map(|(id, name)| (id, name.to_string())).collect()
    }

    fn dump_frontends(&self) -> String {
        let tables = self.reconciler.tables();
        let names = self.names();
        let mut text = String::new();
        for (key, record) in &tables.frontends {
            let name = &names[&record.service];
            let backends = tables.reached(key).unwrap_or_default();
            let _ = write!(text, "frontend   {key}   {name}{}", words(record.flags, FLAGS));
            if record.affinity_seconds > 0 {
                let _ = write!(text, "   affinity {} s", record.affinity_seconds);
            }
            match (backends.is_empty(), record.has(frontend_flags::DROP)) {
                (true, true) => text.push_str("   drops"),
                (true, false) => text.push_str("   refuses"),
                (false, _) => text.push_str("   →"),
            }
            for backend in &backends {
                let _ = write!(text, " {backend}");
            }
            text.push('\n');
        }
        text
    }
}

/// Runs a script; returns it with the dumps that were found.
fn run(name: &str, script: &mut Script) {
    let mut node = Node::new();
    for line in script.commands.clone().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            [comment, ..] if comment.starts_with('#') => {}
            ["apply", ref files @ ..] => {
                files.iter().for_each(|file| node.files.write(file, script.section(file)));
                node.take_events();
            }
            ["replace", file, "with", section] => {
                node.files.write(file, script.section(section));
                node.take_events();
            }
            ["delete", ref files @ ..] => {
                files.iter().for_each(|file| node.files.remove(file));
                node.take_events();
            }
            ["node-addresses", ref ips @ ..] => node.set_addresses(ips),
            ["options", ref words @ ..] => node.set_options(words),
            ["restart"] => node.restart(),
            ["expect", section] => {
                node.settle();
                *script.section(section) = node.dump();
            }
            ["expect-empty"] => {
                node.settle();
                assert_eq!(node.dump(), "", "{name}: not empty at the end");
            }
            _ => panic!("{name}: what is '{line}'?"),
        }
    }
}

fn scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn the_maps_hold_what_the_manifests_say() {
    for path in scripts() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = fs::read_to_string(&path).unwrap();
        let mut script = Script::parse(&expected);
        assert!(script.commands.trim_end().ends_with("expect-empty"), "{name} must end empty");
        run(&name, &mut script);
        let found = script.print();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, found).unwrap();
        } else {
            assert!(found == expected, "{name}: found\n{found}\nUPDATE_GOLDEN=1 accepts this");
        }
    }
}
