// SPDX-License-Identifier: Apache-2.0
//! What a machine takes for the parts that every data path is made of: tells machines apart, and of
//! which parts a program's cost is the sum.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::wrapper::Wrapper;
use crate::cpu::Cpus;
use pintle_lab::bpf::{self, Kind, Single, VALUE, code, load_map};

/// Look-ups in one run.
const LOOK_UPS: usize = 10;
const RUNS: u32 = 100_000;
const ROUNDS: usize = 5;

/// Nanoseconds, medians of some rounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Calibration {
    /// A hit in a hash with keys of 12 bytes.
    pub look_up_ns: f64,
    /// A new entry of 76 bytes, into a hash that takes memory as it needs it, as those of flows do.
    pub insert_ns: f64,
    /// The same into one that has its memory from the beginning.
    pub insert_preallocated_ns: f64,
}

/// A program that does nothing.
pub fn empty_program(kind: Kind) -> Result<OwnedFd> {
    match kind {
        Kind::Classifier => bpf::load(kind, &PASS),
        Kind::Xdp => bpf::load(kind, &[code(0xb7, 0, 0, 0, XDP_TX), code(0x95, 0, 0, 0, 0)]),
    }
}

/// `enum xdp_action` of `linux/bpf.h`.
pub const XDP_TX: i32 = 3;

const PASS: [u64; 2] = [code(0xb7, 0, 0, 0, -1), code(0x95, 0, 0, 0, 0)];

impl Calibration {
    /// Measures.
    pub fn measure(cpus: Cpus) -> Result<Self> {
        let measured = std::thread::scope(|scope| {
            let work = || {
                cpus.enter()?;
                let map = bpf::hash(1024, false)?;
                bpf::insert_zero(map.as_raw_fd())?;
                let looking_up = looking_up(map.as_raw_fd())?;
                let look_up = median(|| cost(&looking_up))? / LOOK_UPS as f64;
                let insert = |preallocated| median(move || insert(preallocated));
                Ok(Self {
                    look_up_ns: look_up,
                    insert_ns: insert(false)?,
                    insert_preallocated_ns: insert(true)?,
                })
            };
            scope.spawn(work).join()
        });
        measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn median(measure: impl Fn() -> Result<f64>) -> Result<f64> {
    let mut samples = (0..ROUNDS).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    samples.sort_by(f64::total_cmp);
    Ok(samples[ROUNDS / 2])
}

/// Of a run over that of an empty program.
fn cost(program: &OwnedFd) -> Result<f64> {
    let (frame, empty) = ([0; 64], empty_program(Kind::Classifier)?);
    let ns = |target: RawFd| -> Result<f64> {
        let wrapper = Wrapper::new((Kind::Classifier, target), &[], &[], frame.len())?;
        Ok(wrapper.run(&frame, &[], RUNS)?.ns.into())
    };
    Ok(ns(program.as_raw_fd())? - ns(empty.as_raw_fd())?)
}

fn looking_up(map: RawFd) -> Result<OwnedFd> {
    let mut all = vec![code(0x7a, 10, 0, -16, 0), code(0x62, 10, 0, -8, 0)];
    for _ in 0..LOOK_UPS {
        all.extend([code(0xbf, 2, 10, 0, 0), code(0x07, 2, 0, 0, -16)]);
        all.extend(load_map(1, map));
        all.push(code(0x85, 0, 0, 0, 1));
    }
    all.extend(PASS);
    bpf::load(Kind::Classifier, &all)
}

/// Of an insert into a hash that has nothing yet, over counting alone.
fn insert(preallocated: bool) -> Result<f64> {
    let map = bpf::hash(2 * RUNS, preallocated)?;
    let counters = [Single::counter()?, Single::counter()?];
    let counting = |insert: &[u64]| {
        let body = [&[code(0xbf, 6, 1, 0, 0)], &bpf::count(counters[0].fd())[..], insert, &PASS];
        bpf::load(Kind::Classifier, &body.concat())
    };
    let full = cost(&counting(&inserting(map.as_raw_fd()))?)?;
    Ok(full - cost(&counting(&[])?)?)
}

/// Puts an entry into a hash, whose key is the number in r8; refuses one that is there.
fn inserting(map: RawFd) -> Vec<u64> {
    const BPF_NOEXIST: i32 = 1;
    let value = VALUE as i16;
    let mut all = vec![code(0x7b, 10, 8, -16, 0), code(0x62, 10, 0, -8, 0)];
    all.extend((1..=value / 8).map(|word| code(0x7a, 10, 0, -16 - word * 8, 0)));
    all.extend([code(0xbf, 2, 10, 0, 0), code(0x07, 2, 0, 0, -16)]);
    all.extend([code(0xbf, 3, 10, 0, 0), code(0x07, 3, 0, 0, -16 - i32::from(value))]);
    all.push(code(0xb7, 4, 0, 0, BPF_NOEXIST));
    all.extend(load_map(1, map));
    all.push(code(0x85, 0, 0, 0, 2));
    all
}
