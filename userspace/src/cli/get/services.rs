// SPDX-License-Identifier: Apache-2.0
//! `pintle get services`.

use std::net::SocketAddr;

use clap::Args;

use crate::{
    cli::{
        env::Env,
        names::Directory,
        output::{
            Cell, Column, Row,
            hint::{CommandError, nearest},
            print,
        },
    },
    datapath::entry::FrontendEntry,
    model::addr::{FrontendKey, Scope},
    server::state::Frontend,
};

/// Flags of `get services`.
#[derive(Clone, Debug, Default, Args)]
pub struct ServicesArgs {
    /// One service only, as `namespace/name`.
    pub name: Option<String>,
    /// One namespace only; all otherwise.
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// A frontend with what Kubernetes says of it.
#[derive(Clone, Debug)]
pub struct ServiceRow {
    frontend: FrontendEntry,
    told: Option<Frontend>,
}

impl ServiceRow {
    fn service(&self) -> String {
        self.told.as_ref().map_or("?".into(), |told| format!("{}/{}", told.namespace, told.name))
    }
}

impl Row for ServiceRow {
    const COLUMNS: &'static [Column] = &[
        Column::left("NAMESPACE", "namespace"),
        Column::left("NAME", "name"),
        Column::left("TYPE", "type"),
        Column::colon("FRONTEND", "frontend"),
        Column::right("BACKENDS", "backends"),
        Column::left("AFFINITY", "affinity_seconds"),
        Column::left("TRAFFIC", "traffic"),
        Column::left("CLIENTS", "clients"),
        Column::left("SELECTION", "selection").wide(),
        Column::left("EMPTY", "empty").wide(),
        Column::left("MASQUERADE", "masquerade").wide(),
        Column::left("SOURCES", "sources").wide(),
        Column::right("NUMBER", "number").wide(),
        Column::right("AGE", "age_seconds"),
    ];

    fn cells(&self) -> Vec<Cell> {
        let (frontend, told) = (&self.frontend, self.told.as_ref());
        let FrontendKey { addr, scope } = frontend.key;
        let known = |word: fn(&Frontend) -> &str| Cell::known(told.map(word));
        vec![
            known(|told| &told.namespace),
            known(|told| &told.name),
            known(|told| &told.kind),
            Cell::Address(SocketAddr::new(addr.ip, addr.port), Some(addr.protocol.as_str())),
            Cell::Ready(frontend.backends.len() as u64, told.map(|told| told.endpoints)),
            match frontend.affinity_seconds {
                0 => Cell::None,
                seconds => Cell::Seconds(seconds.into()),
            },
            match scope {
                Scope::Internal => known(|told| &told.traffic),
                Scope::External => Cell::text("Local"),
            },
            Cell::text(frontend.clients()),
            Cell::text(frontend.selection().as_str()),
            Cell::text(if frontend.is_silent() { "drop" } else { "refuse" }),
            Cell::text(frontend.masquerade()),
            Cell::text(if frontend.is_restricted() { "ranges" } else { "all" }),
            Cell::Number(frontend.service.into()),
            told.and_then(|told| told.age_seconds).map_or(Cell::Unknown, Cell::Seconds),
        ]
    }

    fn name(&self) -> String {
        match &self.told {
            Some(_) => self.service(),
            None => self.frontend.key.addr.to_string(),
        }
    }
}

/// Prints the frontends.
pub fn run(args: &ServicesArgs, env: &mut Env<'_>) -> anyhow::Result<()> {
    let maps = (env.maps)()?;
    let names = Directory::ask(env)?;
    let rows = rows(maps.frontends()?, &names, args)?;
    Ok(print(&rows, &env.style, env.out)?)
}

fn rows(
    frontends: Vec<FrontendEntry>,
    names: &Directory,
    args: &ServicesArgs,
) -> Result<Vec<ServiceRow>, CommandError> {
    let row = |frontend: FrontendEntry| {
        let told = names.frontend(&frontend.key.addr).cloned();
        ServiceRow { frontend, told }
    };
    let mut rows: Vec<ServiceRow> = frontends.into_iter().map(row).collect();
    rows.sort_by(|a, b| (&a.told, a.frontend.key).cmp(&(&b.told, b.frontend.key)));
    if let Some(namespace) = &args.namespace {
        rows.retain(|row| row.told.as_ref().is_some_and(|told| told.namespace == *namespace));
    }
    let Some(name) = &args.name else { return Ok(rows) };
    let services: Vec<String> = rows.iter().map(ServiceRow::service).collect();
    rows.retain(|row| row.service() == *name);
    if rows.is_empty() {
        let nearest = nearest(name, services.iter().map(String::as_str));
        return Err(CommandError::NoSuch { kind: "service", name: name.clone(), nearest });
    }
    Ok(rows)
}
