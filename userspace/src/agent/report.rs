// SPDX-License-Identifier: Apache-2.0
//! What the agent tells about itself, computed when it is asked.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    metrics::histogram::{Histogram, exponential_buckets},
    registry::Registry,
};

use super::{
    Shared, denials::Denials, lock, node_agent::NodeAgent, pods::Pods,
    policy_metrics::PolicyMetrics, policy_report,
};
use crate::{
    config::{Config, kube_proxy::KubeProxyConfiguration},
    datapath::pins::Pins,
    model::addr::Scope,
    plan::info::{BackendInfo, ServiceInfo},
    server::{
        Names, Readiness, StateSource, Status,
        metrics::MapMetrics,
        state::{self, Interface, Rejection, Uplink},
    },
};

/// The agent as a [`StateSource`].
pub struct Reporter {
    pub(super) agent: Shared,
    pub(super) pods: Arc<Mutex<Pods>>,
    pub(super) denials: Arc<Denials>,
}

impl Reporter {
    /// Reports on an agent.
    pub fn new(agent: Shared, pods: Arc<Mutex<Pods>>, denials: Arc<Denials>) -> Self {
        Self { agent, pods, denials }
    }
}

impl StateSource for Reporter {
    fn readiness(&self) -> Readiness {
        let agent = lock(&self.agent);
        Readiness { revision: agent.programmed, synced: agent.planner.is_synced() }
    }

    fn status(&self) -> Status {
        let agent = lock(&self.agent);
        let failed: BTreeSet<String> =
            agent.reconciler.errors().map(|(addr, _)| addr.to_string()).collect();
        let services = agent.planner.services();
        let programmed =
            services.iter().filter(|info| !failed.contains(&info.frontend.to_string()));
        Status {
            node: agent.node_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix: unix(agent.started_at),
            uptime_seconds: agent.started.elapsed().as_secs(),
            revision_read: agent.revision,
            revision_programmed: agent.programmed,
            programmed_ago_seconds: agent.programmed_at.map(|at| at.elapsed().as_secs()),
            synced: agent.planner.is_synced(),
            services: distinct(services.iter()),
            services_programmed: distinct(programmed),
            errors: errors(&agent),
            rejections: rejections(&agent),
            interfaces: interfaces(&agent),
            uplinks: uplinks(&agent),
            socket_lb: agent.sockets.report(),
            policy: policy_report::summary(&agent),
        }
    }

    fn names(&self) -> Names {
        let agent = lock(&self.agent);
        let mut names = Names::default();
        names.pods.extend(lock(&self.pods).names());
        for (id, name) in agent.reconciler.service_names().names() {
            names.services.insert(id, name.to_string());
        }
        for info in agent.planner.services() {
            for backend in agent.planner.backends(&info.frontend.addr) {
                if let Some(pod) = &backend.pod {
                    names.pods.insert(backend.addr.ip, format!("{}/{pod}", info.namespace()));
                }
                names.backends.push(backend_row(&backend));
            }
            // The one for clients outside the cluster is of the same address.
            if info.frontend.scope == Scope::Internal {
                names.frontends.push(frontend_row(&info));
            }
        }
        names.frontends.sort();
        names.backends.sort();
        names.backends.dedup();
        names
    }
}

fn frontend_row(info: &ServiceInfo) -> state::Frontend {
    let addr = info.frontend.addr;
    state::Frontend {
        namespace: info.namespace().to_owned(),
        name: info.name().to_owned(),
        ip: addr.ip,
        port: addr.port,
        protocol: addr.protocol.to_string(),
        kind: info.kind.as_str().to_owned(),
        endpoints: info.total as u64,
        traffic: info.traffic_policy.as_str().to_owned(),
        age_seconds: info.age_seconds(unix(SystemTime::now())),
    }
}

fn backend_row(info: &BackendInfo) -> state::Backend {
    let conditions = info.conditions;
    let state = match (conditions.ready, conditions.terminating, conditions.serving) {
        (true, _, _) => "ready",
        (false, true, true) => "serving",
        (false, true, false) => "terminating",
        (false, false, _) => "unready",
    };
    state::Backend {
        ip: info.addr.ip,
        port: info.addr.port,
        state: state.to_owned(),
        node: info.node.as_deref().map(str::to_owned),
    }
}

