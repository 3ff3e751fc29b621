// SPDX-License-Identifier: Apache-2.0
//! The agent: reads the source and keeps the maps equal to it. The composition root.
//!
//! One task owns the loop below and takes the lock of [`node_agent::NodeAgent`] for each event; the
//! servers take it to answer. A thread sweeps expired flows. When the agent ends, however it ends,
//! programs and maps stay and go on.

mod attachments;
mod fast_path;
#[cfg(test)]
mod golden;
mod node_agent;
mod pods;
mod report;
mod start;
mod take_over;

use std::{
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};

use crate::{
    cli::agent::{AgentArgs, SourceArg},
    datapath::{pins::Pins, sweep::Sweeper},
    node::Snapshot,
    server::{HealthServer, MetricsServer, StateSource, socket, socket_path},
    source::{
        dir::DirSource,
        event::{Batches, Source as _},
    },
};
use node_agent::NodeAgent;
use pods::Pods;

/// How often what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often netfilter is searched for policy engines and rules of kube-proxy's.
const NETFILTER: Duration = Duration::from_secs(30);

/// The agent as its tasks share it.
type Shared = Arc<Mutex<NodeAgent>>;

/// Runs until a signal ends it.
pub async fn run(args: AgentArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    socket::refuse_company(&socket_path(&args.run_dir, &args.bpf_root))?;
    let pins = Pins::new(&args.bpf_root);
    let (snapshot, network) = start::node_view(&args)?;
    let agent = start::node_agent(&args, &pins, snapshot)?;
    let agent: Shared = Arc::new(Mutex::new(agent));
    let SourceArg::Dir(path) = &args.source else {
        anyhow::bail!("--source kube is not in this build yet; use --source dir:PATH");
    };
    let batches = DirSource::new(path).start().context("start the source")?;
    let _sweeper = sweep(&pins)?;
    let pods = Arc::new(Mutex::new(Pods::new(&args.node_name)));
    let servers = serve(&args, &agent, &pods)?;
    info!(node = args.node_name, started_ms = started.elapsed().as_millis(), "started");
    tokio::select! {
        result = follow(&agent, &pods, batches, network) => result,
        () = servers => Ok(()),
        signal = ended() => {
            info!(signal = signal?, "ending; programs and maps stay");
            Ok(())
        }
    }
}

/// Takes in what happens, one event at a time.
async fn follow(
    agent: &Shared,
    pods: &Mutex<Pods>,
    mut batches: Batches,
    mut network: watch::Receiver<Snapshot>,
) -> anyhow::Result<()> {
    let mut retry = interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut netfilter = interval(NETFILTER);
    netfilter.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = None;
    loop {
        tokio::select! {
            batch = batches.recv() => {
                let delivery = batch.context("the source has ended")?;
                lock(pods).note(&delivery.batch);
                lock(agent).take(delivery);
            }
            changed = network.changed() => {
                changed.context("the view of the node's network has ended")?;
                let snapshot = network.borrow_and_update().clone();
                lock(agent).follow_network(snapshot);
            }
            _ = retry.tick() => lock(agent).retry(),
            _ = netfilter.tick() => {
                let agent = agent.clone();
                // Rules may be many: not on the thread that takes in changes. Threads of the
                // runtime are in the same network namespace.
                spawn_blocking(move || {
                    let engine = fast_path::look();
                    let is_wanted = lock(&agent).take_over.is_wanted();
                    let look = take_over::look(is_wanted);
                    let mut agent = lock(&agent);
                    agent.follow_netfilter(engine);
                    agent.follow_leftovers(look);
                });
            }
            () = at(due) => {}
        }
        due = lock(agent).free_retired();
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

/// Sweeps expired flows in a thread that ends when the returned sender is dropped.
fn sweep(pins: &Pins) -> anyhow::Result<mpsc::Sender<()>> {
    let sweeper = Sweeper::open(pins).context("open the flow maps")?;
    let (stop, stopped) = mpsc::channel();
    std::thread::Builder::new()
        .name("sweeper".to_owned())
        .spawn(move || sweeper.run(&stopped))
        .context("start the sweeper")?;
    Ok(stop)
}

/// Every server; ends never.
fn serve(
    args: &AgentArgs,
    agent: &Shared,
    pods: &Arc<Mutex<Pods>>,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let reporter = report::Reporter::new(agent.clone(), pods.clone());
    let source: Arc<dyn StateSource> = Arc::new(reporter);
    let state = socket::serve(&socket_path(&args.run_dir, &args.bpf_root), source.clone())?;
    let health = args.healthz_bind_address.0;
    let metrics = args.metrics_bind_address.0;
    let registry = Arc::new(report::registry(&lock(agent), Pins::new(&args.bpf_root)));
    Ok(async move {
        tokio::join!(
            state,
            async {
                match health {
                    Some(address) => HealthServer::run(address, source).await,
                    None => pending().await,
                }
            },
            async {
                match metrics {
                    Some(address) => MetricsServer::run(address, registry).await,
                    None => pending().await,
                }
            },
        );
    })
}

async fn ended() -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// What is shared is consistent between two of its methods, also after a panic in a handler.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|poisoned| {
        warn!("a task panicked while it held shared state");
        PoisonError::into_inner(poisoned)
    })
}
