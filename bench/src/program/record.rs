// SPDX-License-Identifier: Apache-2.0
//! What was measured of the programs, as it is kept and as a table.

use anyhow::{Context, Result};
use pintle::datapath::object;
use pintle_lab::topology::Family;
use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use super::case::Case;
use super::site::Extent;
use crate::machine::Machine;
use crate::report::table::align;

/// What a look-up took on the machine where the targets were set, in nanoseconds.
const REFERENCE_LOOK_UP: f64 = 8.1;
/// Entries of the maps for which programs are verified: their number does not matter, loading is faster.
const ENTRIES: u32 = 1024;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Where it ran.
    pub machine: Machine,
    /// Rounds.
    pub rounds: u32,
    /// What the parts of a data path take on it.
    pub calibration: Calibration,
    /// A row for each case and extent.
    pub rows: Vec<Row>,
    /// Every program that sees packets.
    pub programs: Vec<Verified>,
}

/// One case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What it is.
    pub case: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// How much there was.
    #[serde(flatten)]
    pub extent: Extent,
    /// Nanoseconds over an empty program: the lowest, the median, the highest of all rounds.
    pub ns: [i64; 3],
    /// What the design allows.
    pub target: Option<u32>,
}

/// What the verifier said of a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier followed.
    pub verified: u32,
    /// Instructions that it has.
    pub instructions: u32,
}

impl Row {
    /// Of a case that was measured.
    pub fn of(extent: Extent, case: &Case) -> Self {
        Self {
            case: case.kind.name().into(),
            family: if case.family == Family::V4 { "IPv4" } else { "IPv6" }.into(),
            protocol: if case.is_udp { "udp" } else { "tcp" }.into(),
            extent,
            ns: case.spread(),
            target: case.kind.target(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let [lowest, median, highest] = self.ns;
        vec![
            self.case.clone(),
            self.family.clone(),
            self.protocol.clone(),
            self.extent.services.to_string(),
            self.extent.policies.to_string(),
            median.to_string(),
            format!("{lowest} to {highest}"),
            self.target.map_or("-".into(), |target| format!("<= {target}")),
        ]
    }
}

/// Loads every program that sees packets once more, to hear what the verifier says. Those of sockets cost
/// a connection's beginning, which the comparison shows.
pub fn programs() -> Result<Vec<Verified>> {
    let small = pintle_abi::map::ALL.iter().filter(|map| map.entries > ENTRIES);
    let sizes = small.map(|map| (map.name.to_owned(), ENTRIES)).collect();
    let mut ebpf = object::load(None, &sizes)?;
    object::load_xdp(&mut ebpf)?;
    let verified = |(name, program): (&str, &aya::programs::Program)| {
        let info = program.info()?;
        Ok(Verified {
            name: name.to_owned(),
            verified: info.verified_instruction_count().context("this kernel does not tell")?,
            instructions: info.size_translated().unwrap_or_default() / 8,
        })
    };
    let loaded = ebpf.programs().filter(|(_, program)| program.fd().is_ok());
    let mut all = loaded.map(verified).collect::<Result<Vec<_>>>()?;
    all.sort_by_key(|program| std::cmp::Reverse(program.verified));
    Ok(all)
}

impl Run {
    /// As text.
    pub fn table(&self) -> String {
        let head = ["CASE", "FAMILY", "PROTO", "SERVICES", "POLICIES", "NS", "RANGE", "TARGET"]
            .map(str::to_owned);
        let rows: Vec<_> =
            std::iter::once(head.to_vec()).chain(self.rows.iter().map(Row::cells)).collect();
        let head = ["PROGRAM", "VERIFIED", "INSTRUCTIONS"].map(str::to_owned);
        let programs = self.programs.iter().map(|program| {
            let Verified { name, verified, instructions } = program;
            vec![name.clone(), verified.to_string(), instructions.to_string()]
        });
        let programs: Vec<_> = std::iter::once(head.to_vec()).chain(programs).collect();
        let Calibration { look_up_ns, insert_ns, insert_preallocated_ns } = self.calibration;
        format!(
            "{}\nNS: over an empty program, median of {} rounds. On this machine a look-up in a hash takes {look_up_ns:.0} ns, \
             an insert {insert_ns:.0} ns,\n{insert_preallocated_ns:.0} ns if memory is preallocated; the targets are from \
             one where a look-up takes {REFERENCE_LOOK_UP} ns.\n\n{}",
            align(&rows),
            self.rounds,
            align(&programs),
        )
    }
}
