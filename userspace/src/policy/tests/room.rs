// SPDX-License-Identifier: Apache-2.0
//! Tables that are too small: what does not fit in is closed, and nothing is open by accident, not
//! even between two writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    evaluator::{Evaluator, Wanted, Way},
    generator::{OTHER_IPS, POD_IPS, Random},
    programs::port_class,
    properties::{self, pod_cidrs},
    scene::Scene,
    world::{HERE, UNLIMITED, World},
};
use crate::{
    model::{
        event::Event,
        ip::Family,
        name::{Kind, ObjectName},
        policy::{Direction, Enforcement},
    },
    policy::{Options, Planner, Reading, Room, RulesetId, Tables},
};

/// By pod, direction, way, peer and place in the list of what is wanted.
type Passing = BTreeSet<(ObjectName, Direction, bool, IpAddr, usize)>;

/// Some of what can be asked for: every write is looked at, and that many times.
fn wanted() -> impl Iterator<Item = Wanted> {
    properties::wanted().into_iter().step_by(3)
}

fn ips() -> impl Iterator<Item = IpAddr> {
    POD_IPS.iter().chain(&OTHER_IPS).map(|ip| ip.parse().unwrap())
}

/// What the tables let through.
fn passing(tables: &Tables) -> Passing {
    let mut passing = Passing::new();
    for (pod, endpoint) in &tables.endpoints {
        for direction in Direction::ALL {
            for ip in ips() {
                let is_itself = endpoint.ips.contains(&ip);
                let way = if is_itself { Way::Hairpin } else { Way::Direct };
                let ruleset = tables.ruleset(pod, direction, way);
                let (ports, class) = (tables.port_classes(ruleset), tables.class(ip));
                for (place, wanted) in wanted().enumerate() {
                    let port = port_class(&ports, wanted);
                    if tables.look(ruleset, class, port, Reading::Enforced).is_allowed {
                        passing.insert((pod.clone(), direction, is_itself, ip, place));
                    }
                }
            }
        }
    }
    passing
}

fn is_allowed(world: &World, key: &(ObjectName, Direction, bool, IpAddr, usize)) -> bool {
    let (pod, direction, is_itself, ip, place) = key;
    let Some(subject) = world.pods.get(pod) else { return false };
    let evaluator = Evaluator { world, subject, direction: *direction, reading: Reading::Enforced };
    let way = if *is_itself { Way::Hairpin } else { Way::Direct };
    let wanted = wanted().nth(*place).unwrap();
    evaluator.is_allowed(&world.party(*ip, &pod_cidrs()), wanted, way)
}

fn assert_fits(tables: &Tables, room: Room, context: &str) {
    let of = |family, ips: &mut dyn Iterator<Item = IpAddr>| {
        ips.filter(|ip| Family::of(*ip) == family).count()
    };
    assert!(tables.ports.len() <= room.ports, "{context}: {} ports", tables.ports.len());
    assert!(tables.rows.len() <= room.rows, "{context}: {} rows", tables.rows.len());
    for family in Family::ALL {
        let peers = of(family, &mut tables.peers.keys().copied());
        let ranges = of(family, &mut tables.ranges.keys().map(|cidr| cidr.address()));
        assert!(peers <= room.peers, "{context}: {peers} peers");
        assert!(ranges <= room.ranges, "{context}: {ranges} ranges");
    }
}

/// How much was seen, so that the test can tell that it has seen something.
#[derive(Debug, Default)]
struct Seen {
    passing: usize,
    closed: usize,
    hidden: usize,
}

/// One cluster that changes in tables of a size.
fn run(seed: u64, room: Room, seen: &mut Seen) {
    let mut random = Random(seed);
    let (mut world, mut tables) = (World::default(), Tables::default());
    let enforcement = Enforcement::Enforced;
    let mut planner =
        Planner::new(Options { node: HERE.into(), pod_cidrs: pod_cidrs(), enforcement, room });
    for step in 0..12 {
        let context = format!("seed {seed}, step {step}, {room:?}");
        let events = match step {
            0 => random.cluster().into_iter().chain([Event::Synced]).collect(),
            _ => vec![random.event()],
        };
        let old = world.clone();
        events.iter().for_each(|event| world.take(event));
        let mut changes = planner.apply(events);
        let mut calls = 0;
        loop {
            tables.write(&changes, |tables| {
                tables.assert_whole();
                assert_fits(tables, room, &context);
                let now = passing(tables);
                let open =
                    now.iter().find(|key| !is_allowed(&world, key) && !is_allowed(&old, key));
                assert_eq!(open, None, "{context}: while it changes");
            });
            assert_eq!(planner.tables(), tables, "{context}");
            let after = passing(&tables);
            let open = after.iter().find(|key| !is_allowed(&world, key));
            assert_eq!(open, None, "{context}");
            seen.passing += after.len();
            let endpoints = tables.endpoints.values();
            let closed = endpoints.filter(|one| one.rulesets().contains(&RulesetId::CLOSED));
            seen.closed += closed.count();
            seen.hidden += planner.unplaced().count();
            changes = planner.collect();
            calls += 1;
            assert!(calls < 50, "{context}: it never ends");
            if changes.is_empty() {
                break;
            }
        }
        let sizes = planner.sizes();
        assert_eq!(sizes.rows, tables.rows.len(), "{context}");
        assert_eq!(sizes.peers, tables.peers.len(), "{context}");
    }
}

