// SPDX-License-Identifier: Apache-2.0
//! Generated clusters that change: tables and text agree at every step, and the steps lead to where
//! a planner is that was told everything at once.

use std::{collections::BTreeMap, fmt::Debug, net::IpAddr};

use super::{
    evaluator::{Evaluator, Wanted, Way},
    generator::{OTHER_IPS, POD_IPS, PORT_NUMBERS, Random},
    programs::port_class,
    world::{HERE, UNLIMITED, World},
};
use crate::{
    model::{
        addr::Protocol,
        cidr::Cidr,
        event::Event,
        policy::{Direction, Enforcement},
    },
    policy::{Options, Planner, Reading, RulesetId, Tables},
};

/// How many verdicts are compared at the least.
const VERDICTS: usize = 3_000_000;

fn planner() -> Planner {
    Planner::new(Options {
        node: HERE.into(),
        pod_cidrs: pod_cidrs(),
        enforcement: Enforcement::Enforced,
        room: UNLIMITED,
    })
}

pub(super) fn pod_cidrs() -> Box<[Cidr]> {
    [Cidr::parse("10.0.2.0/25").unwrap()].into()
}

pub(super) fn wanted() -> Vec<Wanted> {
    let mut wanted = vec![Wanted::Portless];
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        wanted.extend(PORT_NUMBERS.map(|port| Wanted::Port(protocol, port)));
    }
    wanted
}

/// Compares all verdicts about this node's pods and returns how many that were.
fn compare(planner: &Planner, tables: &Tables, world: &World, context: &str) -> usize {
    let (cidrs, wanted) = (pod_cidrs(), wanted());
    let ips = POD_IPS.iter().chain(&OTHER_IPS).map(|ip| ip.parse::<IpAddr>().unwrap());
    let parties: Vec<_> = ips.map(|ip| (world.party(ip, &cidrs), tables.class(ip))).collect();
    let mut count = 0;
    for (pod, endpoint) in &tables.endpoints {
        let subject = &world.pods[pod];
        for direction in Direction::ALL {
            for way in [Way::Direct, Way::Hairpin] {
                let ruleset = tables.ruleset(pod, direction, way);
                let ports = tables.port_classes(ruleset);
                let classes: Vec<_> =
                    wanted.iter().map(|wanted| (*wanted, port_class(&ports, *wanted))).collect();
                let peers = parties.iter().filter(|(party, _)| match way {
                    Way::Direct => true,
                    Way::Hairpin => endpoint.ips.contains(&party.ip),
                });
                for (party, class) in peers {
                    for reading in [Reading::Enforced, Reading::Staged] {
                        let evaluator = Evaluator { world, subject, direction, reading };
                        for (wanted, port_class) in &classes {
                            let looked = tables.look(ruleset, *class, *port_class, reading);
                            let expected = evaluator.is_allowed(party, *wanted, way);
                            assert_eq!(
                                looked.is_allowed,
                                expected,
                                "{context}: {pod} {direction:?} {way:?} {reading:?} {party:?} \
                                 {wanted:?} {looked:?} {:?}",
                                planner.explain(ruleset, *class, *port_class, reading),
                            );
                            count += 1;
                        }
                    }
                }
            }
        }
    }
    count
}

/// What enforced policies let through, by pod, direction, peer and port.
type Allowed = BTreeMap<(String, Direction, IpAddr), Vec<bool>>;

fn allowed(tables: &Tables) -> Allowed {
    let mut allowed = Allowed::new();
    for pod in tables.endpoints.keys() {
        for direction in Direction::ALL {
            let ruleset = tables.ruleset(pod, direction, Way::Direct);
            let ports = tables.port_classes(ruleset);
            let classes: Vec<u8> =
                wanted().iter().map(|wanted| port_class(&ports, *wanted)).collect();
            for ip in POD_IPS.iter().chain(&OTHER_IPS).map(|ip| ip.parse().unwrap()) {
                let class = tables.class(ip);
                let verdicts = classes
                    .iter()
                    .map(|port| tables.look(ruleset, class, *port, Reading::Enforced).is_allowed);
                allowed.insert((pod.to_string(), direction, ip), verdicts.collect());
            }
        }
    }
    allowed
}

fn is_narrower(before: &Allowed, after: &Allowed) -> bool {
    after.iter().any(|(key, after)| {
        let before = before.get(key).into_iter().flatten();
        before.zip(after).any(|(before, after)| *before && !*after)
    })
}

/// What passes at some moment passes before or after, too, and what is dropped is dropped then.
fn assert_between(before: &Allowed, after: &Allowed, now: &Allowed, context: &str) {
    for (key, now) in now {
        let (Some(before), Some(after)) = (before.get(key), after.get(key)) else { continue };
        for (port, now) in now.iter().enumerate() {
            assert!(*now == before[port] || *now == after[port], "{context}: {key:?} {port}");
        }
    }
}

