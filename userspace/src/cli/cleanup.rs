// SPDX-License-Identifier: Apache-2.0
//! `pintle cleanup`: the node as it was.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use clap::Args;

use super::{Global, Outcome, env::Env, output::hint::CommandError};
use crate::{datapath::cleanup::cleanup, server::socket_path, takeover};

/// Flags of `cleanup`.
#[derive(Clone, Debug, Default, Args)]
pub struct CleanupArgs {
    /// Also while an agent runs; it will not put back what is removed.
    #[arg(long)]
    pub force: bool,
}

/// Removes everything, and tells on stderr what that was.
pub fn run(args: &CleanupArgs, global: &Global, env: &mut Env<'_>) -> anyhow::Result<Outcome> {
    let running = is_running(env);
    if running && !args.force {
        return Err(CommandError::AgentRuns.into());
    }
    let cleaned = cleanup(&global.bpf_root)?;
    takeover::give_back().context("remove what kept kube-proxy's connections")?;
    if !running {
        let socket = socket_path(&global.run_dir, &global.bpf_root);
        remove_socket(&socket).with_context(|| format!("remove {}", socket.display()))?;
    }
    writeln!(env.err, "removed {} programs and {} maps", cleaned.programs, cleaned.maps)?;
    Ok(Outcome::Good)
}

/// Something listens on the agent's socket, whether it answers or not.
fn is_running(env: &Env<'_>) -> bool {
    let silent = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    !env.agent.status().is_err_and(|error| silent.contains(&error.kind()))
}

/// Removes the socket of an agent that is dead, and the directory unless others use it.
fn remove_socket(socket: &Path) -> io::Result<()> {
    let removed = match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        removed => removed.is_ok(),
    };
    if let (true, Some(dir)) = (removed, socket.parent()) {
        // In a container the directory is mounted, or above it nothing can be written.
        let stays = [
            io::ErrorKind::DirectoryNotEmpty,
            io::ErrorKind::ResourceBusy,
            io::ErrorKind::ReadOnlyFilesystem,
        ];
        match fs::remove_dir(dir) {
            Err(error) if !stays.contains(&error.kind()) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_agent_s_socket_goes_and_the_directory_only_when_it_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        fs::create_dir(&run_dir).unwrap();
        let [one, other] = ["one.sock", "other.sock"].map(|name| run_dir.join(name));
        remove_socket(&one).unwrap();
        assert!(run_dir.exists(), "nothing of ours was there");
        fs::write(&one, "").unwrap();
        fs::write(&other, "").unwrap();
        remove_socket(&one).unwrap();
        assert!(!one.exists() && other.exists());
        remove_socket(&other).unwrap();
        assert!(!run_dir.exists());
    }
}