#[test]
fn tables_that_are_too_small_are_never_open_by_accident() {
    let mut seen = Seen::default();
    for seed in 0..12 {
        let mut random = Random(seed ^ 0xfeed);
        let mut most = |ample: usize| random.pick(&[usize::MAX / 2, ample, ample / 2, ample / 4]);
        let room = Room { ports: most(40), rows: most(80), ranges: most(20), peers: most(8) };
        run(seed, room, &mut seen);
    }
    assert!(seen.passing > 10_000 && seen.closed > 100 && seen.hidden > 100, "{seen:?}");
}

#[test]
fn room_that_is_just_enough_closes_nothing() {
    let mut seen = Seen::default();
    run(3, UNLIMITED, &mut seen);
    assert_eq!((seen.closed, seen.hidden), (0, 0));
}

fn settle(scene: &mut Scene) {
    while let changes = scene.planner.collect()
        && !changes.is_empty()
    {
        scene.tables.write(&changes, Tables::assert_whole);
    }
}

fn ruleset(scene: &Scene, pod: &str) -> RulesetId {
    let endpoints: BTreeMap<&str, _> =
        scene.tables.endpoints.iter().map(|(name, one)| (name.as_str(), one)).collect();
    endpoints[pod].ingress
}

#[test]
fn a_ruleset_whose_ranges_do_not_fit_in_is_closed_until_they_do() {
    // The nodes' ranges of pods take two of IPv4, and one is kept.
    let mut scene = Scene::with_room(Room { ranges: 5, ..UNLIMITED });
    let from = |cidr: &str| format!("ingress: [{{from: [{{ipBlock: {{cidr: {cidr}}}}}]}}]");
    scene.network("x/p", &from("192.0.2.0/24"));
    scene.network("y/p", &from("198.51.100.0/24"));
    assert_eq!(scene.planner.problems(), []);
    let before = ruleset(&scene, "x/a");
    scene.network("y/q", &from("203.0.113.0/24"));
    assert_eq!(ruleset(&scene, "y/a"), RulesetId::CLOSED);
    assert_eq!(ruleset(&scene, "x/a"), before);
    let problem = scene.planner.problems()[0].to_string();
    assert!(
        problem.contains("5 ranges of addresses would be needed, there is room for 5"),
        "{problem}"
    );
    scene.delete(Kind::NetworkPolicy, "x/p");
    settle(&mut scene);
    assert_eq!(scene.planner.problems(), []);
    scene.expect("203.0.113.1 > y/a tcp/80\n 192.0.2.1 > y/a !tcp/80");
}

#[test]
fn a_ruleset_is_closed_when_classes_come_that_it_has_no_room_for() {
    // Pods, other addresses for pods and those of others; then pods of `a` are a class of their own.
    let mut scene = Scene::with_room(Room { rows: 4, ..UNLIMITED });
    scene.network("x/p", "podSelector: {}");
    scene.network("y/p", "podSelector: {}");
    let (first, second) = (ruleset(&scene, "x/a"), ruleset(&scene, "y/a"));
    assert!(first != RulesetId::CLOSED && second != RulesetId::CLOSED);
    let changes = scene.cluster(
        "guard",
        "Baseline 1",
        "ingress: [{action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: \
         {matchLabels: {app: a}}}}]}]",
    );
    assert!(changes.narrows && !changes.early_endpoints.is_empty());
    let closed = ["x/a", "x/b", "y/a", "y/b"].map(|pod| ruleset(&scene, pod) == RulesetId::CLOSED);
    assert!(closed.contains(&true), "{closed:?}");
    scene.delete(Kind::ClusterNetworkPolicy, "guard");
    settle(&mut scene);
    assert_eq!(scene.planner.problems(), []);
    assert_eq!((ruleset(&scene, "x/a"), ruleset(&scene, "y/a")), (first, second));
}

#[test]
fn a_pod_without_an_entry_is_kept_out_by_what_may_be_meant_for_it() {
    // Five pods and two nodes have IPv4 addresses.
    let mut scene = Scene::with_room(Room { peers: 7, ..UNLIMITED });
    let deny = |app: &str| {
        format!(
            "ingress: [{{action: Deny, from: [{{pods: {{namespaceSelector: {{}}, podSelector: \
             {{matchLabels: {{app: {app}}}}}}}}}]}}]"
        )
    };
    scene.cluster("guard", "Admin 1", &deny("evil"));
    assert_eq!(scene.planner.unplaced().count(), 0);
    scene.expect("far/a > x/a tcp/80");
    scene.pod("far/e", "app: evil", "10.0.2.66", "ports: []", "");
    let hidden: IpAddr = "10.0.2.66".parse().unwrap();
    assert_eq!(scene.planner.unplaced().collect::<Vec<_>>(), [hidden]);
    let class = scene.tables.class(hidden);
    assert!(!scene.tables.rows.iter().any(|((_, of), row)| *of == class && row.allow[0] & 1 == 1));
    scene.expect("far/a > x/a tcp/80");
    // With the next address that becomes free it has its place.
    scene.delete(Kind::Pod, "far/a");
    settle(&mut scene);
    assert_eq!(scene.planner.unplaced().count(), 0);
    scene.expect("far/e > x/a !tcp/80\n far/e > y/a tcp/80");
}
