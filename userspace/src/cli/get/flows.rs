// SPDX-License-Identifier: Apache-2.0
//! `pintle get flows`.

use std::net::SocketAddr;

use clap::Args;

use crate::{
    cli::{
        env::Env,
        names::Directory,
        output::{Cell, Column, Format, Row, Tone, human, print},
        verdict,
    },
    datapath::entry::{FlowEntry, FlowState},
    model::policy::Direction,
    server::policy::{Answer, Cause, Question},
};

/// Words of `--state`: of TCP, then of UDP.
const STATES: [&str; 8] = [
    "syn-sent",
    "syn-received",
    "established",
    "closing",
    "time-wait",
    "closed",
    "unanswered",
    "answered",
];

/// Flags of `get flows`.
#[derive(Clone, Debug, Args)]
pub struct FlowsArgs {
    /// Either end: an address, a pod or a service, as `namespace/name`.
    pub name: Option<String>,
    /// One protocol only.
    #[arg(long, value_parser = ["tcp", "udp", "sctp"], ignore_case = true)]
    pub proto: Option<String>,
    /// From this client only: `IP`, `IP:PORT` or a pod.
    #[arg(long)]
    pub from: Option<String>,
    /// To this frontend or backend only: `IP`, `IP:PORT`, a service or a pod.
    #[arg(long)]
    pub to: Option<String>,
    /// In this state only.
    #[arg(long, value_parser = STATES)]
    pub state: Option<String>,
    /// At most so many; 0 for all.
    #[arg(long, default_value_t = 1000)]
    pub limit: usize,
}

/// A tracked connection with names.
#[derive(Clone, Debug)]
pub struct FlowRow {
    flow: FlowEntry,
    client: Option<String>,
    backend: Option<String>,
    service: Option<String>,
    idle_ns: u64,
    /// What lets it pass on the client's side and on the server's, where one of our pods is there.
    allowed: [Cell; 2],
}

impl Row for FlowRow {
    const COLUMNS: &'static [Column] = &[
        Column::left("PROTO", "proto"),
        Column::left("STATE", "state"),
        Column::colon("SOURCE", "source"),
        Column::colon("FRONTEND", "frontend"),
        Column::colon("BACKEND", "backend"),
        Column::left("SERVICE", "service").wide(),
        Column::left("PATH", "path").wide(),
        Column::left("TABLE", "table").wide(),
        Column::left("HAIRPIN", "hairpin").wide(),
        Column::left("EGRESS", "egress_rule").wide(),
        Column::left("INGRESS", "ingress_rule").wide(),
        Column::right("INTERFACE", "client_ifindex").wide(),
        Column::right("PACKETS", "packets"),
        Column::right("BYTES", "bytes"),
        Column::right("IDLE", "idle_ns"),
    ];

    fn cells(&self) -> Vec<Cell> {
        let flow = &self.flow;
        vec![
            Cell::text(flow.protocol.as_str()),
            Cell::Word(flow.state.as_str(), tone(flow.state)),
            Cell::Pod(flow.client, self.client.clone()),
            match flow.direct || flow.of_socket {
                true => Cell::None,
                false => Cell::Address(flow.frontend, None),
            },
            Cell::Pod(flow.backend, self.backend.clone()),
            if flow.direct { Cell::None } else { Cell::known(self.service.as_deref()) },
            Cell::text(if flow.fast { "fast" } else { "stack" }),
            Cell::text(if flow.overflow { "overflow" } else { "main" }),
            Cell::text(if flow.hairpin { "yes" } else { "no" }),
            self.allowed[0].clone(),
            self.allowed[1].clone(),
            Cell::Number(flow.client_interface.0.into()),
            Cell::Number(flow.packets),
            Cell::Bytes(flow.bytes),
            Cell::Nanoseconds(self.idle_ns),
        ]
    }

    fn name(&self) -> String {
        let FlowEntry { protocol, client, backend, .. } = self.flow;
        format!("{protocol}/{client}/{backend}")
    }
}

fn tone(state: FlowState) -> Tone {
    use pintle_abi::flow::TcpState;
    match state {
        FlowState::Tcp(TcpState::Established) | FlowState::Answered => Tone::Good,
        FlowState::Tcp(TcpState::SynSent | TcpState::SynReceived | TcpState::Closing)
        | FlowState::Unanswered => Tone::Warning,
        FlowState::Tcp(TcpState::TimeWait | TcpState::Closed) => Tone::Plain,
    }
}

