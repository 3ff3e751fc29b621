// SPDX-License-Identifier: Apache-2.0
//! `pintle status`: one screen, is this node fine?

use std::{
    io::{self, Write},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use pintle_abi::ABI_VERSION;
use serde::Serialize;

use super::{
    Outcome,
    client::Agent,
    env::Env,
    output::{Format, Style, Tone, human},
};
use crate::{
    datapath::{
        entry::{Counted, CounterEntry, MapFill},
        policy_view::PolicyMode,
        view::Maps,
    },
    model::time,
    server::{
        policy::PolicySummary,
        state::{Interface, SocketLb, Status, Uplink},
    },
};

/// Pause between questions to the agent.
const POLL: Duration = Duration::from_millis(20);

/// Flags of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Wait until everything that the agent has read so far is programmed.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "wait")]
    pub timeout: u64,
}

/// What the screen shows; also its JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    healthy: bool,
    problems: Vec<String>,
    node: Option<String>,
    agent: Option<AgentPart>,
    kernel: String,
    abi: u32,
    programs: Option<ProgramsPart>,
    sockets: Option<SocketLb>,
    services: Option<ServicesPart>,
    policies: Option<PoliciesPart>,
    rejected: Option<Vec<Rejected>>,
    flows: Option<FlowsPart>,
    drops: Option<DropsPart>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct AgentPart {
    version: String,
    started: String,
    uptime_seconds: u64,
    synced: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ProgramsPart {
    attached: u64,
    pods: u64,
    fast: u64,
    interfaces: Option<Vec<Interface>>,
    uplinks: Option<Vec<Uplink>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ServicesPart {
    programmed: u64,
    known: u64,
    revision_read: u64,
    revision_programmed: u64,
    programmed_ago_seconds: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PoliciesPart {
    /// What becomes of pods that nothing is known of: `closed` or `open`; `off` if nothing is
    /// judged. `None` if the maps cannot be read.
    mode: Option<&'static str>,
    /// The epoch at which verdicts count.
    epoch: Option<u32>,
    #[serde(flatten)]
    summary: PolicySummary,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Rejected {
    object: String,
    reason: String,
    since: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct FlowsPart {
    entries: u64,
    capacity: u64,
    overflow: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct DropsPart {
    packets: u64,
    reasons: Vec<Drops>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Drops {
    reason: String,
    packets: u64,
}

/// Prints the screen; bad if the node is not fine or the wait was in vain.
pub fn run(args: &StatusArgs, env: &mut Env<'_>) -> anyhow::Result<Outcome> {
    let mut late = None;
    if args.wait {
        late = wait(&*env.agent, Duration::from_secs(args.timeout)).err();
    }
    let status = env.agent.status();
    let maps = match (env.maps)() {
        // Without maps and without agent there is nothing to show.
        Err(error) if status.is_err() => return Err(error.into()),
        maps => maps.map_err(|error| error.to_string()),
    };
    let mut report = report(status, maps, env.kernel.clone())?;
    report.problems.extend(late);
    report.healthy = report.problems.is_empty();
    match env.style.format {
        Format::Json | Format::Jsonl => writeln!(env.out, "{}", serde_json::to_string(&report)?)?,
        Format::Name => writeln!(env.out, "{}", report.node.as_deref().unwrap_or("?"))?,
        Format::Table | Format::Wide => render(&report, &env.style, env.out)?,
    }
    Ok(if report.healthy { Outcome::Good } else { Outcome::Bad })
}

/// Returns when what the agent had read at its first answer is programmed.
fn wait(agent: &dyn Agent, timeout: Duration) -> Result<(), String> {
    let start = Instant::now();
    let mut target = None;
    loop {
        if let Ok(status) = agent.status() {
            let target = *target.get_or_insert(status.revision_read);
            if status.synced && status.revision_programmed >= target {
                return Ok(());
            }
        }
        if start.elapsed() >= timeout {
            let waited = human::seconds(timeout.as_secs());
            return Err(format!("not everything is programmed after {waited}"));
        }
        thread::sleep(POLL);
    }
}

fn report(
    status: io::Result<Status>,
    maps: Result<Box<dyn Maps>, String>,
    kernel: String,
) -> anyhow::Result<Report> {
    let mut report = Report {
        healthy: true,
        problems: Vec::new(),
        node: None,
        agent: None,
        kernel,
        abi: ABI_VERSION,
        programs: None,
        sockets: None,
        services: None,
        policies: None,
        rejected: None,
        flows: None,
        drops: None,
    };
    let mut policy = None;
    match maps {
        Ok(maps) => {
            policy = Some(maps.policy_mode()?);
            let devices = maps.devices()?;
            report.programs = Some(ProgramsPart {
                attached: maps.links()?.len() as u64,
                pods: devices.len() as u64,
                fast: devices.iter().filter(|device| device.fast).count() as u64,
                interfaces: None,
                uplinks: None,
            });
            report.flows = Some(flows(&maps.fill(is_of_flows)?));
            report.drops = Some(drops(&maps.counters()?));
        }
        Err(error) => report.problems.push(error),
    }
    match status {
        Ok(status) => take_in(&mut report, status, policy),
        Err(error) => report.problems.push(silence(&error)),
    }
    Ok(report)
}

/// Why the agent does not answer.
fn silence(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "no agent is running; traffic goes on, changes do not arrive".into()
        }
        _ => format!("the agent does not answer: {error}"),
    }
}

fn take_in(report: &mut Report, status: Status, policy: Option<(PolicyMode, u32)>) {
    if !status.synced {
        report.problems.push("the initial state is not programmed yet".into());
    }
    report.problems.extend(status.errors);
    for interface in &status.interfaces {
        if let Some(failed) = &interface.failed {
            report.problems.push(format!("{} has no programs: {failed}", interface.name));
        }
    }
    report.sockets = Some(status.socket_lb);
    if let Some(programs) = &mut report.programs {
        programs.interfaces = Some(status.interfaces);
        programs.uplinks = Some(status.uplinks);
    }
    report.node = Some(status.node);
    report.agent = Some(AgentPart {
        version: status.version,
        started: time::rfc3339(status.started_unix),
        uptime_seconds: status.uptime_seconds,
        synced: status.synced,
    });
    report.services = Some(ServicesPart {
        programmed: status.services_programmed,
        known: status.services,
        revision_read: status.revision_read,
        revision_programmed: status.revision_programmed,
        programmed_ago_seconds: status.programmed_ago_seconds,
    });
    report.policies = Some(PoliciesPart {
        mode: policy.map(|(mode, _)| mode.as_str()),
        epoch: policy.map(|(_, epoch)| epoch),
        summary: status.policy,
    });
    let rejected = status.rejections.into_iter().map(|rejection| Rejected {
        object: rejection.object,
        reason: rejection.reason,
        since: time::rfc3339(rejection.since_unix),
    });
    report.rejected = Some(rejected.collect());
}

/// Parts of the names of maps with flows, and of those with flows for which these have no room.
const FLOWS: [&str; 2] = ["_FLOWS_", "_OVERFLOW_"];

fn is_of_flows(name: &str) -> bool {
    FLOWS.iter().any(|part| name.contains(part))
}

fn flows(fill: &[MapFill]) -> FlowsPart {
    let [ordinary, overflow] = FLOWS;
    let sum = |part: &str, value: fn(&MapFill) -> u64| {
        fill.iter().filter(|map| map.name.contains(part)).map(value).sum()
    };
    let entries = |map: &MapFill| map.entries.unwrap_or(0);
    FlowsPart {
        entries: sum(ordinary, entries),
        capacity: sum(ordinary, |map| map.capacity),
        overflow: sum(overflow, entries),
    }
}

fn drops(counters: &[CounterEntry]) -> DropsPart {
    let mut reasons: Vec<Drops> = Vec::new();
    for counter in counters {
        if let Counted::Drop(reason) = counter.counted
            && counter.value > 0
        {
            match reasons.iter_mut().find(|drops| drops.reason == reason.as_str()) {
                Some(drops) => drops.packets += counter.value,
                None => {
                    reasons.push(Drops { reason: reason.as_str().into(), packets: counter.value })
                }
            }
        }
    }
    reasons.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| a.reason.cmp(&b.reason)));
    DropsPart { packets: reasons.iter().map(|drops| drops.packets).sum(), reasons }
}

fn render(report: &Report, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let paint = |tone: Tone, text: &str| match style.color {
        true => tone.paint(text),
        false => text.to_owned(),
    };
    let agent = match &report.agent {
        Some(agent) => {
            format!("agent {} up {}", agent.version, human::seconds(agent.uptime_seconds))
        }
        None => "agent ?".into(),
    };
    let node = report.node.as_deref().unwrap_or("?");
    let verdict =
        if report.healthy { paint(Tone::Good, "OK") } else { paint(Tone::Bad, "UNHEALTHY") };
    let (kernel, abi) = (&report.kernel, report.abi);
    writeln!(out, "{node}   {agent}   kernel {kernel}   abi {abi}   {verdict}")?;
    writeln!(out)?;
    let lines = lines(report);
    let width = |part: fn(&(String, String, String)) -> &String| {
        lines.iter().map(|line| part(line).chars().count()).max().unwrap_or(0)
    };
    let (first, second) = (width(|line| &line.0), width(|line| &line.1));
    for (word, value, detail) in &lines {
        let line = format!("{word:first$}   {value:second$}   {detail}");
        let tone = match word.as_str() {
            "PROBLEM" => Tone::Bad,
            "REJECTED" => Tone::Warning,
            _ => Tone::Plain,
        };
        writeln!(out, "{}", paint(tone, line.trim_end()))?;
    }
    for problem in &report.problems {
        writeln!(out, "{}", paint(Tone::Bad, &format!("{:first$}   {problem}", "PROBLEM")))?;
    }
    Ok(())
}

/// Word, number and detail of each line.
fn lines(report: &Report) -> Vec<(String, String, String)> {
    let line = |word: &str, value: Option<String>, detail: String| {
        (word.to_owned(), value.unwrap_or_else(|| "?".into()), detail)
    };
    let (programs, services) = (report.programs.as_ref(), report.services.as_ref());
    let mut lines = vec![
        line(
            "PROGRAMS",
            programs.map(|part| format!("{} attached", human::number(part.attached))),
            programs.map(programs_detail).unwrap_or_default(),
        ),
        line(
            "XDP",
            programs.and_then(|part| part.uplinks.as_deref()).map(xdp),
            programs.and_then(|part| part.uplinks.as_deref()).map(xdp_detail).unwrap_or_default(),
        ),
        line(
            "SOCKETS",
            report.sockets.as_ref().map(|part| part.mode.clone()),
            report.sockets.as_ref().map(sockets_detail).unwrap_or_default(),
        ),
        line(
            "SERVICES",
            services.map(|part| of(part.programmed, part.known)),
            services.map(services_detail).unwrap_or_default(),
        ),
        line(
            "POLICIES",
            report.policies.as_ref().map(|part| match part.mode {
                Some("off") => "off".into(),
                _ => human::number(part.summary.known),
            }),
            report.policies.as_ref().map(policies_detail).unwrap_or_default(),
        ),
    ];
    for rejection in report.rejected.iter().flatten() {
        let (object, reason) = (&rejection.object, &rejection.reason);
        lines.push(line("REJECTED", Some(object.clone()), reason.clone()));
    }
    let (flows, drops) = (report.flows.as_ref(), report.drops.as_ref());
    lines.push(line(
        "FLOWS",
        flows.map(|part| of(part.entries, part.capacity)),
        flows.map(flows_detail).unwrap_or_default(),
    ));
    lines.push(line(
        "DROPS",
        drops.map(|part| human::number(part.packets)),
        drops.map(drops_detail).unwrap_or_default(),
    ));
    lines
}

fn programs_detail(part: &ProgramsPart) -> String {
    let mut detail = format!("tc on {} pods, {} of them fast", part.pods, part.fast);
    // The most frequent reason would hide the rare one: each interface with its own, up to a few.
    const SHOWN: usize = 3;
    let slow: Vec<String> = (part.interfaces.iter().flatten())
        .filter_map(|interface| Some(format!("{} {}", interface.name, interface.slow.as_ref()?)))
        .collect();
    if !slow.is_empty() {
        let more = if slow.len() > SHOWN { ", ..." } else { "" };
        detail += &format!(" ({}{more})", slow[..slow.len().min(SHOWN)].join(", "));
    }
    detail
}

fn xdp(uplinks: &[Uplink]) -> String {
    let native = uplinks.iter().filter(|uplink| uplink.without_xdp.is_none()).count();
    format!("{} uplinks", of(native as u64, uplinks.len() as u64))
}

/// Why the others have it not.
fn xdp_detail(uplinks: &[Uplink]) -> String {
    let without = uplinks
        .iter()
        .filter_map(|uplink| Some(format!("{} {}", uplink.name, uplink.without_xdp.as_ref()?)));
    without.collect::<Vec<_>>().join(", ")
}

fn sockets_detail(part: &SocketLb) -> String {
    match (&part.cgroup, &part.failed) {
        (Some(cgroup), _) => format!("translated at connect time below {cgroup}"),
        (None, None) => "none is translated, their packets are".into(),
        (None, Some(failed)) => format!("none is translated, their packets are: {failed}"),
    }
}

fn services_detail(part: &ServicesPart) -> String {
    let mut detail = format!("revision {}", part.revision_programmed);
    if part.revision_read > part.revision_programmed {
        detail += &format!(" of {}", part.revision_read);
    }
    if let Some(ago) = part.programmed_ago_seconds {
        detail += &format!(", {} ago", human::seconds(ago));
    }
    detail
}

fn policies_detail(part: &PoliciesPart) -> String {
    let PolicySummary { audited, policed, rulesets, rows, .. } = &part.summary;
    if part.mode == Some("off") {
        return "nothing is judged".into();
    }
    let (policed, rulesets, rows) =
        (human::number(*policed), human::number(*rulesets), human::number(*rows));
    let mut detail = format!("{policed} pods policed, {rulesets} rulesets, {rows} rows");
    if let Some(epoch) = part.epoch {
        detail += &format!(", epoch {epoch}");
    }
    detail += match (audited, part.mode) {
        (true, _) => ", audited: none drops anything",
        (false, Some("open")) => ", unknown pods pass",
        (false, _) => "",
    };
    detail
}

fn flows_detail(part: &FlowsPart) -> String {
    let overflow = match part.overflow {
        0 => "none in overflow".into(),
        overflow => format!("{} in overflow", human::number(overflow)),
    };
    format!("{} full, {overflow}", human::percent(part.entries, part.capacity))
}

fn drops_detail(part: &DropsPart) -> String {
    let drops = part.reasons.iter();
    let words = drops.map(|drops| format!("{} {}", drops.reason, human::number(drops.packets)));
    words.collect::<Vec<_>>().join("; ")
}

fn of(part: u64, whole: u64) -> String {
    format!("{} of {}", human::number(part), human::number(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_do_not_hold_as_usual_say_so() {
        let part = |mode: &'static str, audited| PoliciesPart {
            mode: Some(mode),
            epoch: Some(4),
            summary: PolicySummary { audited, ..PolicySummary::default() },
        };
        let usual = "0 pods policed, 0 rulesets, 0 rows, epoch 4";
        assert_eq!(policies_detail(&part("closed", false)), usual);
        assert_eq!(policies_detail(&part("off", false)), "nothing is judged");
        let open = format!("{usual}, unknown pods pass");
        assert_eq!(policies_detail(&part("open", false)), open);
        let audited = format!("{usual}, audited: none drops anything");
        assert_eq!(policies_detail(&part("closed", true)), audited);
    }
}
