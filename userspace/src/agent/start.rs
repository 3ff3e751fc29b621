// SPDX-License-Identifier: Apache-2.0
//! What the agent does before its first event: look at the node, load, take over what is there.

use std::{fs, net::IpAddr, path::Path, sync::Arc, time::Instant};

use anyhow::Context as _;
use pintle_abi::{
    addr::{V4, V6},
    map,
    policy::policy_mode,
};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{
    conntrack,
    fast_path::FastPath,
    node_agent::{NodeAgent, Parts},
    policies::{self, Policies, Switch},
    policy_start::Beginning,
    profile::Profile,
    socket_lb::SocketLb,
    take_over::TakeOver,
};
use crate::{
    cli::agent::{AgentArgs, Policy, PolicyStartup, Uplinks},
    config::Config,
    datapath::{
        attach::Attacher,
        foreign,
        object::{self, Sizes},
        pins::Pins,
        policy_tables::KernelPolicyTables,
        stray_flows::StrayFlows,
        tables::KernelTables,
    },
    model::{policy::Enforcement, service::BackendSelection},
    node::{
        MasqueradePorts, NodeView, Probes, Selection, Snapshot, Solicitor,
        loopback::{self, LOOPBACK_SETTINGS},
    },
    policy::Options,
    reconcile::{policies::PolicyReconciler, reconciler::Reconciler},
    server::Recorder,
};

/// Slots of a node whose services have Maglev tables: 256 of the usual size in each family, 16 MiB.
const MAGLEV_SLOTS: u32 = 1 << 22;

/// Looks at the node's network. Must run in the namespace of the node.
pub fn node_view(args: &AgentArgs) -> anyhow::Result<(Snapshot, watch::Receiver<Snapshot>)> {
    let uplinks = match &args.uplinks {
        Uplinks::Auto => Vec::new(),
        Uplinks::Names(names) => names.clone(),
    };
    let selection = Selection {
        interfaces: args.pod_interfaces.clone(),
        uplinks: uplinks.into_iter().collect(),
        node_ips: Default::default(),
    };
    let probes = Probes { programs: foreign::tcx, filters: foreign::filters };
    NodeView::start(selection, probes).context("read the node's network")
}

/// What kube-proxy would change of the host, where a configuration of kube-proxy was given.
pub fn adapt_host(config: &Config) -> anyhow::Result<()> {
    conntrack::apply(Path::new("/"), &config.conntrack)?;
    if let Some(score) = config.oom_score_adj
        && let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string())
    {
        // As in kube-proxy, no reason not to start.
        warn!(score, %error, "the OOM score is not adjusted");
    }
    Ok(())
}

/// Loads the programs and takes over what the maps hold.
pub fn node_agent(
    args: &AgentArgs,
    config: &Config,
    pins: &Pins,
    network: Snapshot,
    recorder: Arc<Recorder>,
    mut take_over: TakeOver,
) -> anyhow::Result<NodeAgent> {
    pins.create()?;
    if let Err(error) = loopback::prepare(Path::new(LOOPBACK_SETTINGS), &pins.settings()) {
        warn!(%error, "prepare loopback: the host itself may not reach node ports");
    }
    let start = Instant::now();
    let ebpf = object::load(Some(&pins.maps()), &sizes(args, config));
    let mut ebpf = ebpf.context("load the programs")?;
    let mut tables = KernelTables::take(&mut ebpf)?;
    let policies = take_policies(args, config, KernelPolicyTables::take(&mut ebpf, &tables)?)?;
    let fast_path = FastPath::at_start(args.fast_path);
    write_settings(args, &mut tables, fast_path)?;
    take_over.begin(pins, &mut tables)?;
    let realized = tables.realized().context("read the maps")?;
    let sockets = SocketLb::start(args, &mut ebpf, &mut tables, pins)?;
    let attacher = Attacher::new(ebpf, pins.clone(), args.attach.into());
    info!(
        load_ms = start.elapsed().as_millis(),
        frontends = realized.frontends.len(),
        mode = attacher.mode().as_str(),
        "loaded"
    );
    let mut reconciler = Reconciler::new(tables);
    reconciler.adopt(realized);
    let parts = Parts {
        profile: Profile::from(config),
        reconciler,
        policies,
        attacher,
        fast_path,
        xdp: args.xdp,
        recorder,
        take_over,
        sockets,
        strays: StrayFlows::open(pins).context("open the flow maps")?,
    };
    let mut agent = NodeAgent::new(&config.node_name, parts);
    agent.follow_network(network);
    agent.forget_other_interfaces().context("remove pins of other interfaces")?;
    Ok(agent)
}

