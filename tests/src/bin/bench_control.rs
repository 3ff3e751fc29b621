// SPDX-License-Identifier: Apache-2.0
//! Measures the control plane: cold load, changes, memory; with the real agent and real maps.
//!
//! The time of a change runs from the moment the agent's source learns of a file's new content to
//! the end of the last map write, on the agent's own clock. End to end is seen from here: from
//! renaming the file to the map's new value.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{HashMap, Map, MapData};
use clap::Parser;
use pintle::datapath::pins::Pins;
use pintle_abi::addr::{V4, proto};
use pintle_abi::map::FRONTENDS_V4;
use pintle_abi::service::{Frontend, FrontendKey};
use pintle_tests::agent::{Agent, FastPath};
use pintle_tests::cluster::{Cluster, Layout};
use pintle_tests::topology::{Cni, World};
use serde_json::{Value, json};

const ENDPOINTS: u32 = 10;
/// How long a change may take to appear before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(5);
const MIB: f64 = 1024.0 * 1024.0;

/// Measures the control plane: cold load, changes, memory.
#[derive(Parser)]
struct Options {
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// A tenth of the services and of the changes; the targets are for the full size.
    #[arg(long)]
    quick: bool,
}

/// One figure, with its target where it has one: at most so much.
struct Row {
    what: String,
    unit: Unit,
    value: f64,
    target: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Milliseconds,
    Microseconds,
    MiB,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "us",
            Unit::MiB => "MiB",
        }
    }
}

/// The figures so far.
#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn add(&mut self, what: impl Into<String>, unit: Unit, value: f64, target: Option<f64>) {
        self.0.push(Row { what: what.into(), unit, value, target });
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let (services, changes) = if options.quick { (1_000, 100) } else { (10_000, 1_000) };
    let world = World::new(1, Cni::Ptp)?;
    let mut table = Table::default();
    let small = Cluster { services: 100, endpoints: ENDPOINTS };
    let large = Cluster { services, endpoints: ENDPOINTS };
    progress("loading 100 services");
    let agent = load(&world, small, Layout::YamlFiles, None)?;
    memory(&agent, small, &mut table)?;
    drop(agent);
    for layout in Layout::ALL {
        progress(&format!("loading {services} services: {}", layout.name()));
        let mut agent = load(&world, large, layout, Some(&mut table))?;
        if layout == Layout::YamlFiles {
            memory(&agent, large, &mut table)?;
            progress(&format!("{changes} changes among {services} services"));
            change(&agent, large, changes, &mut table)?;
            restart(&mut agent, large, &mut table)?;
        }
    }
    progress("");
    if options.json {
        println!("{:#}", as_json(&table))
    } else {
        print_table(&table)?
    }
    Ok(())
}

/// Starts an agent over empty maps and waits until everything is programmed.
fn load(
    world: &World,
    cluster: Cluster,
    layout: Layout,
    table: Option<&mut Table>,
) -> Result<Agent> {
    let mut agent = Agent::new(&world.nodes[0], FastPath::Auto)?;
    let log = ["--log-format", "json", "--log-level", "info,pintle::agent=debug"];
    agent.extra_args = log.map(str::to_owned).to_vec();
    cluster.write(&agent.manifests, layout)?;
    let spawned = SystemTime::now();
    agent.start()?;
    let Some(table) = table else { return Ok(agent) };
    let name = |what: &str| format!("{what}, {} services, {}", cluster.services, layout.name());
    let total = since(&agent, spawned, "synced")?;
    table.add(name("process start to programmed"), Unit::Milliseconds, total, Some(2_000.0));
    let program = figure(&agent, "synced", "program_ms")?;
    table.add("  of which writing the maps", Unit::Milliseconds, program, None);
    let loading = figure(&agent, "loaded", "load_ms")?;
    table.add("  of which loading the programs", Unit::Milliseconds, loading, None);
    table.add("  agent, peak", Unit::MiB, process_memory(&agent, "VmHWM:")?, None);
    table.add("  agent", Unit::MiB, process_memory(&agent, "VmRSS:")?, Some(60.0));
    Ok(agent)
}

fn memory(agent: &Agent, cluster: Cluster, table: &mut Table) -> Result<()> {
    let maps = agent.json(&["get", "maps"])?;
    let of = |belongs: fn(&str) -> bool| -> f64 {
        let maps = maps.as_array().into_iter().flatten();
        let maps = maps.filter(|map| map["name"].as_str().is_some_and(belongs));
        maps.filter_map(|map| map["bytes"].as_f64()).sum::<f64>() / MIB
    };
    let services = cluster.services;
    let target = if services > 1_000 { 40.0 } else { 8.0 };
    let is_service = |name: &str| {
        ["FRONTENDS", "SLOTS", "BACKENDS"].iter().any(|prefix| name.starts_with(prefix))
    };
    table.add(
        format!("kernel memory of all maps, {services} services"),
        Unit::MiB,
        of(|_| true),
        Some(target),
    );
    table.add("  of which services", Unit::MiB, of(is_service), None);
    Ok(())
}