fn settled(planner: &mut Planner, tables: &mut Tables) {
    loop {
        let changes = planner.collect();
        if changes.is_empty() {
            return;
        }
        assert!(!changes.narrows, "giving up what is not needed denies nothing");
        assert!(changes.endpoints.is_empty() && changes.gone_endpoints.is_empty());
        tables.write(&changes, Tables::assert_whole);
    }
}

/// Both hold the same; if not, only what differs is shown.
fn same<K: Ord + Debug, V: PartialEq + Debug>(
    one: &BTreeMap<K, V>,
    other: &BTreeMap<K, V>,
    context: &str,
) {
    let lacking = |one: &BTreeMap<K, V>, other: &BTreeMap<K, V>| -> Vec<String> {
        let differing = one.iter().filter(|(key, value)| other.get(key) != Some(value));
        differing.map(|entry| format!("{entry:?}")).collect()
    };
    assert_eq!(lacking(one, other), lacking(other, one), "{context}");
}

/// One cluster and its changes; returns how many verdicts were compared.
fn run(seed: u64, steps: usize) -> usize {
    let mut random = Random(seed);
    let (mut world, mut planner, mut tables) = (World::default(), planner(), Tables::default());
    let mut count = 0;
    for step in 0..steps {
        let context = format!("seed {seed}, step {step}");
        let events: Vec<Event> = match step {
            0 => random.cluster().into_iter().chain([Event::Synced]).collect(),
            _ => (0..1 + random.below(4)).map(|_| random.event()).collect(),
        };
        events.iter().for_each(|event| world.take(event));
        let before = allowed(&tables);
        let changes = planner.apply(events);
        tables.write(&changes, Tables::assert_whole);
        let narrows = changes.narrows;
        assert!(narrows || !is_narrower(&before, &allowed(&tables)), "{context}: the epoch stays");
        assert_eq!(planner.tables(), tables, "{context}");
        count += compare(&planner, &tables, &world, &context);

        // Sometimes nothing is given up for a while, and things come back before that.
        if !random.one_in(3) {
            let before = allowed(&tables);
            settled(&mut planner, &mut tables);
            assert_eq!(allowed(&tables), before, "{context}");
            let mut fresh = self::planner();
            let mut at_once = Tables::default();
            at_once.write(&fresh.apply(world.events()), Tables::assert_whole);
            settled(&mut fresh, &mut at_once);
            assert_eq!(planner.tables(), tables, "{context}");
            same(&tables.ranges, &at_once.ranges, &context);
            same(&tables.peers, &at_once.peers, &context);
            same(&tables.endpoints, &at_once.endpoints, &context);
            same(&tables.ports, &at_once.ports, &context);
            same(&tables.rows, &at_once.rows, &context);
            assert_eq!(planner.policies(), fresh.policies(), "{context}");
        }
    }
    count
}

#[test]
fn tables_and_text_agree_on_millions_of_verdicts() {
    let mut count = 0;
    let mut clusters = 0;
    for seed in 0.. {
        count += run(seed, 8);
        clusters += 1;
        if count >= VERDICTS {
            break;
        }
    }
    assert!(count >= VERDICTS && clusters > 10, "{count} verdicts in {clusters} clusters");
}

#[test]
fn while_one_object_changes_every_packet_meets_a_verdict_of_before_or_after() {
    for seed in 1000..1012 {
        let mut random = Random(seed);
        let (mut planner, mut tables) = (planner(), Tables::default());
        tables.write(&planner.apply(random.cluster().into_iter().chain([Event::Synced])), |_| ());
        for step in 0..15 {
            let event = random.event();
            let context = format!("seed {seed}, step {step}: {event:?}");
            for changes in [planner.apply([event]), planner.collect()] {
                let before = allowed(&tables);
                let mut written = tables.clone();
                written.write(&changes, |_| ());
                let after = allowed(&written);
                tables.write(&changes, |tables| {
                    tables.assert_whole();
                    assert_between(&before, &after, &allowed(tables), &context);
                });
            }
        }
    }
}

#[test]
fn a_cluster_without_policies_is_open() {
    let mut random = Random(1);
    let events = random.cluster().into_iter().filter(|event| match event {
        Event::Apply(object) => !object.object_ref().kind.as_str().contains("Policy"),
        _ => true,
    });
    let mut planner = planner();
    let changes = planner.apply(events.chain([Event::Synced]));
    assert!(!changes.early_endpoints.is_empty() && changes.endpoints.is_empty());
    for (_, endpoint) in &changes.early_endpoints {
        assert_eq!(endpoint.rulesets(), [RulesetId::OPEN; 4]);
    }
    assert!(changes.rows.is_empty() && changes.ports.is_empty());
}
