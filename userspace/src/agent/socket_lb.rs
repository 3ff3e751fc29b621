// SPDX-License-Identifier: Apache-2.0
//! Sockets that are translated when they dial: switched on and off with the agent, and closed when
//! their backends go. Without it everything works, by packets.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{self, SyncSender},
};

use anyhow::Context as _;
use pintle_abi::settings::Settings;
use tracing::{info, warn};

use crate::{
    cli::agent::AgentArgs,
    datapath::{
        cgroup,
        pins::Pins,
        socket::{self, Object, Scope},
        stale_sockets::StaleSockets,
        tables::KernelTables,
    },
    server::state,
};

/// Whose sockets are translated, and how that went.
pub struct SocketLb {
    scope: Scope,
    cgroup: Option<PathBuf>,
    failed: Option<String>,
    /// Wakes the thread that closes sockets; it ends with this.
    wake: Option<SyncSender<()>>,
    /// How many backends had gone when it was last woken.
    gone: u64,
}

impl SocketLb {
    /// Attaches the programs, or removes those of an earlier agent. What fails leaves sockets alone.
    pub fn start(
        args: &AgentArgs,
        ebpf: &mut Object,
        tables: &mut KernelTables,
        pins: &Pins,
    ) -> anyhow::Result<Self> {
        let scope = Scope::from(args.socket_lb);
        let mut started = Self { scope, cgroup: None, failed: None, wake: None, gone: 0 };
        if scope != Scope::Off {
            match switch_on(scope, args.cgroup.as_deref(), ebpf, tables, pins) {
                Ok((cgroup, wake)) => {
                    info!(scope = scope.as_str(), cgroup = %cgroup.display(), "sockets");
                    (started.cgroup, started.wake) = (Some(cgroup), Some(wake));
                    return Ok(started);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    warn!(error, "sockets are not translated, their packets are");
                    started.failed = Some(error);
                }
            }
        }
        // Nothing is translated any more from here on, whatever still runs.
        write(tables, Scope::Off)?;
        socket::detach(pins);
        socket::forget(pins).context("forget the connected UDP sockets")?;
        Ok(started)
    }

    /// Wakes the thread that closes sockets if more backends are gone than last time.
    pub fn follow(&mut self, gone: u64) {
        if let Some(wake) = self.wake.as_ref().filter(|_| gone != self.gone) {
            // A full queue holds a call that has not been heard yet; it serves for both.
            let _ = wake.try_send(());
        }
        self.gone = gone;
    }

    /// For the status.
    pub fn report(&self) -> state::SocketLb {
        state::SocketLb {
            mode: self.scope.as_str().to_owned(),
            cgroup: self.cgroup.as_ref().map(|path| path.display().to_string()),
            failed: self.failed.clone(),
        }
    }
}

fn switch_on(
    scope: Scope,
    cgroup: Option<&Path>,
    ebpf: &mut Object,
    tables: &mut KernelTables,
    pins: &Pins,
) -> anyhow::Result<(PathBuf, SyncSender<()>)> {
    let cgroup = match cgroup {
        Some(path) => path.to_owned(),
        None => cgroup::find_root()
            .context("find the cgroup v2 hierarchy")?
            .context("no cgroup v2 hierarchy is mounted")?,
    };
    let stale = StaleSockets::open(pins, scope, &cgroup).context("open the maps of sockets")?;
    write(tables, scope)?;
    socket::attach(ebpf, pins, &cgroup)?;
    let (wake, woken) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("stale-sockets".to_owned())
        .spawn(move || stale.run(&woken))
        .context("start the thread that closes sockets")?;
    Ok((cgroup, wake))
}

fn write(tables: &mut KernelTables, scope: Scope) -> anyhow::Result<()> {
    let node_netns = match scope {
        Scope::Off => 0,
        Scope::Host | Scope::All => {
            socket::netns_cookie().context("read the number of the network namespace")?
        }
    };
    let settings = tables.settings()?;
    tables.put_settings(Settings { socket_scope: scope.number(), node_netns, ..settings })?;
    Ok(())
}
