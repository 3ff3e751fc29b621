// SPDX-License-Identifier: Apache-2.0
//! Frontends with Maglev tables.

use super::*;

fn with_table(index: u8, backends: &[u8]) -> Option<DesiredFrontend> {
    let table = TableSize::of(251);
    Some(DesiredFrontend { table, ..desired(&frontend(index), backends, &[]) })
}

#[test]
fn an_agent_takes_over_a_table_without_writing_it() {
    let mut tables = FakeTables::new();
    tables.slot_capacity = 251;
    let mut world = World::new(tables);
    world.set(frontend(0), with_table(0, &[1, 2, 3]));
    world.assert_exact();
    let writes = world.tables().faults.writes;
    world.restart();
    assert_eq!(world.tables().faults.writes, writes);
    world.assert_exact();
}

#[test]
fn a_table_that_is_not_maglevs_is_written_anew() {
    let mut tables = FakeTables::new();
    tables.slot_capacity = 600;
    let mut world = World::new(tables);
    world.set(frontend(0), with_table(0, &[1, 2]));
    let slots = &mut world.tables().slots;
    let (first, second) = (slots[&(Family::V4, 0)], slots[&(Family::V4, 1)]);
    let other = if first == second { 1 - first } else { second };
    slots.insert((Family::V4, 0), other);
    world.restart();
    world.settle();
    world.assert_exact();
}

/// The first backend weighs as much as this, the others 1.
fn weighted(index: u8, first: u8, backends: &[u8]) -> Option<DesiredFrontend> {
    let mut frontend = with_table(index, backends)?;
    frontend.backends[0].weight = first;
    Some(frontend)
}

#[test]
fn another_weight_is_another_table() {
    let mut tables = FakeTables::new();
    tables.slot_capacity = 600;
    let mut world = World::new(tables);
    for weight in [1, 3, 2, 1] {
        world.set(frontend(0), weighted(0, weight, &[1, 2, 3]));
        world.pass(GRACE);
        world.settle();
        world.assert_exact();
    }
}

#[test]
fn a_table_with_weights_is_taken_over_without_writing_it() {
    let mut tables = FakeTables::new();
    tables.slot_capacity = 251;
    let mut world = World::new(tables);
    world.set(frontend(0), weighted(0, 3, &[1, 2]));
    let writes = world.tables().faults.writes;
    world.restart();
    assert_eq!(world.tables().faults.writes, writes);
    world.assert_exact();
}

#[test]
fn a_frontend_whose_table_has_no_room_is_served_without_one_until_there_is() {
    let mut tables = FakeTables::new();
    tables.slot_capacity = 300;
    let mut world = World::new(tables);
    world.set(frontend(0), with_table(0, &[1, 2]));
    assert_eq!(world.set(frontend(1), with_table(1, &[3, 4])).failed, [frontend(1)]);
    assert_eq!(message(&world), "SLOTS is full: 251 more entries, room for 49");
    let plain = in_slots(&desired(&frontend(1), &[3, 4], &[]));
    assert_eq!(world.tables().reached(&frontend(1)), Some(plain));
    let writes = world.tables().faults.writes;
    assert_eq!(world.retry(), Outcome::default());
    assert_eq!(world.tables().faults.writes, writes);
    world.set(frontend(0), None);
    world.pass(GRACE);
    assert_eq!(world.retry().recovered, [frontend(1)]);
    world.settle();
    world.assert_exact();
}