fn errors(agent: &NodeAgent) -> Vec<String> {
    let frontends = agent.reconciler.errors().map(|(addr, error)| format!("{addr}: {error}"));
    let others = agent.reconciler.due_error().map(ToString::to_string);
    let take_over = agent.take_over.problem().map(str::to_owned);
    let unanswered = agent.unanswered.iter().cloned();
    let policies = agent.policies.failures();
    frontends.chain(others).chain(take_over).chain(unanswered).chain(policies).collect()
}

fn rejections(agent: &NodeAgent) -> Vec<Rejection> {
    let mut found: Vec<Rejection> = agent
        .rejections()
        .map(|(rejection, since)| Rejection {
            object: rejection.object.to_string(),
            reason: rejection.reason.to_string(),
            since_unix: unix(since),
        })
        .collect();
    found.sort();
    found
}

fn interfaces(agent: &NodeAgent) -> Vec<Interface> {
    let mode = agent.attacher.mode().as_str();
    let mut found: Vec<Interface> = agent
        .network
        .interfaces
        .values()
        .map(|interface| Interface {
            name: interface.name.clone(),
            index: interface.index.0,
            mode: mode.to_owned(),
            slow: agent
                .fast_path
                .reason()
                .or_else(|| interface.ineligible.as_ref().map(ToString::to_string)),
            failed: agent.unattached.get(&interface.index).map(|(_, error)| error.clone()),
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn uplinks(agent: &NodeAgent) -> Vec<Uplink> {
    let (attached, native) = (agent.attacher.attached(), agent.attacher.native());
    let mut found: Vec<Uplink> = native
        .iter()
        .map(|(index, native)| Uplink {
            name: attached.get(index).map(|(name, _)| name.clone()).unwrap_or_default(),
            index: index.0,
            without_xdp: native.clone().err(),
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn distinct<'a>(services: impl Iterator<Item = &'a ServiceInfo>) -> u64 {
    services.map(|info| &info.service).collect::<BTreeSet<_>>().len() as u64
}

fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// The answer to `/configz`: what we do, and how kube-proxy would write it if that was given.
pub fn configuration(
    config: &Config,
    kube_proxy: Option<&KubeProxyConfiguration>,
) -> serde_json::Result<serde_json::Value> {
    let mut answer = serde_json::Map::new();
    answer.insert("pintle".into(), serde_json::to_value(config)?);
    if let Some(kube_proxy) = kube_proxy {
        answer.insert("kubeproxy.config.k8s.io".into(), serde_json::to_value(kube_proxy)?);
    }
    Ok(answer.into())
}

/// The agent's metrics, and kube-proxy's.
pub fn registry(shared: &Shared, denials: &Denials, pins: Pins) -> Registry {
    let mut all = Registry::default();
    let agent = lock(shared);
    agent.recorder.register(all.sub_registry_with_prefix("kubeproxy"));
    let registry = all.sub_registry_with_prefix("pintle");
    registry.register(
        "programming_seconds",
        "Time from noticing a change to having it in the maps",
        agent.programming.clone(),
    );
    registry.register(
        "policy_programming_seconds",
        "Time from noticing a change that concerns policies to having it in the maps",
        agent.policies.programming.clone(),
    );
    registry.register(
        "policy_packets",
        "Packets that policies did not want since the agent started, by what became of them",
        denials.packets.clone(),
    );
    registry.register(
        "policy_allowed_connections",
        "Connections that policies allowed since the agent started",
        denials.allowed.connections.clone(),
    );
    registry.register_collector(Box::new(PolicyMetrics::new(shared.clone())));
    registry.register_collector(Box::new(MapMetrics::new(pins)));
    all
}

/// From 32 us to half a second.
pub fn programming_histogram() -> Histogram {
    Histogram::new(exponential_buckets(32e-6, 2.0, 15))
}
