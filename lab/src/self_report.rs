// SPDX-License-Identifier: Apache-2.0
//! What an agent says of itself while a benchmark looks on: its log, its maps, its memory.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::agent::Agent;

/// Flags with which the log has what the functions here look for.
pub const LOG_ARGS: [&str; 4] = ["--log-format", "json", "--log-level", "info,pintle::agent=debug"];

const MIB: f64 = 1024.0 * 1024.0;

/// Lines of the agent's log with a message, in order.
fn logged(agent: &Agent, message: &str) -> Vec<Value> {
    let log = agent.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

/// Time of each change so far in microseconds, as the agent measured it: from the moment its source
/// learned of a file's new content to the end of the last map write.
pub fn programming_times(agent: &Agent) -> Vec<f64> {
    let lines = logged(agent, "programmed");
    lines.iter().filter_map(|line| Some(line["ns"].as_f64()? / 1e3)).collect()
}

/// A number in the last line of the log with a message.
pub fn figure(agent: &Agent, message: &str, field: &str) -> Result<f64> {
    let line =
        logged(agent, message).pop().with_context(|| format!("no '{message}' in the log"))?;
    // 128-bit numbers are logged as text.
    let number = line[field].as_f64().or_else(|| line[field].as_str()?.parse().ok());
    number.with_context(|| format!("no {field} in {line}"))
}

/// Milliseconds from a time to the last line of the log with a message.
pub fn since(agent: &Agent, start: SystemTime, message: &str) -> Result<f64> {
    let line =
        logged(agent, message).pop().with_context(|| format!("no '{message}' in the log"))?;
    let text = line["timestamp"].as_str().context("a line without time")?;
    let start = start.duration_since(UNIX_EPOCH)?.as_secs_f64();
    // Both are of the same day, or of two that follow each other.
    let of_day = |seconds: f64| seconds.rem_euclid(86_400.0);
    Ok(of_day(seconds_of_day(text)? - of_day(start)) * 1e3)
}

/// The time of day in `2026-01-31T12:34:56.789Z`.
fn seconds_of_day(text: &str) -> Result<f64> {
    let time = text.split_once('T').and_then(|(_, time)| time.strip_suffix('Z'));
    let parts: Vec<f64> = time.unwrap_or_default().split(':').flat_map(str::parse).collect();
    let [hours, minutes, seconds] = parts[..] else { bail!("{text} is not a time") };
    Ok((hours * 60.0 + minutes) * 60.0 + seconds)
}

/// A line of the agent's `/proc/PID/status`, in MiB.
pub fn process_memory(agent: &Agent, name: &str) -> Result<f64> {
    let pid = agent.pid().context("the agent does not run")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// CPU time of the agent's process so far, user and kernel, in milliseconds.
pub fn cpu_time(agent: &Agent) -> Result<f64> {
    let pid = agent.pid().context("the agent does not run")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the process, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).flat_map(str::parse).collect();
    // SAFETY: the call has no preconditions.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    Ok(ticks.iter().sum::<f64>() / ticks_per_second * 1e3)
}

/// Kernel memory of the maps with certain names, in MiB.
pub fn map_memory(agent: &Agent, belongs: impl Fn(&str) -> bool) -> Result<f64> {
    let maps = agent.json(&["get", "maps"])?;
    let maps = maps.as_array().context("no list of maps")?.iter();
    let maps = maps.filter(|map| map["name"].as_str().is_some_and(&belongs));
    Ok(maps.filter_map(|map| map["bytes"].as_f64()).sum::<f64>() / MIB)
}
