// SPDX-License-Identifier: Apache-2.0
//! Frontends of two scopes, flags of addresses, source ranges and the cluster's ranges.

use super::*;

/// Both frontends of an address; the second is for clients outside the cluster.
fn split(index: u8) -> [(FrontendKey, DesiredFrontend); 2] {
    let key = frontend(index);
    let mut inside = desired(&key, &[1, 2], &[]);
    inside.is_split = true;
    [(key, inside), (FrontendKey::external(key.addr), desired(&key, &[1], &[2]))]
}

#[test]
fn the_frontend_for_outsiders_is_there_while_the_other_says_so() {
    let mut world = world();
    let [(inside, both), (outside, local)] = split(0);
    // The fake looks at every write; here each dies in turn.
    for after in 0..12 {
        world.tables().faults.dies_after = Some(after);
        world.desired = [(inside, both.clone()), (outside, local.clone())].into();
        world.apply(world.all());
        world.settle();
        world.assert_exact();
        world.tables().faults.dies_after = Some(after);
        world.put(0, &[1, 2]);
        world.set(outside, None);
        world.settle();
        world.assert_exact();
        world.restart();
        world.assert_exact();
        world.set(inside, None);
        world.settle();
        world.assert_empty();
    }
}

#[test]
fn a_frontend_waits_for_the_one_that_it_tells_of() {
    let mut world = world();
    let [(inside, both), (outside, local)] = split(0);
    assert_eq!(world.set(inside, Some(both)).failed, [inside]);
    assert_eq!(message(&world), "waits for the other frontend of the address");
    world.set(outside, Some(local));
    assert_eq!(world.retry().recovered, [inside]);
    assert_eq!(world.set(outside, None).failed, [outside]);
    world.set(inside, None);
    assert_eq!(world.retry().recovered, [outside]);
    world.settle();
    world.assert_empty();
}

/// Generation of backend `index`.
fn generation(world: &mut World, index: u8) -> u32 {
    let addr = backend(&frontend(0), index).addr;
    let found = world.tables().backends.values().find(|backend| backend.addr == Some(addr));
    found.map(|backend| backend.generation).unwrap()
}

/// UDP goes elsewhere at its next packet when the generation moves.
#[test]
fn the_generation_of_a_backend_moves_at_once_when_it_serves_nobody_and_not_before() {
    let key = frontend(0);
    let serves_on: [(&str, Option<DesiredFrontend>); 1] =
        [("it drains", Some(desired(&key, &[1], &[2])))];
    let serves_nobody: [(&str, Option<DesiredFrontend>); 3] = [
        ("it is gone", Some(desired(&key, &[1], &[]))),
        ("no endpoints are left", Some(desired(&key, &[], &[]))),
        ("the service is deleted", None),
    ];
    for (changes, moves) in [(&serves_on[..], false), (&serves_nobody[..], true)] {
        for (what, wanted) in changes {
            let mut world = world();
            world.put(0, &[1, 2]);
            let before = generation(&mut world, 2);
            world.set(key, wanted.clone());
            assert_eq!(generation(&mut world, 2) != before, moves, "{what}");
        }
    }
}

#[test]
fn a_change_of_flags_is_one_write() {
    let mut world = world();
    world.put(0, &[1]);
    let writes = world.tables().faults.writes;
    world.mark("10.96.0.0", wildcard_flags::CLUSTER);
    world.mark("10.96.0.0", wildcard_flags::CLUSTER);
    assert_eq!(world.tables().faults.writes, writes + 1);
    world.assert_exact();
}

#[test]
fn the_node_s_own_addresses_are_marked_without_frontends() {
    let mut world = world();
    world.mark("172.18.0.2", wildcard_flags::NODE);
    world.mark("10.96.0.0", wildcard_flags::CLUSTER | wildcard_flags::NODE);
    world.assert_exact();
    let before = world.tables().faults.writes;
    world.restart();
    world.assert_exact();
    assert_eq!(world.tables().faults.writes, before, "no mark is away for a moment");
    world.put(0, &[1]);
    world.assert_exact();
    world.set(frontend(0), None);
    world.mark("172.18.0.2", 0);
    world.mark("10.96.0.0", 0);
    world.settle();
    world.assert_empty();
}

