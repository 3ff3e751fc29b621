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
    },
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
    let put = (0u8..10, any::<u16>(), any::<u16>(), any::<bool>(), 0u8..3, 0u8..4);
    let put = put.prop_map(|(index, backends, draining, silent, affinity, service)| Step::Put {
        index,
        backends,
        draining,
        silent,
        affinity,
        service,
    });
    let die = (0u8..12, 0u8..10, any::<u16>());
    let die = die.prop_map(|(after, index, backends)| Step::Die { after, index, backends });
    let step = prop_oneof![
        8 => put,
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

fn make(world: &mut World, step: Step) {
    match step {
        Step::Put { index, backends, draining, silent, affinity, service } => {
            let addr = frontend(index);
            // Half of the bits: some frontends are without backends.
            let (backends, draining) = (backends & (backends >> 3), draining & (draining >> 5));
            let mut wanted = desired(&addr, &bits(backends, 0), &bits(draining, backends));
            wanted.no_backend = if silent { NoBackend::Drop } else { NoBackend::Reject };
            wanted.affinity = Some(Duration::from_secs(affinity.into())).filter(|t| !t.is_zero());
            wanted.service = format!("shop/{service}").into();
            world.set(addr, Some(wanted));
        }
        Step::Remove(index) => drop(world.set(frontend(index), None)),
        Step::Retry => drop(world.retry()),
        Step::Pass(ms) => world.pass(Duration::from_millis(ms.into())),
        Step::Devices(ifindex) => {
            world.ifindex = ifindex.into();
            let redirect = world.redirect();
            world.reconciler.resolve_again(&redirect);
        }
        Step::Die { after, index, backends } => {
            world.tables().dies_after = Some(after.into());
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
        steps in steps(), failures in 0u32..30, slots in 12u32..64, backends in 12u32..40,
    ) {
        let mut tables = FakeTables::new();
        (tables.failures, tables.slot_capacity, tables.backend_capacity) = (failures, slots, backends);
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
            world.set(frontend(index), None);
        }
        world.settle();
        world.assert_empty();
    }
}
