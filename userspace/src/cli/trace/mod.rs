// SPDX-License-Identifier: Apache-2.0
//! `pintle trace`: what services and policies make of a connection.
//!
//! It evaluates what is programmed: frontends and backends as the maps have them, policies as the
//! agent has compiled them, and whether the maps have that. No packet is sent.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, ValueEnum};

use super::{
    Outcome,
    env::Env,
    names::Directory,
    output::{Cell, Column, Row, Tone, hint::CommandError, print},
};
use crate::{
    model::{addr::Protocol, ip::Family},
    server::policy::{Party, PartyKind},
};

mod candidates;
mod sides;

use sides::Side;

/// Flags of `trace`.
#[derive(Clone, Debug, Args)]
pub struct TraceArgs {
    /// Who dials: a pod, as `namespace/name`, or an address.
    #[arg(long, value_name = "POD|IP")]
    pub from: String,
    /// What is dialled: a service or a pod, as `namespace/name`, or an address; and the port.
    #[arg(long, value_name = "SERVICE|POD|IP[:PORT]")]
    pub to: String,
    /// The protocol.
    #[arg(long, value_enum, default_value = "tcp", ignore_case = true)]
    pub protocol: TraceProtocol,
    /// End with exit code 3 unless every candidate has this verdict.
    #[arg(long, value_enum)]
    pub expect: Option<Expected>,
}

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// Ping, or anything else without ports.
    Icmp,
}

impl TraceProtocol {
    fn transport(self) -> Option<Protocol> {
        match self {
            Self::Tcp => Some(Protocol::Tcp),
            Self::Udp => Some(Protocol::Udp),
            Self::Sctp => Some(Protocol::Sctp),
            Self::Icmp => None,
        }
    }
}

/// The verdict that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Expected {
    /// It passes.
    Allowed,
    /// It does not.
    Denied,
}

/// Where a connection may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    /// To this address.
    To(IpAddr),
    /// Nowhere: the client is refused, or waits in vain.
    Nowhere(&'static str),
}

/// Where a connection may lead, and by which frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    frontend: Option<SocketAddr>,
    lead: Lead,
    /// Port of the server; 0 without ports.
    port: u16,
    family: Family,
}

/// What is said of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Allowed,
    WouldDeny,
    Denied,
    Refused,
}

impl Said {
    fn cell(self) -> Cell {
        match self {
            Self::Allowed => Cell::Word("allowed", Tone::Good),
            Self::WouldDeny => Cell::Word("would-deny", Tone::Warning),
            Self::Denied => Cell::Word("denied", Tone::Bad),
            Self::Refused => Cell::Word("refused", Tone::Bad),
        }
    }

    fn passes(self) -> bool {
        matches!(self, Self::Allowed | Self::WouldDeny)
    }
}

/// One side of a connection with one of its candidates.
#[derive(Clone, Debug)]
struct TraceRow {
    candidate: Candidate,
    server_name: Option<String>,
    side: Side,
}

impl Row for TraceRow {
    const COLUMNS: &'static [Column] = &[
        Column::colon("FRONTEND", "frontend"),
        Column::colon("SERVER", "server"),
        Column::left("DIRECTION", "direction"),
        Column::left("POD", "pod"),
        Column::left("VERDICT", "verdict"),
        Column::left("TIER", "tier"),
        Column::left("POLICY", "policies"),
        Column::left("RULE", "rule"),
        Column::left("MAPS", "maps").wide(),
    ];

    fn cells(&self) -> Vec<Cell> {
        let Candidate { frontend, lead, port, .. } = self.candidate;
        let [tier, policies, rule] = self.side.reason();
        vec![
            frontend.map_or(Cell::None, |address| Cell::Address(address, None)),
            match (lead, port) {
                (Lead::To(ip), 0) => Cell::Host(ip, self.server_name.clone()),
                (Lead::To(ip), port) => {
                    Cell::Pod(SocketAddr::new(ip, port), self.server_name.clone())
                }
                (Lead::Nowhere(_), _) => Cell::None,
            },
            self.side.direction.map_or(Cell::None, |direction| Cell::text(direction.as_str())),
            self.side.pod.as_deref().map_or(Cell::None, Cell::text),
            self.side.said.cell(),
            tier,
            policies,
            rule,
            self.side.maps.map_or(Cell::None, |agreement| agreement.cell()),
        ]
    }

    fn name(&self) -> String {
        match self.candidate.lead {
            Lead::To(ip) => SocketAddr::new(ip, self.candidate.port).to_string(),
            Lead::Nowhere(_) => "-".to_owned(),
        }
    }
}

/// Prints what is said of each candidate, on each side.
pub fn run(args: &TraceArgs, env: &mut Env<'_>) -> anyhow::Result<Outcome> {
    let maps = (env.maps)()?;
    let names = env.agent.names().map_err(CommandError::NoAgent)?;
    let names = Directory::new(names, env.style.numeric);
    let client = find(&args.from, env)?;
    if client.ips.is_empty() {
        let name = args.from.clone();
        return Err(CommandError::NoSuch { kind: "pod", name, nearest: None }.into());
    }
    let candidates = candidates::of(args, &client, &*maps, &names, env)?;
    let judge = sides::Judge::new(args.protocol.transport(), &client, &*maps)?;
    let mut rows = Vec::new();
    for candidate in candidates {
        let same_family = |ip: &&IpAddr| Family::of(**ip) == candidate.family;
        let Some(from) = client.ips.iter().find(same_family) else { continue };
        let server = match candidate.lead {
            Lead::To(ip) => find(&ip.to_string(), env)?,
            Lead::Nowhere(_) => Party::default(),
        };
        let server_name = server.name.clone().filter(|_| !env.style.numeric);
        for side in judge.sides(*from, candidate, &server, &*env.agent)? {
            rows.push(TraceRow { candidate, server_name: server_name.clone(), side });
        }
    }
    if rows.iter().any(|row| row.side.maps == Some(sides::Agreement::Differ)) {
        writeln!(
            env.err,
            "note: the maps differ; a change may be on its way, or `pintle status` tells"
        )?;
    }
    print(&rows, &env.style, env.out)?;
    Ok(if is_met(args.expect, &rows) { Outcome::Good } else { Outcome::Bad })
}

fn is_met(expected: Option<Expected>, rows: &[TraceRow]) -> bool {
    // One side is enough to keep a connection from passing.
    let passes = |candidate: Candidate| {
        rows.iter().filter(|row| row.candidate == candidate).all(|row| row.side.said.passes())
    };
    match expected {
        None => true,
        Some(Expected::Allowed) => !rows.is_empty() && rows.iter().all(|row| passes(row.candidate)),
        Some(Expected::Denied) => !rows.iter().any(|row| passes(row.candidate)),
    }
}

/// Who answers to a name or an address.
fn find(word: &str, env: &Env<'_>) -> anyhow::Result<Party> {
    let found = env.agent.find(&[word.to_owned()]).map_err(CommandError::NoAgent)?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// Frontends for clients outside the cluster are not for those that are here.
fn is_inside(client: &Party) -> bool {
    matches!(client.kind, PartyKind::LocalPod | PartyKind::OwnNode)
}