/// Prints the connections.
pub fn run(args: &FlowsArgs, env: &mut Env<'_>) -> anyhow::Result<()> {
    let maps = (env.maps)()?;
    let names = Directory::ask(env)?;
    let now = (env.now_ns)();
    let mut rows: Vec<FlowRow> = maps
        .flows()?
        .into_iter()
        .filter(|flow| is_wanted(flow, &names, args))
        .map(|flow| row(flow, &names, now))
        .collect();
    let key = |row: &FlowRow| {
        let flow = &row.flow;
        (flow.protocol, flow.client, flow.frontend, flow.backend, flow.overflow)
    };
    rows.sort_by_key(key);
    let found = rows.len();
    if args.limit > 0 && found > args.limit {
        rows.truncate(args.limit);
        let (shown, found) = (human::number(args.limit as u64), human::number(found as u64));
        writeln!(env.err, "note: {shown} of {found} flows; --limit 0 shows all")?;
    }
    if matches!(env.style.format, Format::Wide | Format::Json | Format::Jsonl) {
        name_rules(&mut rows, env);
    }
    Ok(print(&rows, &env.style, env.out)?)
}

fn row(flow: FlowEntry, names: &Directory, now_ns: u64) -> FlowRow {
    FlowRow {
        client: names.pod(flow.client.ip()).map(str::to_owned),
        backend: names.pod(flow.backend.ip()).map(str::to_owned),
        service: names.service(flow.service).map(str::to_owned),
        idle_ns: now_ns.saturating_sub(flow.last_seen_ns),
        allowed: [Cell::None, Cell::None],
        flow,
    }
}

/// Asks which rules let flows pass that were judged.
fn name_rules(rows: &mut [FlowRow], env: &Env<'_>) {
    let (mut places, mut questions) = (Vec::new(), Vec::new());
    for (index, row) in rows.iter_mut().enumerate() {
        for (side, question) in questions_of(&row.flow).into_iter().enumerate() {
            let Some(question) = question else { continue };
            if row.flow.from_node && question.direction == Direction::Ingress {
                row.allowed[side] = Cell::text(Cause::OwnNode.rule());
                continue;
            }
            row.allowed[side] = Cell::Unknown;
            places.push((index, side));
            questions.push(question);
        }
    }
    // Who does not answer was complained of when names were asked for.
    let answers = env.agent.judge(&questions).unwrap_or_default();
    for ((index, side), answer) in places.into_iter().zip(answers) {
        rows[index].allowed[side] = rule(&answer);
    }
}

/// What was judged: the client's side, and the server's.
fn questions_of(flow: &FlowEntry) -> [Option<Question>; 2] {
    let question = |epoch: u32, direction, pod: SocketAddr, peer: SocketAddr| {
        (epoch != 0).then(|| Question {
            pod: pod.ip(),
            direction,
            peer: peer.ip(),
            protocol: Some(flow.protocol),
            port: flow.backend.port(),
        })
    };
    [
        question(flow.egress_epoch, Direction::Egress, flow.client, flow.backend),
        question(flow.ingress_epoch, Direction::Ingress, flow.backend, flow.client),
    ]
}

fn rule(answer: &Answer) -> Cell {
    if answer.pod.is_none() {
        return Cell::Unknown;
    }
    let words = verdict::words(&answer.cause);
    match (answer.is_allowed, &answer.would_deny) {
        (true, None) => Cell::text(words),
        (true, Some(cause)) => Cell::text(format!("would-deny {}", verdict::words(cause))),
        // It was allowed, and will be judged again with its next packet.
        (false, _) => Cell::text(format!("denied {words}")),
    }
}

fn is_wanted(flow: &FlowEntry, names: &Directory, args: &FlowsArgs) -> bool {
    let pod = |address: SocketAddr| names.pod_always(address.ip());
    let from = |word: &String| is_end(word, flow.client, pod(flow.client));
    let to = |word: &String| {
        // The service is stored with its port's name; both forms are understood.
        let service = names.service(flow.service);
        let without_port = service.and_then(|name| name.rsplit_once(':')).map(|(name, _)| name);
        is_end(word, flow.frontend, service)
            || without_port == Some(word)
            || is_end(word, flow.backend, pod(flow.backend))
    };
    args.proto.as_ref().is_none_or(|word| word.eq_ignore_ascii_case(flow.protocol.as_str()))
        && args.state.as_ref().is_none_or(|word| flow.state.as_str() == word)
        && args.from.as_ref().is_none_or(from)
        && args.to.as_ref().is_none_or(to)
        && args.name.as_ref().is_none_or(|word| from(word) || to(word))
}

/// The word names this end: its address with or without port, or its name.
fn is_end(word: &str, address: SocketAddr, name: Option<&str>) -> bool {
    name == Some(word)
        || word.parse::<SocketAddr>().is_ok_and(|wanted| wanted == address)
        || word.parse::<std::net::IpAddr>().is_ok_and(|wanted| wanted == address.ip())
}

#[cfg(test)]
mod tests {
    use pintle_abi::flow::TcpState;

    use super::*;

    #[test]
    fn every_state_can_be_asked_for() {
        let tcp = [
            TcpState::SynSent,
            TcpState::SynReceived,
            TcpState::Established,
            TcpState::Closing,
            TcpState::TimeWait,
            TcpState::Closed,
        ];
        let udp = [FlowState::Unanswered, FlowState::Answered];
        let states = tcp.into_iter().map(FlowState::Tcp).chain(udp);
        assert!(states.map(FlowState::as_str).eq(STATES));
    }
}