/// Entries of maps that are not made with their usual number.
fn sizes(args: &AgentArgs, config: &Config) -> Sizes {
    let mut sizes = Sizes::new();
    if config.backend_selection == BackendSelection::Maglev {
        for map in [map::SLOTS_V4, map::SLOTS_V6] {
            sizes.insert(map.name.to_owned(), MAGLEV_SLOTS);
        }
    }
    sizes.extend(args.map_sizes.iter().map(|size| (size.name.to_owned(), size.entries)));
    sizes
}

/// Takes over what the policy maps hold.
fn take_policies(
    args: &AgentArgs,
    config: &Config,
    tables: KernelPolicyTables,
) -> anyhow::Result<Policies> {
    let enforcement = if args.policy_audit { Enforcement::Audited } else { Enforcement::Enforced };
    let options = Options {
        node: config.node_name.as_str().into(),
        pod_cidrs: Profile::from(config).pod_ranges.of_cluster(),
        enforcement,
        room: policies::room(&tables),
    };
    let switch = match args.policy {
        Policy::On => Switch::On,
        Policy::Off => Switch::Off,
    };
    let realized = tables.realized().context("read the policy maps")?;
    let solicitor = Solicitor::open().context("open a socket to look for pods")?;
    let was_on = realized.is_on;
    let mut reconciler = PolicyReconciler::new(tables, realized);
    if switch == Switch::On && !was_on {
        reconciler.forget_endpoints(Instant::now());
    }
    let begins = switch == Switch::On && !was_on;
    let beginning = begins.then(|| Beginning::new(policy_mode(args), Instant::now()));
    Ok(Policies::new(switch, options, reconciler, solicitor, beginning))
}

fn policy_mode(args: &AgentArgs) -> u32 {
    match (args.policy, args.policy_startup) {
        (Policy::Off, _) => policy_mode::OFF,
        (Policy::On, PolicyStartup::Closed) => policy_mode::CLOSED,
        (Policy::On, PolicyStartup::Open) => policy_mode::OPEN,
    }
}

/// The key of the backend choice is drawn once in the life of the maps.
fn write_settings(
    args: &AgentArgs,
    tables: &mut KernelTables,
    fast_path: FastPath,
) -> anyhow::Result<()> {
    let mut settings = tables.settings()?;
    while settings.hash_key == 0 {
        settings.hash_key = random().context("draw the hash key")?;
    }
    settings.fast_path = u32::from(fast_path.is_on());
    // Where nothing was judged, nothing is before we know the cluster.
    if settings.policy != policy_mode::OFF {
        settings.policy = policy_mode(args);
    }
    let ports = match args.masquerade_ports {
        Some(ports) => Some(ports),
        None => MasqueradePorts::of_this_node().context("read the range of ephemeral ports")?,
    };
    if ports.is_none() {
        warn!("the host's sockets use every port: clients outside cannot reach other nodes' pods");
    }
    settings.masquerade_base = ports.map_or(0, |ports| ports.first);
    settings.masquerade_count = ports.map_or(0, MasqueradePorts::count);
    for address in &args.hairpin_addresses {
        match address {
            IpAddr::V4(ip) => settings.hairpin_v4 = V4::from(*ip),
            IpAddr::V6(ip) => settings.hairpin_v6 = V6::from(*ip),
        }
    }
    tables.put_settings(settings)?;
    Ok(())
}

fn random() -> std::io::Result<u32> {
    let mut bytes = [0_u8; 4];
    // SAFETY: the buffer is writable for its length.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == bytes.len() as isize {
        Ok(u32::from_ne_bytes(bytes))
    } else {
        Err(std::io::Error::last_os_error())
    }
}
