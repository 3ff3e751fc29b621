// SPDX-License-Identifier: Apache-2.0
//! Worlds that are alive at once and take turns of a few milliseconds. What is told is the ratio of
//! medians within one epoch, so whatever disturbs the machine for longer than a turn disturbs all
//! worlds alike.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::client::Client;
use crate::cpu;
use crate::statistics::{median, quantile};

/// Length of one world's turn.
const TURN: Duration = Duration::from_millis(4);
/// Length of one epoch, over all worlds.
const EPOCH: Duration = Duration::from_secs(1);
/// What a world does before it is measured.
const WARM_UP: Duration = Duration::from_millis(50);

/// What one build of a world gave for one workload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Mean over epochs of the ratio of medians, this world's to the first one's.
    pub ratio: f64,
    /// Median in nanoseconds, mean over epochs.
    pub median_ns: f64,
    /// 99th percentile in nanoseconds, mean over epochs.
    pub p99_ns: f64,
    /// Operations that succeeded.
    pub operations: u64,
    /// Operations that failed; their times are not counted.
    pub failed: u64,
    /// Duration of all turns in nanoseconds.
    pub wall_ns: u64,
    /// CPU time in nanoseconds that client and servers took in these turns.
    pub cpu_ns: u64,
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
    let epochs = f64::from(epochs.max(1));
    for measured in &mut all {
        measured.ratio = (measured.ratio / epochs).exp();
        measured.median_ns /= epochs;
        measured.p99_ns /= epochs;
    }
    Ok(all)
}

/// Adds an epoch to what was measured; of the ratio, its logarithm.
fn epoch(clients: &[Client], all: &mut [Measured]) -> Result<()> {
    let end = Instant::now() + EPOCH;
    while Instant::now() < end {
        for (client, measured) in clients.iter().zip(&mut *all) {
            let (start, cpu) = (Instant::now(), cpu::process_time());
            client.work(TURN)?;
            measured.wall_ns += start.elapsed().as_nanos() as u64;
            measured.cpu_ns += cpu::process_time() - cpu;
        }
    }
    let mut base = 0.0;
    for (index, (client, measured)) in clients.iter().zip(&mut *all).enumerate() {
        let mut sample = client.collect()?;
        measured.operations += sample.times.len() as u64;
        measured.failed += sample.failed;
        let middle = median(&mut sample.times);
        ensure!(middle > 0.0, "world {index}: an epoch without success");
        if index == 0 {
            base = middle;
        }
        measured.ratio += (middle / base).ln();
        measured.median_ns += middle;
        measured.p99_ns += quantile(&mut sample.times, 0.99);
    }
    Ok(())
}
