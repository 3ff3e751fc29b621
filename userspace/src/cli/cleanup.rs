// SPDX-License-Identifier: Apache-2.0
//! `pintle cleanup`: the node as it was.

use std::path::Path;

use clap::Args;

use super::{Outcome, env::Env};
use crate::datapath::cleanup::cleanup;

/// Flags of `cleanup`.
#[derive(Clone, Debug, Args)]
pub struct CleanupArgs {}

/// Removes everything, and tells on stderr what that was.
pub fn run(_: &CleanupArgs, bpf_root: &Path, env: &mut Env<'_>) -> anyhow::Result<Outcome> {
    let cleaned = cleanup(bpf_root)?;
    writeln!(env.err, "removed {} programs and {} maps", cleaned.links, cleaned.maps)?;
    Ok(Outcome::Good)
}