/// Changes one endpoint of one service after the other.
fn change(agent: &Agent, cluster: Cluster, changes: u32, table: &mut Table) -> Result<()> {
    let frontends = open(agent)?;
    let mut end_to_end = Vec::new();
    let before = times(agent).len();
    for number in 0..changes {
        // Far apart, so that nothing is warm that would be cold in a cluster.
        let service = number * 7919 % cluster.services;
        let version = 1 + number / cluster.services;
        let old = lookup(&frontends, cluster, service)?;
        let started = Instant::now();
        cluster.write_slice(&agent.manifests, service, version)?;
        while lookup(&frontends, cluster, service)? == old {
            ensure!(
                started.elapsed() < PATIENCE,
                "a change has not reached the maps: {}",
                agent.log()
            );
        }
        end_to_end.push(started.elapsed().as_secs_f64() * 1e6);
    }
    std::thread::sleep(Duration::from_millis(50));
    let mut programmed = times(agent).split_off(before);
    ensure!(programmed.len() == changes as usize, "{} of {changes} changes", programmed.len());
    let name = format!("event to kernel, {changes} changes, {} services", cluster.services);
    quantiles(&name, &mut programmed, Some(1_000.0), table);
    quantiles("  end to end: file written and renamed, map polled", &mut end_to_end, None, table);
    table.add("  agent, afterwards", Unit::MiB, process_memory(agent, "VmRSS:")?, Some(60.0));
    Ok(())
}

/// Restarts the agent over maps that hold everything already.
fn restart(agent: &mut Agent, cluster: Cluster, table: &mut Table) -> Result<()> {
    agent.stop()?;
    let spawned = SystemTime::now();
    agent.start()?;
    let total = since(agent, spawned, "synced")?;
    let name = format!("restart to programmed, {} services", cluster.services);
    table.add(name, Unit::Milliseconds, total, Some(2_000.0));
    Ok(())
}

fn quantiles(name: &str, micros: &mut [f64], target: Option<f64>, table: &mut Table) {
    micros.sort_by(f64::total_cmp);
    let at = |part: f64| micros[((micros.len() - 1) as f64 * part).round() as usize];
    table.add(format!("{name}, median"), Unit::Microseconds, at(0.5), None);
    table.add("  p99", Unit::Microseconds, at(0.99), target);
    table.add("  slowest", Unit::Microseconds, at(1.0), None);
}

fn open(agent: &Agent) -> Result<HashMap<MapData, FrontendKey<V4>, Frontend>> {
    let data = MapData::from_pin(Pins::new(agent.bpf_root()).map(&FRONTENDS_V4))?;
    Ok(Map::HashMap(data).try_into()?)
}

fn lookup(
    frontends: &HashMap<MapData, FrontendKey<V4>, Frontend>,
    cluster: Cluster,
    service: u32,
) -> Result<u32> {
    let (ip, port) = cluster.frontend(service);
    let key = FrontendKey { addr: ip.into(), port: port.to_be(), proto: proto::TCP, scope: 0 };
    Ok(frontends.get(&key, 0).context("the frontend of a service")?.base)
}

/// Lines of the agent's log with a message, in order.
fn logged(agent: &Agent, message: &str) -> Vec<Value> {
    let log = agent.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

/// Time of each change so far in microseconds, as the agent measured it.
fn times(agent: &Agent) -> Vec<f64> {
    let lines = logged(agent, "programmed");
    lines.iter().filter_map(|line| Some(line["ns"].as_f64()? / 1e3)).collect()
}

fn figure(agent: &Agent, message: &str, field: &str) -> Result<f64> {
    let line =
        logged(agent, message).pop().with_context(|| format!("no '{message}' in the log"))?;
    // 128-bit numbers are logged as text.
    let number = line[field].as_f64().or_else(|| line[field].as_str()?.parse().ok());
    number.with_context(|| format!("no {field} in {line}"))
}

/// Milliseconds from a time to the last line of the log with a message.
fn since(agent: &Agent, start: SystemTime, message: &str) -> Result<f64> {
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

/// A line of the agent's `/proc/PID/status`.
fn process_memory(agent: &Agent, name: &str) -> Result<f64> {
    let pid = agent.pid().context("the agent does not run")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn verdict(row: &Row) -> &'static str {
    match row.target {
        Some(target) if row.value < target => "met",
        Some(_) => "missed",
        None => "-",
    }
}

fn print_table(table: &Table) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{:<72}   {:>12}   {:>12}   VERDICT", "WHAT", "VALUE", "TARGET")?;
    for row in &table.0 {
        let unit = row.unit.name();
        let value = format!("{:.1} {unit}", row.value);
        let target = row.target.map_or("-".into(), |target| format!("< {target} {unit}"));
        writeln!(out, "{:<72}   {value:>12}   {target:>12}   {}", row.what, verdict(row))?;
    }
    Ok(())
}

fn as_json(table: &Table) -> Value {
    let row = |row: &Row| {
        json!({
            "what": row.what.trim(),
            "unit": row.unit.name(),
            "value": row.value,
            "target": row.target,
            "verdict": verdict(row),
        })
    };
    table.0.iter().map(row).collect()
}

fn progress(text: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}
