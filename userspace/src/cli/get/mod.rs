// SPDX-License-Identifier: Apache-2.0
//! `pintle get`: lists of what is in the maps.

use clap::Subcommand;

use super::{Outcome, env::Env};

pub mod backends;
pub mod drops;
pub mod flows;
pub mod maps;
pub mod pods;
pub mod policies;
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
    /// This node's pods: interface, addresses, what holds for them
    #[command(visible_alias = "po")]
    Pods,
    /// Policies, and what became of each on this node
    #[command(visible_aliases = ["netpol", "cnp"])]
    Policies(policies::PoliciesArgs),
    /// Packets that policies denied, or would deny, by rule
    #[command(visible_alias = "denials")]
    Drops(drops::DropsArgs),
    /// Fill level of each map
    Maps,
}

/// Prints the list.
pub fn run(what: &Resource, env: &mut Env<'_>) -> anyhow::Result<Outcome> {
    match what {
        Resource::Services(args) => services::run(args, env)?,
        Resource::Backends => backends::run(env)?,
        Resource::Flows(args) => flows::run(args, env)?,
        Resource::Pods => pods::run(env)?,
        Resource::Policies(args) => policies::run(args, env)?,
        Resource::Drops(args) => drops::run(args, env)?,
        Resource::Maps => maps::run(env)?,
    }
    Ok(Outcome::Good)
}
