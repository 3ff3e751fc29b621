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
    datapath::policy_entry::{AllowedEntry, DeniedEntry},
    policy::{AllowedKey, Outcome},
    server::policy::{Cause, NamedDenial, Policy},
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

/// What was allowed and denied because of a policy.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Connections.
    allowed: u64,
    /// Packets.
    denied: u64,
    /// Packets that it would deny if it were enforced.
    would_deny: u64,
}

/// A policy with what it did.
#[derive(Clone, Debug)]
pub struct PolicyRow {
    policy: Policy,
    counts: Counts,
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
        Column::right("CONNECTIONS_ALLOWED", "allowed_connections"),
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
            Cell::Number(self.counts.allowed),
            Cell::Number(self.counts.denied),
            Cell::Number(self.counts.would_deny),
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
    let allowed = maps.allowed()?;
    let keys: Vec<AllowedKey> = allowed.iter().map(|entry| entry.key).collect();
    let rules = env.agent.name_allowed(&keys).map_err(CommandError::NoAgent)?;
    let counts = by_policy(&denied, allowed.iter().zip(&rules));
    let row = |policy: Policy| {
        let counts = counts.get(policy.name.as_str()).copied().unwrap_or_default();
        PolicyRow { policy, counts }
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

/// Each packet counts for every policy that its denial names: several can isolate a pod together. A
/// connection counts for the one whose rule allows it.
fn by_policy<'a>(
    denied: &'a [(DeniedEntry, Option<NamedDenial>)],
    allowed: impl Iterator<Item = (&'a AllowedEntry, &'a Cause)>,
) -> HashMap<&'a str, Counts> {
    let mut found: HashMap<&str, Counts> = HashMap::new();
    for (entry, named) in denied {
        let policies = named.iter().flat_map(|named| named.cause.policies());
        for policy in policies {
            let counts = found.entry(policy).or_default();
            match entry.key.outcome {
                Outcome::WouldDeny => counts.would_deny += entry.packets,
                _ => counts.denied += entry.packets,
            }
        }
    }
    for (entry, rule) in allowed {
        for policy in rule.policies() {
            found.entry(policy).or_default().allowed += entry.connections;
        }
    }
    found
}
