// SPDX-License-Identifier: Apache-2.0
//! What has to be known of a machine to compare its numbers with another's.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Facts of the machine, as it is when the run begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the processor.
    pub processor: String,
    /// How many of it.
    pub cpus: usize,
    /// The one that was measured on.
    pub measured_cpu: usize,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// What the kernel does about the processor's weaknesses, where it does anything.
    pub mitigations: Vec<String>,
    /// Versions of the programs that load rules.
    pub programs: Vec<String>,
    /// Load average over one minute.
    pub load: f64,
    /// Seconds since 1970.
    pub time: u64,
}

impl Machine {
    /// Looks at this one.
    pub fn look(measured_cpu: usize) -> Self {
        let first = |path: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines().next().unwrap_or_default().trim().to_owned()
        };
        let load = first("/proc/loadavg");
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            kernel: first("/proc/sys/kernel/osrelease"),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            measured_cpu,
            memory_gib: memory_gib().unwrap_or_default(),
            mitigations: mitigations(),
            programs: programs(),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
            time: now.map_or(0, |time| time.as_secs()),
        }
    }
}

impl Machine {
    /// Names and values, for people.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("processor", format!("{} × {}", self.cpus, self.processor)),
            ("memory", format!("{} GiB", self.memory_gib)),
            ("kernel", self.kernel.clone()),
            ("mitigations", self.mitigations.join("; ")),
            ("programs", self.programs.join("; ")),
            ("load at the start", self.load.to_string()),
        ]
    }
}

/// The value of the first line `name: value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

fn memory_gib() -> Option<f64> {
    let kib: f64 = field("/proc/meminfo", "MemTotal")?.split(' ').next()?.parse().ok()?;
    Some((kib / 1024.0 / 1024.0 * 10.0).round() / 10.0)
}

fn mitigations() -> Vec<String> {
    let entries = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten();
    let mut found: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let what = text.trim().strip_prefix("Mitigation: ")?;
            Some(format!("{}: {what}", entry.file_name().to_string_lossy()))
        })
        .collect();
    found.sort_unstable();
    found
}

fn programs() -> Vec<String> {
    let ask = |name: &str, argument: &str| {
        let output = Command::new(name).arg(argument).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
    };
    let all = [("iptables-legacy", "-V"), ("iptables-nft", "-V"), ("nft", "-v"), ("ipvsadm", "-v")];
    all.iter().filter_map(|(name, argument)| ask(name, argument)).collect()
}