/// A frontend that only clients in these ranges may use.
fn restricted(key: &FrontendKey, ranges: &[&str]) -> Option<DesiredFrontend> {
    let mut wanted = desired(key, &[1], &[]);
    wanted.source_ranges = Some(ranges.iter().map(|text| cidr(text)).collect());
    Some(wanted)
}

#[test]
fn source_ranges_are_there_before_a_frontend_asks_for_them_and_go_after_it() {
    let mut world = world();
    let (first, second) = (frontend(0), frontend(1));
    for after in 0..10 {
        world.tables().faults.dies_after = Some(after);
        world.set(first, restricted(&first, &["10.0.0.0/8", "192.0.2.0/24"]));
        // Another address of the same service port has the same ranges.
        world.set(second, restricted(&second, &["10.0.0.0/8", "192.0.2.0/24"]));
        world.settle();
        world.assert_exact();
        world.restart();
        world.assert_exact();
        world.tables().faults.dies_after = Some(after);
        world.set(first, restricted(&first, &["10.0.0.0/8", "198.51.100.0/24"]));
        world.set(second, restricted(&second, &["10.0.0.0/8", "198.51.100.0/24"]));
        world.settle();
        world.assert_exact();
        world.tables().faults.dies_after = Some(after);
        world.put(0, &[1]);
        world.set(second, restricted(&second, &[]));
        world.settle();
        world.assert_exact();
        world.set(first, None);
        world.set(second, None);
        world.settle();
        world.assert_empty();
    }
}

#[test]
fn a_program_that_was_told_of_ranges_finds_them() {
    let mut world = world();
    let key = frontend(0);
    world.set(key, restricted(&key, &["10.0.0.0/8"]));
    world.put(0, &[1]);
    world.pass(GRACE - Duration::from_millis(1));
    assert_eq!(world.tables().source_ranges.len(), 1);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.tables().source_ranges.len(), 0);
}

#[test]
fn ranges_that_an_earlier_agent_left_are_removed() {
    let mut world = world();
    world.tables().source_ranges.insert((9, cidr("10.0.0.0/8")));
    world.restart();
    world.assert_empty();
    world.put(0, &[1]);
    assert_eq!(world.tables().frontends[&frontend(0)].service, 10, "its number is not reused");
}

#[test]
fn the_ranges_of_a_frontend_that_cannot_change_stay() {
    let mut world = world();
    world.tables().source_range_capacity = 2;
    let key = frontend(0);
    world.set(key, restricted(&key, &["10.0.0.0/8", "192.0.2.0/24"]));
    let before = world.tables().source_ranges.clone();
    let writes = world.tables().faults.writes;
    world.set(key, restricted(&key, &["198.51.100.0/24"]));
    assert_eq!(message(&world), "SOURCE_RANGES is full: 1 more entries, room for 0");
    assert_eq!(world.tables().faults.writes, writes);
    world.restart();
    assert_eq!(message(&world), "SOURCE_RANGES is full: 1 more entries, room for 0");
    world.settle();
    assert_eq!(world.tables().source_ranges, before);
}

#[test]
fn the_cluster_s_ranges_keep_their_places_over_changes_and_restarts() {
    let mut world = world();
    world.set_ranges(&["10.96.0.0/16", "10.97.0.0/16"]);
    world.assert_exact();
    world.set_ranges(&["10.97.0.0/16", "10.98.0.0/16"]);
    world.assert_exact();
    let writes = world.tables().faults.writes;
    world.restart();
    assert_eq!(world.tables().faults.writes, writes);
    world.tables().faults.dies_after = Some(1);
    world.set_ranges(&["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"]);
    assert!(world.reconciler.due_error().is_some());
    world.settle();
    world.assert_exact();
    world.set_ranges(&[]);
    world.settle();
    world.assert_empty();
}
