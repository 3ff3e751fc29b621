// SPDX-License-Identifier: Apache-2.0
//! `pintle get backends`.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use crate::{
    cli::{
        env::Env,
        names::Directory,
        output::{Cell, Column, Row, Tone, print},
    },
    datapath::{
        entry::{BackendEntry, FrontendEntry},
        view::Maps,
    },
};

/// A backend with what Kubernetes says of it.
#[derive(Clone, Debug)]
pub struct BackendRow {
    backend: BackendEntry,
    pod: Option<String>,
    state: Option<String>,
    node: Option<String>,
    frontends: u64,
    flows: u64,
}

impl BackendRow {
    fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.backend.addr.ip, self.backend.addr.port)
    }
}

impl Row for BackendRow {
    const COLUMNS: &'static [Column] = &[
        Column::colon("BACKEND", "backend"),
        Column::left("POD", "pod"),
        Column::left("STATE", "state"),
        Column::left("NODE", "node"),
        Column::left("PATH", "path"),
        Column::right("FRONTENDS", "frontends"),
        Column::right("FLOWS", "flows"),
        Column::right("ID", "id").wide(),
        Column::right("GENERATION", "generation").wide(),
        Column::right("INTERFACE", "ifindex").wide(),
        Column::right("MTU", "mtu_bytes").wide(),
    ];

    fn cells(&self) -> Vec<Cell> {
        let redirect = self.backend.redirect;
        vec![
            Cell::Address(self.addr(), None),
            Cell::known(self.pod.as_deref()),
            match self.state.as_deref() {
                Some("ready") => Cell::Word("ready", Tone::Good),
                Some("serving") => Cell::Word("serving", Tone::Warning),
                Some("terminating") => Cell::Word("terminating", Tone::Warning),
                other => Cell::known(other),
            },
            Cell::known(self.node.as_deref()),
            Cell::text(if redirect.is_some() { "fast" } else { "stack" }),
            Cell::Number(self.frontends),
            Cell::Number(self.flows),
            Cell::Number(self.backend.id.into()),
            Cell::Number(self.backend.generation.into()),
            redirect.map_or(Cell::None, |index| Cell::Number(index.0.into())),
            redirect.map_or(Cell::None, |_| Cell::Number(self.backend.mtu.into())),
        ]
    }

    fn name(&self) -> String {
        self.addr().to_string()
    }
}

/// Prints the backends.
pub fn run(env: &mut Env<'_>) -> anyhow::Result<()> {
    let maps = (env.maps)()?;
    let names = Directory::ask(env)?;
    let rows = rows(&*maps, &names)?;
    Ok(print(&rows, &env.style, env.out)?)
}

fn rows(maps: &dyn Maps, names: &Directory) -> anyhow::Result<Vec<BackendRow>> {
    // Ids are unique within a family only.
    let mut uses = HashSet::new();
    for FrontendEntry { key, backends, .. } in maps.frontends()? {
        uses.extend(backends.into_iter().map(|id| (id, key.addr)));
    }
    let mut frontends: HashMap<(bool, u32), u64> = HashMap::new();
    for (id, addr) in uses {
        *frontends.entry((addr.ip.is_ipv4(), id)).or_default() += 1;
    }
    let mut flows: HashMap<SocketAddr, u64> = HashMap::new();
    for flow in maps.flows()? {
        *flows.entry(flow.backend).or_default() += 1;
    }
    let row = |backend: BackendEntry| {
        let told = names.backend(&backend.addr);
        let addr = SocketAddr::new(backend.addr.ip, backend.addr.port);
        BackendRow {
            pod: names.pod(backend.addr.ip).map(str::to_owned),
            state: told.map(|told| told.state.clone()),
            node: told.and_then(|told| told.node.clone()),
            frontends: frontends.get(&(addr.is_ipv4(), backend.id)).copied().unwrap_or(0),
            flows: flows.get(&addr).copied().unwrap_or(0),
            backend,
        }
    };
    Ok(maps.backends()?.into_iter().map(row).collect())
}
