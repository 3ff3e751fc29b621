// SPDX-License-Identifier: Apache-2.0
//! Any changes, refused writes, maps that are too small and deaths of the agent: what packets meet
//! after every single write.

use super::{
    fake::FakeTables,
    tables::PolicyMap,
    world::{Node, either_or, never_open, whole},
};
use crate::{
    model::{event::Event, ip::Family},
    policy::tests::generator::Random,
};

/// How many clusters each property is looked at in.
const CLUSTERS: u64 = 5;

const MAPS: [PolicyMap; 7] = [
    PolicyMap::Ports,
    PolicyMap::Rows,
    PolicyMap::Ranges(Family::V4),
    PolicyMap::Ranges(Family::V6),
    PolicyMap::Peers(Family::V4),
    PolicyMap::Peers(Family::V6),
    PolicyMap::Endpoints,
];

/// Takes nodes of some clusters through steps.
fn for_each_step(first_seed: u64, steps: usize, mut step: impl FnMut(&mut Node, &mut Random)) {
    for seed in first_seed..first_seed + CLUSTERS {
        let mut random = Random(seed);
        let events = random.cluster().into_iter().chain([Event::Synced]).collect();
        let mut node = Node::new(events, FakeTables::new());
        for number in 0..steps {
            node.tables().context = format!("seed {seed}, step {number}");
            step(&mut node, &mut random);
        }
    }
}

/// The same, with a change of some object for each step.
fn for_each_change(
    first_seed: u64,
    steps: usize,
    mut step: impl FnMut(&mut Node, &mut Random, Event),
) {
    for_each_step(first_seed, steps, |node, random| {
        let event = random.event();
        node.tables().context += &format!(": {event:?}");
        step(node, random, event);
    });
}

#[test]
fn while_an_object_changes_every_packet_meets_a_verdict_of_before_or_after() {
    for_each_change(0, 15, |node, random, event| {
        node.apply(event, either_or);
        if !random.one_in(3) {
            node.collect();
            node.assert_exact();
        }
    });
}

#[test]
fn an_object_that_changes_while_the_agent_is_away_opens_nothing_and_leaves_no_gap() {
    for_each_change(100, 10, |node, _, event| {
        node.restart(&[event], either_or);
        node.collect();
        node.assert_exact();
    });
}

#[test]
fn an_agent_that_dies_in_the_middle_of_a_change_is_followed_by_one_that_goes_on() {
    for_each_change(500, 10, |node, random, event| {
        node.tables().faults.dies_after = Some(random.below(40));
        node.apply(event, either_or);
        node.restart(&[], either_or);
        node.collect();
        node.assert_exact();
    });
}

#[test]
fn with_failing_writes_nothing_passes_that_neither_before_nor_after_allow() {
    for_each_change(200, 10, |node, random, event| {
        node.tables().faults.percent = random.pick(&[10, 30, 60]);
        if random.one_in(3) {
            let name = random.pick(&MAPS).name();
            node.tables().faults.broken.push(name);
        }
        node.apply(event, never_open);
        node.settle();
        node.tables().faults.broken.clear();
        node.tables().faults.percent = 0;
        node.settle();
        node.collect();
        node.assert_exact();
    });
}

#[test]
fn whatever_happens_no_row_is_missing_and_the_maps_end_as_they_should() {
    for_each_step(300, 20, |node, random| {
        node.tables().faults.percent = random.pick(&[0, 0, 20, 50]);
        if random.one_in(5) {
            node.tables().faults.dies_after = Some(random.below(30));
        }
        for _ in 0..random.below(4) {
            node.apply(random.event(), whole);
        }
        match random.below(4) {
            0 => node.collect(),
            1 => node.settle(),
            2 => node.restart(&[random.event(), random.event()], whole),
            _ => {}
        }
        if random.one_in(4) {
            node.tables().faults.percent = 0;
            node.tables().faults.dies_after = None;
            node.settle();
            node.collect();
            node.assert_exact();
        }
    });
}

#[test]
fn maps_that_are_too_small_open_nothing_and_recover() {
    for_each_change(400, 10, |node, random, event| {
        for map in MAPS {
            let used = node.tables().used(map);
            node.tables().capacities.insert(map, used + random.below(6));
        }
        node.apply(event, never_open);
        node.settle();
        node.collect();
        node.tables().capacities.clear();
        node.settle();
        node.collect();
        node.assert_exact();
    });
}
