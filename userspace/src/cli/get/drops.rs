// SPDX-License-Identifier: Apache-2.0
//! `pintle get drops`: what policies denied, or would deny, by rule; and what was dropped because
//! nothing is known of its pod, or because its pod used a foreign source.

use clap::Args;

use crate::{
    cli::{
        env::Env,
        output::{Cell, Column, Row, print},
        verdict,
    },
    datapath::policy_entry::DeniedEntry,
    server::policy::{Denial, NamedDenial},
};

/// Flags of `get drops`.
#[derive(Clone, Debug, Args)]
pub struct DropsArgs {
    /// Either end: a pod, as `namespace/name`, or an address.
    pub name: Option<String>,
    /// Because of this policy only: `namespace/name`, or `name` of a ClusterNetworkPolicy.
    #[arg(long)]
    pub policy: Option<String>,
}

/// Packets that one rule denied of a pod, or would deny.
#[derive(Clone, Debug)]
pub struct DropRow {
    entry: DeniedEntry,
    named: Option<NamedDenial>,
    ago_ns: u64,
    numeric: bool,
}

impl Row for DropRow {
    const COLUMNS: &'static [Column] = &[
        Column::right("LAST", "last_ago_ns"),
        Column::left("POD", "pod"),
        Column::left("DIRECTION", "direction"),
        Column::left("PEER", "last_peer"),
        Column::left("PROTO", "last_proto"),
        Column::right("PORT", "last_port"),
        Column::right("PACKETS", "packets"),
        Column::left("VERDICT", "verdict"),
        Column::left("TIER", "tier"),
        Column::left("POLICY", "policies"),
        Column::left("RULE", "rule"),
        Column::left("HOOK", "hook").wide(),
        Column::right("INTERFACE", "ifindex").wide(),
        Column::left("RULESET", "ruleset").wide(),
        Column::left("CLASS", "class").wide(),
        Column::right("PORT_CLASS", "port_class").wide(),
    ];

    fn cells(&self) -> Vec<Cell> {
        let DeniedEntry { key, packets, peer, port, hook, .. } = self.entry;
        let named = self.named.as_ref();
        let [tier, policies, rule] = verdict::cells(named.map(|named| &named.cause));
        let asked = |cell| if key.outcome.has_ruleset() { cell } else { Cell::None };
        let peer_name = named.and_then(|named| named.peer.clone()).filter(|_| !self.numeric);
        vec![
            Cell::Nanoseconds(self.ago_ns),
            Cell::known(named.and_then(|named| named.pod.as_deref())),
            Cell::text(key.direction.as_str()),
            Cell::Host(peer, peer_name),
            Cell::text(self.entry.protocol()),
            Cell::Port(port),
            Cell::Number(packets),
            verdict::outcome(key.outcome),
            tier,
            policies,
            rule,
            hook.map_or(Cell::Unknown, |hook| Cell::text(hook.as_str())),
            Cell::Number(key.ifindex.into()),
            asked(Cell::Ruleset(key.ruleset)),
            asked(Cell::Id(key.class)),
            asked(Cell::Number(key.port_class.into())),
        ]
    }

    fn name(&self) -> String {
        let pod = self.named.as_ref().and_then(|named| named.pod.clone());
        pod.unwrap_or_else(|| format!("interface/{}", self.entry.key.ifindex))
    }
}

/// Prints what was denied, the latest first.
pub fn run(args: &DropsArgs, env: &mut Env<'_>) -> anyhow::Result<()> {
    let maps = (env.maps)()?;
    verdict::note_off(&*maps, env)?;
    let denied = maps.denied()?;
    let now = (env.now_ns)();
    let mut rows = named(denied, env)?.into_iter().map(|(entry, named)| DropRow {
        ago_ns: now.saturating_sub(entry.last_seen_ns),
        numeric: env.style.numeric,
        named,
        entry,
    });
    let rows: Vec<DropRow> = rows.by_ref().filter(|row| is_wanted(row, args)).collect();
    Ok(print(&rows, &env.style, env.out)?)
}

/// Denials with their names, as far as the agent tells them.
pub(super) fn named(
    denied: Vec<DeniedEntry>,
    env: &mut Env<'_>,
) -> anyhow::Result<Vec<(DeniedEntry, Option<NamedDenial>)>> {
    let questions: Vec<Denial> =
        denied.iter().map(|entry| Denial { key: entry.key, peer: entry.peer }).collect();
    let names = match env.agent.name_denials(&questions) {
        Ok(names) => names.into_iter().map(Some).collect(),
        Err(error) => {
            writeln!(env.err, "note: names are unknown, the agent does not answer")?;
            if env.verbose {
                writeln!(env.err, "note: {error}")?;
            }
            Vec::new()
        }
    };
    Ok(denied.into_iter().zip(names.into_iter().chain(std::iter::repeat(None))).collect())
}

fn is_wanted(row: &DropRow, args: &DropsArgs) -> bool {
    let named = row.named.as_ref();
    let is_end = |word: &String| {
        named.is_some_and(|named| named.pod.as_ref() == Some(word))
            || named.is_some_and(|named| named.peer.as_ref() == Some(word))
            || word.parse().is_ok_and(|ip: std::net::IpAddr| ip == row.entry.peer)
    };
    let is_because_of =
        |word: &String| named.is_some_and(|named| named.cause.policies().contains(word));
    args.name.as_ref().is_none_or(is_end) && args.policy.as_ref().is_none_or(is_because_of)
}
