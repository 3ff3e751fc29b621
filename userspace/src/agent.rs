// SPDX-License-Identifier: Apache-2.0
//! The agent: reads the source and keeps the maps equal to it.

use crate::cli::agent::AgentArgs;

/// Runs until a signal ends it.
pub async fn run(args: AgentArgs) -> anyhow::Result<()> {
    anyhow::bail!("this build has no agent (asked for node {})", args.node_name)
}
