// SPDX-License-Identifier: Apache-2.0
//! `pintle get pods`: this node's pods as policies see them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use pintle_abi::policy::ruleset;

use crate::{
    cli::{
        env::Env,
        output::{Cell, Column, Row, Tone, print},
        verdict,
    },
    datapath::policy_entry::EndpointEntry,
    server::policy::PolicyPod,
};

/// A pod, as the agent knows it and as the programs do.
#[derive(Clone, Debug)]
pub struct PodRow {
    told: Option<PolicyPod>,
    entry: Option<EndpointEntry>,
}

impl PodRow {
    fn ips(&self) -> BTreeSet<IpAddr> {
        let told = self.told.iter().flat_map(|pod| &pod.ips);
        told.chain(self.entry.iter().flat_map(|entry| &entry.ips)).copied().collect()
    }

    fn state(&self) -> Cell {
        let Some(entry) = &self.entry else { return Cell::Word("not-programmed", Tone::Bad) };
        if [entry.egress, entry.ingress].contains(&ruleset::CLOSED) {
            return Cell::Word("closed", Tone::Bad);
        }
        match self.told.as_ref().and_then(|pod| pod.problem.as_ref()) {
            Some(_) => Cell::Word("outdated", Tone::Warning),
            None => Cell::Word("programmed", Tone::Good),
        }
    }

    fn index(&self) -> Option<u32> {
        let told = self.told.as_ref().and_then(|pod| pod.interface.as_ref());
        self.entry.as_ref().map(|entry| entry.index.0).or(told.map(|interface| interface.index))
    }
}

impl Row for PodRow {
    const COLUMNS: &'static [Column] = &[
        Column::left("POD", "pod"),
        Column::left("INTERFACE", "interface"),
        Column::left("ADDRESSES", "addresses"),
        Column::right("POLICIES", "policies"),
        Column::left("EGRESS", "egress"),
        Column::left("INGRESS", "ingress"),
        Column::left("STATE", "state"),
        Column::right("INDEX", "ifindex").wide(),
        Column::left("HAIRPIN_EGRESS", "hairpin_egress").wide(),
        Column::left("HAIRPIN_INGRESS", "hairpin_ingress").wide(),
        Column::left("PROBLEM", "problem").wide(),
    ];

    fn cells(&self) -> Vec<Cell> {
        let told = self.told.as_ref();
        let ruleset = |of: fn(&EndpointEntry) -> u32| {
            self.entry.as_ref().map_or(Cell::None, |entry| Cell::Ruleset(of(entry)))
        };
        let interface = told.and_then(|pod| pod.interface.as_ref());
        vec![
            Cell::known(told.map(|pod| pod.name.as_str())),
            match (interface, told) {
                (Some(interface), _) => Cell::text(&interface.name),
                (None, Some(_)) => Cell::None,
                (None, None) => Cell::Unknown,
            },
            Cell::Words(self.ips().iter().map(ToString::to_string).collect()),
            told.map_or(Cell::Unknown, |pod| Cell::Number(pod.policies)),
            ruleset(|entry| entry.egress),
            ruleset(|entry| entry.ingress),
            self.state(),
            self.index().map_or(Cell::None, |index| Cell::Number(index.into())),
            ruleset(|entry| entry.hairpin_egress),
            ruleset(|entry| entry.hairpin_ingress),
            told.and_then(|pod| pod.problem.as_deref()).map_or(Cell::None, Cell::text),
        ]
    }

    fn name(&self) -> String {
        match (&self.told, self.index()) {
            (Some(pod), _) => pod.name.clone(),
            (None, index) => format!("interface/{}", index.unwrap_or(0)),
        }
    }
}

/// Prints the pods.
pub fn run(env: &mut Env<'_>) -> anyhow::Result<()> {
    let maps = (env.maps)()?;
    verdict::note_off(&*maps, env)?;
    let entries = maps.endpoints()?;
    let told = match env.agent.policies() {
        Ok(policies) => policies.pods,
        Err(_) => {
            writeln!(env.err, "note: names are unknown, the agent does not answer")?;
            Vec::new()
        }
    };
    Ok(print(&rows(told, entries), &env.style, env.out)?)
}

fn rows(told: Vec<PolicyPod>, entries: Vec<EndpointEntry>) -> Vec<PodRow> {
    let mut entries: BTreeMap<u32, EndpointEntry> =
        entries.into_iter().map(|entry| (entry.index.0, entry)).collect();
    let mut rows: Vec<PodRow> = told
        .into_iter()
        .map(|pod| {
            let index = pod.interface.as_ref().map(|interface| interface.index);
            // One that an earlier pod has left there is not this pod's.
            let is_own = |entry: &EndpointEntry| entry.ips.iter().any(|ip| pod.ips.contains(ip));
            let entry = index.filter(|index| entries.get(index).is_some_and(is_own));
            PodRow { entry: entry.and_then(|index| entries.remove(&index)), told: Some(pod) }
        })
        .collect();
    rows.extend(entries.into_values().map(|entry| PodRow { told: None, entry: Some(entry) }));
    rows
}
