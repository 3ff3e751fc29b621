// SPDX-License-Identifier: Apache-2.0
//! Tables: the same for all, even, and steady.

use proptest::prelude::*;

use super::*;

fn backend(number: u16) -> BackendAddr {
    let [high, low] = number.to_be_bytes();
    BackendAddr { ip: IpAddr::from([10, 244, high, low]), port: 8080 }
}

fn backends(count: u16) -> Vec<BackendAddr> {
    (0..count).map(backend).collect()
}

/// For each slot the backend itself.
fn choices(backends: &[BackendAddr], size: TableSize) -> Vec<BackendAddr> {
    table(backends, &[], size).into_iter().map(|index| backends[index as usize]).collect()
}

/// Slots of backends that stay, whose backend is another nevertheless.
fn moved(before: &[BackendAddr], after: &[BackendAddr], gone: BackendAddr) -> usize {
    let pairs = before.iter().zip(after);
    pairs.filter(|(old, new)| **old != gone && **new != gone && old != new).count()
}

#[test]
fn a_table_is_the_one_that_other_versions_make() {
    let found = table(&backends(3), &[], TableSize(251));
    let text: String = found.iter().map(|index| char::from(b'0' + *index as u8)).collect();
    assert_eq!(&text[..40], "1222022202220222011111111111112111111112");
}

#[test]
fn without_backends_there_is_no_table() {
    assert!(table(&[], &[], TableSize::default()).is_empty());
}

#[test]
fn shares_differ_by_one_slot() {
    for (count, size) in [(1, 251), (3, 4_093), (40, 4_093), (100, 16_381), (300, 251)] {
        let mut shares = vec![0; usize::from(count)];
        table(&backends(count), &[], TableSize(size)).iter().for_each(|i| shares[*i as usize] += 1);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(most - least <= 1, "{count} backends in {size} slots: {least} to {most}");
    }
}

#[test]
fn shares_follow_the_weights() {
    let cases = [
        (vec![1, 2, 3, 4], 4_093),
        (vec![100, 1, 1, 1], 4_093),
        (vec![100, 50, 49], 251),
        (vec![99, 100], 251),
        ([[90; 20], [11; 20]].concat(), 1_021),
        ([[100; 100], [99; 100]].concat(), 16_381),
        ([[100; 60], [33; 60]].concat(), 16_381),
    ];
    for (weights, slots) in cases {
        let mut shares = vec![0_u32; weights.len()];
        let found = table(&backends(weights.len() as u16), &weights, TableSize(slots));
        found.iter().for_each(|index| shares[*index as usize] += 1);
        let sum: u32 = weights.iter().copied().map(u32::from).sum();
        for (weight, share) in weights.iter().zip(&shares) {
            let due = f64::from(*weight) / f64::from(sum) * f64::from(slots);
            let off = (f64::from(*share) - due).abs();
            assert!(*share > 0 && off <= 3.0, "{weights:?}: {share} slots for {weight}, not {due}");
        }
    }
}

#[test]
fn only_the_proportion_of_weights_counts() {
    let (all, size) = (backends(3), TableSize(251));
    assert_eq!(table(&all, &[7, 7, 7], size), table(&all, &[], size));
    assert_eq!(table(&all, &[20, 40, 60], size), table(&all, &[1, 2, 3], size));
    assert_ne!(table(&all, &[1, 2, 3], size), table(&all, &[], size));
}

/// Of the connections to the nine that stay.
#[test]
fn a_heavy_backend_that_goes_moves_few_connections_of_others() {
    let (all, size) = (backends(10), TableSize(4_093));
    let weights = [5, 1, 1, 1, 1, 1, 1, 1, 1, 1];
    let chosen = |backends: &[BackendAddr], weights: &[u8]| -> Vec<_> {
        let found = table(backends, weights, size);
        found.into_iter().map(|index| backends[index as usize]).collect()
    };
    let before = chosen(&all, &weights);
    let after = chosen(&all[1..], &weights[1..]);
    let stay = before.iter().filter(|backend| **backend != all[0]).count();
    let share = moved(&before, &after, all[0]) as f64 / stay as f64;
    assert!(share <= 0.1 + 0.01, "{share:.4} of others");
}

/// The largest share of all slots that moves between backends that stay when one goes.
fn disruption(count: u16, slots: u32) -> f64 {
    let (all, size) = (backends(count), TableSize(slots));
    let before = choices(&all, size);
    let without = |gone: usize| {
        let mut others = all.clone();
        let gone = others.remove(gone);
        moved(&before, &choices(&others, size), gone)
    };
    let worst = (0..all.len()).step_by(all.len().div_ceil(20)).map(without).max();
    worst.unwrap_or_default() as f64 / f64::from(slots)
}

/// With 100 slots for each backend, and 100 backends at most, 1/N + 1 % of the connections to others;
/// with 500 slots for each 1 % of all.
#[test]
fn who_goes_moves_few_connections_of_others() {
    for (count, slots) in [(2, 251), (10, 1_021), (10, 4_093), (100, 16_381)] {
        let others = 1.0 - 1.0 / f64::from(count);
        let share = disruption(count, slots) / others;
        let bound = 1.0 / f64::from(count) + 0.01;
        assert!(share <= bound, "{count} backends, {slots} slots: {share:.4} of others");
    }
    for (count, slots) in [(3, 4_093), (10, 16_381), (32, 16_381), (100, 65_521)] {
        let share = disruption(count, slots);
        assert!(share <= 0.01, "{count} backends, {slots} slots: {share:.4}");
    }
}

#[test]
fn sizes_are_primes() {
    for size in TableSize::ALL {
        let is_prime = (2..).take_while(|n| n * n <= size.0).all(|n| size.0 % n != 0);
        assert!(is_prime, "{size}");
        assert_eq!(size.to_string().parse(), Ok(size));
    }
    let error = "4096".parse::<TableSize>().unwrap_err();
    assert!(error.starts_with("give one of 251, 509, "), "{error}");
}

proptest! {
    #[test]
    fn every_slot_leads_to_a_backend(ports in proptest::collection::btree_set(any::<u16>(), 1..60)) {
        let ip = IpAddr::from([0xfd00, 0x10, 0x244, 0, 0, 0, 0, 7]);
        let backends: Vec<_> = ports.into_iter().map(|port| BackendAddr { ip, port }).collect();
        let found = table(&backends, &[], TableSize(251));
        prop_assert_eq!(found.len(), 251);
        prop_assert!(found.iter().all(|index| (*index as usize) < backends.len()));
    }
}
