// SPDX-License-Identifier: Apache-2.0
//! `pintle get policies`: what became of each policy on this node.

use std::collections::HashMap;

use clap::Args;

use super::drops;
use crate::{
    cli::{
        env::Env,
        output::{
            Cell, Column, Row, Tone,
            hint::{CommandError, nearest},
            print,
        },
        verdict,
    },
    datapath::policy_entry::DeniedEntry,
    policy::Outcome,
    server::policy::{NamedDenial, Policy},
};

/// Flags of `get policies`.
#[derive(Clone, Debug, Args)]
pub struct PoliciesArgs {
    /// One policy only: `namespace/name`, or `name` of a ClusterNetworkPolicy.
    pub name: Option<String>,
    /// NetworkPolicies of this namespace only.
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// Packets that were denied because of a policy, or would be.
#[derive(Clone, Copy, Debug, Default)]
struct Packets {
    denied: u64,
    would_deny: u64,
}

/// A policy with what it denied.
#[derive(Clone, Debug)]
pub struct PolicyRow {
    policy: Policy,
    packets: Packets,
}

impl PolicyRow {
    fn namespace(&self) -> Option<&str> {
        self.policy.name.split_once('/').map(|(namespace, _)| namespace)
    }
}

impl Row for PolicyRow {
    const COLUMNS: &'static [Column] = &[
        Column::left("KIND", "kind"),
        Column::left("NAMESPACE", "namespace"),
        Column::left("NAME", "name"),
        Column::left("TIER", "tier"),
        Column::right("PRIORITY", "priority"),
        Column::left("MODE", "mode"),
        Column::right("PODS", "pods"),
        Column::right("RULESETS", "rulesets"),
        Column::right("ROWS", "rows"),
        Column::right("DENIED", "denied_packets"),
        Column::right("WOULD_DENY", "would_deny_packets"),
        Column::left("POD_NAMES", "pod_names").wide(),
        Column::left("RULESET_IDS", "ruleset_ids").wide(),
    ];

    fn cells(&self) -> Vec<Cell> {
        let policy = &self.policy;
        let short = policy.name.split_once('/').map_or(&*policy.name, |(_, name)| name);
        let ids = policy.rulesets.iter().map(|id| Cell::Ruleset(*id).for_people());
        vec![
            Cell::text(&policy.kind),
            self.namespace().map_or(Cell::None, Cell::text),
            Cell::text(short),
            Cell::text(&policy.tier),
            policy.priority.map_or(Cell::None, |priority| Cell::Number(priority.into())),
            match policy.enforcement.as_str() {
                "audited" => Cell::Word("audited", Tone::Warning),
                other => Cell::text(other),
            },
            Cell::Number(policy.pods.len() as u64),
            Cell::Number(policy.rulesets.len() as u64),
            Cell::Number(policy.rows),
            Cell::Number(self.packets.denied),
            Cell::Number(self.packets.would_deny),
            Cell::Words(policy.pods.clone()),
            Cell::Words(ids.collect()),
        ]
    }

    fn name(&self) -> String {
        format!("{}/{}", self.policy.kind, self.policy.name).to_lowercase()
    }
}

/// Prints the policies.
pub fn run(args: &PoliciesArgs, env: &mut Env<'_>) -> anyhow::Result<()> {
    let maps = (env.maps)()?;
    verdict::note_off(&*maps, env)?;
    let known = env.agent.policies().map_err(CommandError::NoAgent)?.policies;
    let denied = drops::named(maps.denied()?, env)?;
    let packets = by_policy(&denied);
    let row = |policy: Policy| {
        let packets = packets.get(policy.name.as_str()).copied().unwrap_or_default();
        PolicyRow { policy, packets }
    };
    let mut rows: Vec<PolicyRow> = known.into_iter().map(row).collect();
    if let Some(namespace) = &args.namespace {
        rows.retain(|row| row.namespace() == Some(namespace));
    }
    if let Some(name) = &args.name {
        let names: Vec<String> = rows.iter().map(|row| row.policy.name.clone()).collect();
        rows.retain(|row| row.policy.name == *name);
        if rows.is_empty() {
            let nearest = nearest(name, names.iter().map(String::as_str));
            let name = name.clone();
            return Err(CommandError::NoSuch { kind: "policy", name, nearest }.into());
        }
    }
    Ok(print(&rows, &env.style, env.out)?)
}

/// Each packet counts for every policy that its denial names: several can isolate a pod together.
fn by_policy(denied: &[(DeniedEntry, Option<NamedDenial>)]) -> HashMap<&str, Packets> {
    let mut found: HashMap<&str, Packets> = HashMap::new();
    for (entry, named) in denied {
        let policies = named.iter().flat_map(|named| named.cause.policies());
        for policy in policies {
            let packets = found.entry(policy).or_default();
            match entry.key.outcome {
                Outcome::WouldDeny => packets.would_deny += entry.packets,
                _ => packets.denied += entry.packets,
            }
        }
    }
    found
}
