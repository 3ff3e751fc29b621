// SPDX-License-Identifier: Apache-2.0
//! `pintle get`: lists of what is in the maps.

use clap::Subcommand;

use super::{Outcome, env::Env};

pub mod backends;
pub mod flows;
pub mod maps;
pub mod services;

/// What can be listed.
#[derive(Clone, Debug, Subcommand)]
pub enum Resource {
    /// Frontends, and how many of their backends take connections
    #[command(visible_alias = "svc")]
    Services(services::ServicesArgs),
    /// Each backend: state, node, flows
    #[command(visible_alias = "be")]
    Backends,
    /// Tracked connections
    #[command(visible_alias = "ct")]
    Flows(flows::FlowsArgs),
    /// Fill level of each map
    Maps,
}

/// Prints the list.
pub fn run(what: &Resource, env: &mut Env<'_>) -> anyhow::Result<Outcome> {
    match what {
        Resource::Services(args) => services::run(args, env)?,
        Resource::Backends => backends::run(env)?,
        Resource::Flows(args) => flows::run(args, env)?,
        Resource::Maps => maps::run(env)?,
    }
    Ok(Outcome::Good)
}
