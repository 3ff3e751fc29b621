// SPDX-License-Identifier: Apache-2.0
//! Any sequence of changes, refused writes and deaths of the agent.

use proptest::prelude::*;

use super::*;

/// What may happen to an agent.
#[derive(Clone, Debug)]
enum Step {
    Put {
        index: u8,
        backends: u16,
        draining: u16,
        silent: bool,
        affinity: u8,
        service: u8,
        restricted: u8,
        maglev: bool,
    },
    /// Both frontends of an address, or one of them for all again.
    Split {
        index: u8,
        backends: u16,
        local: u16,
    },
    Mark(u8, u8),
    Ranges(u8),
    Remove(u8),
    Retry,
    Pass(u8),
    Devices(u8),
    /// The agent dies in the middle of the next change, after some writes.
    Die {
        after: u8,
        index: u8,
        backends: u16,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let put = (0u8..10, any::<u16>(), any::<u16>(), any::<bool>(), 0u8..3, 0u8..4, 0u8..16);
    let put = put.prop_map(|(index, backends, draining, silent, affinity, service, extras)| {
        let (restricted, maglev) = (extras & 7, extras & 8 != 0);
        Step::Put { index, backends, draining, silent, affinity, service, restricted, maglev }
    });
    let split = (0u8..10, any::<u16>(), any::<u16>());
    let split = split.prop_map(|(index, backends, local)| Step::Split { index, backends, local });
    let die = (0u8..12, 0u8..10, any::<u16>());
    let die = die.prop_map(|(after, index, backends)| Step::Die { after, index, backends });
    let step = prop_oneof![
        8 => put,
        3 => split,
        1 => (0u8..4, 0u8..8).prop_map(|(index, flags)| Step::Mark(index, flags)),
        1 => any::<u8>().prop_map(Step::Ranges),
        3 => (0u8..10).prop_map(Step::Remove),
        2 => Just(Step::Retry),
        3 => (0u8..150).prop_map(Step::Pass),
        1 => (1u8..4).prop_map(Step::Devices),
        2 => die,
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A few of the backends, by the bits of a number.
fn bits(mask: u16, not: u16) -> Vec<u8> {
    (0..12u8).filter(|bit| mask & !not & (1 << bit) != 0).collect()
}

fn some_ranges(bits: u8) -> Vec<Cidr> {
    let all = ["10.0.0.0/8", "192.0.2.0/24"];
    let some = all.iter().enumerate().filter(|(index, _)| bits & (1 << index) != 0);
    some.map(|(_, text)| cidr(text)).collect()
}

/// The planner takes the frontend for outsiders away in the batch in which the other changes.
fn unite(world: &mut World, key: FrontendKey) {
    let external = FrontendKey::external(key.addr);
    if world.desired.remove(&external).is_some() {
        let mut changes = world.all();
        changes.frontends.insert(external, None);
        if let Some(Some(inside)) = changes.frontends.get_mut(&key) {
            inside.is_split = false;
            world.desired.insert(key, inside.clone());
        }
        world.apply(changes);
    }
}

fn make(world: &mut World, step: Step) {
    match step {
        Step::Put { index, backends, draining, silent, affinity, service, restricted, maglev } => {
            let addr = frontend(index);
            // Half of the bits: some frontends are without backends.
            let (backends, draining) = (backends & (backends >> 3), draining & (draining >> 5));
            let mut wanted = desired(&addr, &bits(backends, 0), &bits(draining, backends));
            wanted.no_backend = if silent { NoBackend::Drop } else { NoBackend::Reject };
            wanted.affinity = Some(Duration::from_secs(affinity.into())).filter(|t| !t.is_zero());
            wanted.service = format!("shop/{service}").into();
            wanted.table = TableSize::of(251).filter(|_| maglev);
            if addr.addr.ip.is_ipv4() && restricted & 4 != 0 {
                wanted.source_ranges = Some(some_ranges(restricted).into());
            }
            unite(world, addr);
            world.set(addr, Some(wanted));
        }
        Step::Split { index, backends, local } => {
            let key = frontend(index);
            let mut inside = desired(&key, &bits(backends, 0), &[]);
            inside.is_split = true;
            let outside = desired(&key, &bits(backends & local, 0), &bits(backends, local));
            world.desired.extend([(key, inside), (FrontendKey::external(key.addr), outside)]);
            let all = world.all();
            world.apply(all);
        }
        Step::Mark(index, flags) => {
            world.mark(&frontend(index).addr.ip.to_string(), flags.into());
        }
        Step::Ranges(bits) => {
            let all = ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16"];
            let some = all.iter().enumerate().filter(|(index, _)| bits & (1 << index) != 0);
            world.set_ranges(&some.map(|(_, range)| *range).take(4).collect::<Vec<_>>());
        }
        Step::Remove(index) => {
            unite(world, frontend(index));
            world.set(frontend(index), None);
        }
        Step::Retry => drop(world.retry()),
        Step::Pass(ms) => world.pass(Duration::from_millis(ms.into())),
        Step::Devices(ifindex) => {
            world.ifindex = ifindex.into();
            let redirect = world.redirect();
            world.reconciler.resolve_again(&redirect);
        }
        Step::Die { after, index, backends } => {
            world.tables().faults.dies_after = Some(after.into());
            unite(world, frontend(index));
            world.put(index, &bits(backends, 0));
            world.pass(GRACE);
            world.restart();
        }
        Step::Restart => world.restart(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_the_maps_end_as_desired_and_nothing_leaks(
        steps in steps(), failures in 0u32..30, slots in prop_oneof![12u32..64, 251u32..800], backends in 12u32..40,
    ) {
        let mut tables = FakeTables::new();
        (tables.faults.percent, tables.slot_capacity, tables.backend_capacity) = (failures, slots, backends);
        let mut world = World::new(tables);
        for step in steps {
            make(&mut world, step);
        }
        world.settle();
        // Maps that are too small for what is desired refuse it, and hold the rest.
        if world.reconciler.errors().next().is_none() {
            world.assert_exact();
        }
        for index in 0..10 {
            unite(&mut world, frontend(index));
            world.set(frontend(index), None);
        }
        world.wildcards.clear();
        world.set_ranges(&[]);
        for index in 0..4 {
            world.mark(&frontend(index).addr.ip.to_string(), 0);
        }
        world.settle();
        world.assert_empty();
    }
}
