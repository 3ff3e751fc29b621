// SPDX-License-Identifier: Apache-2.0
//! CPU time for each packet: 64-byte datagrams of a number of flows, from a source inside the client's
//! pod through the node into the pods of the service.
//!
//! Everything happens on the thread that sends, as softirqs of its own or in the `ksoftirqd` of its CPU,
//! and what these two take is what a packet costs. Time on the wall says nothing: each call waits for
//! the last of its pages.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pintle_lab::device::Device;

mod sink;
mod source;

use crate::compare::turns::{Epoch, Measured};
use crate::cpu::{self, Cpus};
use crate::frame::Frame;
use crate::interrupt;
use sink::Sink;
use source::Source;

/// Packets of one world in one round.
const ROUND: u32 = 100_000;
/// Rounds at least: one that somebody disturbed must not count.
const LEAST_ROUNDS: usize = 3;
/// Packets before the first round, and enough for every flow to be known.
const WARM_UP: u32 = 65_536;

/// Where packets come from and where they go.
pub struct Track {
    /// The device that they leave by.
    pub source: Device,
    /// Its other end, in the node.
    pub peer: Device,
    /// The devices that they may arrive at.
    pub sinks: Vec<Device>,
    /// Whether they end there before the kernel has a buffer for them, as what XDP sends has none.
    pub early: bool,
    /// What they are.
    pub frame: Frame,
}

/// Measures all tracks for about so many seconds; the first one is what the others are compared with.
pub fn measure(tracks: &[Track], flows: u32, seconds: u32, cpus: Cpus) -> Result<Vec<Measured>> {
    let lanes = tracks.iter().map(|track| Lane::new(track, flows)).collect::<Result<Vec<_>>>()?;
    for lane in &lanes {
        lane.send(WARM_UP, cpus)?;
    }
    let mut all = vec![Measured::default(); lanes.len()];
    let end = Instant::now() + Duration::from_secs(seconds.into());
    while all.iter().all(|measured| measured.epochs.len() < LEAST_ROUNDS) || Instant::now() < end {
        let mut base = None;
        for (lane, measured) in lanes.iter().zip(&mut all) {
            interrupt::check()?;
            let median_ns = lane.round(measured, cpus)?;
            let ratio = median_ns / *base.get_or_insert(median_ns);
            measured.epochs.push(Epoch { ratio, median_ns, p99_ns: None });
        }
    }
    Ok(all)
}

/// A track that is ready for packets.
struct Lane {
    source: Source,
    device: Device,
    peer: Device,
    sinks: Vec<Sink>,
}

impl Lane {
    fn new(track: &Track, flows: u32) -> Result<Self> {
        let source = Source::new(&track.frame, flows, track.source.index()?)?;
        let sink = if track.early { Sink::in_driver } else { Sink::new };
        let sinks = track.sinks.iter().map(sink);
        let sinks = sinks.collect::<Result<Vec<_>>>()?;
        // A veth takes redirected frames only if the end that receives them has NAPI.
        track.peer.set_gro(true).context("switch GRO on")?;
        Ok(Self { source, device: track.source.clone(), peer: track.peer.clone(), sinks })
    }

    /// One round; returns nanoseconds of CPU for a packet.
    fn round(&self, measured: &mut Measured, cpus: Cpus) -> Result<f64> {
        let start = Instant::now();
        let before = self.received()?;
        let cpu = self.send(ROUND, cpus)?;
        let arrived = self.received()? - before;
        ensure!(arrived > 0, "no packet has arrived");
        measured.operations += arrived;
        measured.failed += u64::from(ROUND).saturating_sub(arrived);
        measured.wall_ns += start.elapsed().as_nanos() as u64;
        measured.cpu_ns += cpu;
        Ok(cpu as f64 / f64::from(ROUND))
    }

    /// Sends and returns the nanoseconds of CPU that it took.
    fn send(&self, packets: u32, cpus: Cpus) -> Result<u64> {
        let work = || -> Result<u64> {
            cpus.enter()?;
            let before = cpu::thread_time() + softirqd_time(cpus)?;
            self.source.send(packets)?;
            Ok(cpu::thread_time() + softirqd_time(cpus)? - before)
        };
        self.device.ns().run(work)
    }

    fn received(&self) -> Result<u64> {
        self.sinks.iter().map(Sink::received).sum()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let _ = self.peer.set_gro(false);
    }
}

/// CPU time so far of the thread that does softirqs when they are too many, in nanoseconds.
fn softirqd_time(cpus: Cpus) -> Result<u64> {
    let name = format!("ksoftirqd/{}", cpus.measured());
    for entry in fs::read_dir("/proc")?.flatten() {
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.trim_end() == name {
            let text = fs::read_to_string(entry.path().join("schedstat"))?;
            return text.split(' ').next().unwrap_or_default().parse().context("schedstat");
        }
    }
    // A container does not see it; what it does is then missing.
    Ok(0)
}
