// SPDX-License-Identifier: Apache-2.0
//! Worlds that are alive at once and take turns of a few milliseconds. What is told is the ratio of
//! medians within one epoch, so whatever disturbs the machine for longer than a turn disturbs all
//! worlds alike; what disturbs some of them for a whole epoch is in a minority of epochs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::client::Client;
use crate::cpu;
use crate::interrupt;
use crate::statistics::{median, quantile};

/// Length of one world's turn.
const TURN: Duration = Duration::from_millis(4);
/// Length of one epoch, over all worlds.
const EPOCH: Duration = Duration::from_secs(1);
/// What a world does before it is measured.
const WARM_UP: Duration = Duration::from_millis(50);

/// What one build of a world gave for one workload.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// What its epochs gave.
    pub epochs: Vec<Epoch>,
    /// Operations that succeeded.
    pub operations: u64,
    /// Operations that failed; their times are not counted.
    pub failed: u64,
    /// Duration of all turns in nanoseconds.
    pub wall_ns: u64,
    /// CPU time in nanoseconds that client and servers took in these turns.
    pub cpu_ns: u64,
}

/// What one epoch of a world gave.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// Ratio of the median to that of the first world in the same epoch.
    pub ratio: f64,
    /// Median in nanoseconds.
    pub median_ns: f64,
    /// 99th percentile in nanoseconds, where single operations are timed.
    pub p99_ns: Option<f64>,
}

impl Measured {
    /// The median over epochs: one that somebody disturbed does not count.
    pub fn over_epochs(&self, value: impl Fn(&Epoch) -> f64) -> f64 {
        let mut values: Vec<f64> = self.epochs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => f64::NAN,
            even if even % 2 == 0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        }
    }
}

/// Measures all clients for `epochs` seconds; the first one is what the others are compared with.
pub fn measure(clients: &[Client], epochs: u32) -> Result<Vec<Measured>> {
    for client in clients {
        client.work(WARM_UP)?;
        client.collect()?;
    }
    let mut all = vec![Measured::default(); clients.len()];
    for _ in 0..epochs.max(1) {
        epoch(clients, &mut all)?;
    }
    Ok(all)
}

fn epoch(clients: &[Client], all: &mut [Measured]) -> Result<()> {
    let end = Instant::now() + EPOCH;
    while Instant::now() < end {
        interrupt::check()?;
        for (client, measured) in clients.iter().zip(&mut *all) {
            let (start, cpu) = (Instant::now(), cpu::process_time());
            client.work(TURN)?;
            measured.wall_ns += start.elapsed().as_nanos() as u64;
            measured.cpu_ns += cpu::process_time() - cpu;
        }
    }
    let mut base = None;
    for (index, (client, measured)) in clients.iter().zip(&mut *all).enumerate() {
        let mut sample = client.collect()?;
        measured.operations += sample.times.len() as u64;
        measured.failed += sample.failed;
        let median_ns = median(&mut sample.times);
        ensure!(median_ns > 0.0, "world {index}: an epoch without success");
        let ratio = median_ns / *base.get_or_insert(median_ns);
        let p99_ns = Some(quantile(&mut sample.times, 0.99));
        measured.epochs.push(Epoch { ratio, median_ns, p99_ns });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_was_disturbed_does_not_count() {
        let epoch = |ratio| Epoch { ratio, median_ns: 1.0, p99_ns: None };
        let of = |ratios: &[f64]| {
            let epochs = ratios.iter().copied().map(epoch).collect();
            Measured { epochs, ..Measured::default() }.over_epochs(|epoch| epoch.ratio)
        };
        assert_eq!(of(&[1.1, 100.0, 1.2]), 1.2);
        assert_eq!(of(&[1.0, 2.0]), 1.5);
    }
}
