// SPDX-License-Identifier: Apache-2.0
//! The agent: reads the source and keeps the maps equal to it. The composition root.
//!
//! One task owns the loop below and takes the lock of [`node_agent::NodeAgent`] for each event; the
//! servers take it to answer. A thread sweeps expired flows. When the agent ends, however it ends,
//! programs and maps stay and go on.

mod allowed;
mod announcer;
mod attachments;
pub mod conntrack;
mod denials;
mod fast_path;
#[cfg(test)]
mod golden;
mod health_checks;
mod held;
mod node_agent;
mod node_fate;
mod pods;
mod policies;
mod policy_metrics;
mod policy_report;
mod policy_start;
mod profile;
mod report;
mod socket_lb;
mod start;
mod take_over;

use std::{
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};

use crate::{
    cli::agent::{AgentArgs, Policy, SourceArg},
    config::{Config, file::ConfigFile, kube_proxy::KubeProxyConfiguration},
    datapath::{pins::Pins, sweep::Sweeper},
    node::Snapshot,
    server::{
        HealthServer, MetricsServer, Recorder, StateSource, health::Moment, socket, socket_path,
    },
    source::{
        dir::DirSource,
        event::{Batches, Source as _, SourceError},
        kube::{Interest, KubeSource},
    },
};
use announcer::Announcer;
use denials::Denials;
use health_checks::HealthChecks;
use node_agent::NodeAgent;
use pods::Pods;
use take_over::TakeOver;

/// How often what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often netfilter is searched for policy engines and rules of kube-proxy's.
const NETFILTER: Duration = Duration::from_secs(30);

/// The agent as its tasks share it.
type Shared = Arc<Mutex<NodeAgent>>;

/// What the agent shall do, and where that was said.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Everything, resolved.
    pub config: Config,
    /// How kube-proxy would write it, if a file or flags of kube-proxy were given.
    pub kube_proxy: Option<KubeProxyConfiguration>,
    /// The file.
    pub file: Option<ConfigFile>,
}

/// Runs until a signal, or another text of the configuration file, ends it.
pub async fn run(args: AgentArgs, configured: Configured) -> anyhow::Result<()> {
    let started = Instant::now();
    let Configured { config, kube_proxy, file } = configured;
    socket::refuse_company(&socket_path(&args.run_dir, &args.bpf_root))?;
    let take_over = TakeOver::at_start(args.take_over)?;
    let pins = Pins::new(&args.bpf_root);
    // Nothing is touched for a source that is not there; and it reads while the programs are loaded.
    let (batches, announcer) = source(&args, &config).context("start the source")?;
    let (snapshot, network) = start::node_view(&args)?;
    start::adapt_host(&config)?;
    let recorder = Arc::new(Recorder::new(config.sync_period, Moment::now()));
    let agent = start::node_agent(&args, &config, &pins, snapshot, recorder.clone(), take_over)?;
    let agent: Shared = Arc::new(Mutex::new(agent));
    let _sweeper = sweep(&pins)?;
    let denials = Arc::new(Denials::new());
    let _watch = denials::watch(&pins, agent.clone(), denials.clone())?;
    let pods = Arc::new(Mutex::new(Pods::new(&config.node_name)));
    let health_checks =
        HealthChecks::new(recorder.health.clone(), config.node_port_addresses.clone());
    let answers = Answers { pods: pods.clone(), recorder, denials, kube_proxy };
    let servers = serve(&args, &config, &agent, answers)?;
    let changed = config_changed(file)?;
    info!(
        node = config.node_name,
        mode = config.mode.as_str(),
        started_ms = started.elapsed().as_millis(),
        "started"
    );
    tokio::select! {
        result = follow(&agent, &pods, (health_checks, announcer), batches, network) => result,
        result = servers => result,
        () = changed => bail!("the configuration file has changed; to be started again with it"),
        signal = ended() => {
            info!(signal = signal?, "ending; programs and maps stay");
            Ok(())
        }
    }
}

/// Starts to read what `--source` names; also where it is told what users must know.
fn source(args: &AgentArgs, config: &Config) -> Result<(Batches, Announcer), SourceError> {
    match &args.source {
        SourceArg::Dir(path) => Ok((DirSource::new(path).start()?, Announcer::new(None))),
        SourceArg::Kube => {
            let node_name = config.node_name.clone();
            let interest = Interest { node_name, policies: args.policy == Policy::On };
            let source = KubeSource::new(config.api.clone(), interest);
            let announcer = Announcer::new(Some(source.announcements()));
            Ok((source.start()?, announcer))
        }
    }
}

/// Takes in what happens, one event at a time.
async fn follow(
    agent: &Shared,
    pods: &Mutex<Pods>,
    (mut health_checks, mut announcer): (HealthChecks, Announcer),
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
            _ = retry.tick() => {
                lock(agent).retry();
                health_checks.retry();
                announcer.follow(&lock(agent));
            }
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
        health_checks.follow(agent).await;
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

/// What the servers tell, beside the agent's state.
struct Answers {
    pods: Arc<Mutex<Pods>>,
    recorder: Arc<Recorder>,
    denials: Arc<Denials>,
    kube_proxy: Option<KubeProxyConfiguration>,
}

/// Every server; ends only if one cannot listen and that is to be fatal.
fn serve(
    args: &AgentArgs,
    config: &Config,
    agent: &Shared,
    answers: Answers,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let Answers { pods, recorder, denials, kube_proxy } = answers;
    let registry = report::registry(agent, &denials, Pins::new(&args.bpf_root));
    let reporter = report::Reporter::new(agent.clone(), pods, denials);
    let source = Arc::new(reporter);
    let state = socket::serve(&socket_path(&args.run_dir, &args.bpf_root), source.clone())?;
    let source: Arc<dyn StateSource> = source;
    let metrics = MetricsServer {
        registry,
        proxy_mode: config.mode.as_str(),
        configuration: report::configuration(config, kube_proxy.as_ref())?,
    };
    let Config { healthz_bind_address, metrics_bind_address, bind_failure, .. } = *config;
    Ok(async move {
        tokio::try_join!(
            async {
                state.await;
                Ok(())
            },
            async {
                match healthz_bind_address {
                    Some(address) => {
                        HealthServer::run(address, source, recorder, bind_failure).await
                    }
                    None => pending().await,
                }
            },
            async {
                match metrics_bind_address {
                    Some(address) => metrics.run(address, bind_failure).await,
                    None => pending().await,
                }
            },
        )?;
        Ok(())
    })
}

/// Ends when the configuration file has another text.
fn config_changed(file: Option<ConfigFile>) -> anyhow::Result<impl Future<Output = ()>> {
    let watch = file.map(ConfigFile::watch).transpose().context("watch the configuration file")?;
    Ok(async {
        match watch {
            Some(changed) => changed.await,
            None => pending().await,
        }
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
