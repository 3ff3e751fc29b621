// SPDX-License-Identifier: Apache-2.0
//! Network policy in the agent: what is known of the cluster, and what the policy maps hold of it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use prometheus_client::metrics::histogram::Histogram;
use tracing::{info, warn};

use super::{policy_start::Beginning, report::programming_histogram};
use crate::{
    datapath::policy_tables::KernelPolicyTables,
    model::{event::Event, ip::Family, name::Kind, object::Object},
    node::{Snapshot, Solicitor, solicit::Asked},
    policy::{Options, Planner, Problem, Room},
    reconcile::policies::{
        Failure, PolicyReconciler, Subject,
        tables::{PolicyMap, PolicyTables as _},
    },
};

/// How long what nothing needs any more is kept: it often comes back.
const COLLECT: Duration = Duration::from_secs(1);

/// How many failures are told one by one: a map that is full fails for each address.
const SHOWN: usize = 10;

/// Whether policies hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Nothing is judged, and the policy maps are left alone.
    Off,
    /// Policies hold.
    On,
}

/// Policies, and what the maps hold of them.
pub struct Policies {
    switch: Switch,
    pub(super) planner: Planner,
    pub(super) reconciler: PolicyReconciler<KernelPolicyTables>,
    solicitor: Solicitor,
    /// They do not hold yet.
    beginning: Option<Beginning>,
    is_synced: bool,
    /// When to give up what nothing needs.
    collect: Option<Instant>,
    /// When something can be written that has to wait.
    waits_until: Option<Instant>,
    /// What is known to be wrong, and was logged.
    told: Told,
    /// How long changes took.
    pub(super) programming: Histogram,
}

#[derive(Debug, Default)]
struct Told {
    failures: BTreeMap<Subject, Failure>,
    problems: Vec<Problem>,
}

impl Policies {
    /// Policies of which nothing is known yet; the maps stay as they are until it is.
    pub fn new(
        switch: Switch,
        options: Options,
        reconciler: PolicyReconciler<KernelPolicyTables>,
        solicitor: Solicitor,
        beginning: Option<Beginning>,
    ) -> Self {
        Self {
            switch,
            planner: Planner::new(options),
            reconciler,
            solicitor,
            beginning,
            is_synced: false,
            collect: None,
            waits_until: None,
            told: Told::default(),
            programming: programming_histogram(),
        }
    }

    /// Takes in what has changed in the cluster.
    pub fn take(&mut self, batch: &[Event], network: &Snapshot, noticed: Instant) {
        if self.switch == Switch::Off {
            return;
        }
        let (start, was_synced) = (Instant::now(), self.is_synced);
        self.is_synced |= batch.contains(&Event::Synced);
        let changes = self.planner.apply(batch.iter().filter(|event| is_of_policy(event)).cloned());
        let now = Instant::now();
        match (was_synced, self.is_synced) {
            (_, false) => return,
            (false, true) => {
                self.reconciler.complete(changes, network, now);
                let sizes = self.planner.sizes();
                let (plan_ms, program_ms) = ((now - start).as_millis(), now.elapsed().as_millis());
                info!(plan_ms, program_ms, ?sizes, "policies programmed");
            }
            (true, true) => {
                if changes.is_empty() {
                    return;
                }
                self.reconciler.apply(changes, network, now);
                self.programming.observe(noticed.elapsed().as_secs_f64());
            }
        }
        self.solicitor.ask(network, self.reconciler.unresolved(), Asked::New);
        self.collect.get_or_insert(now + COLLECT);
        self.begin(Instant::now());
        self.tell();
    }

    /// Until when new pods of this node may answer that are asked where they are.
    pub fn expect_pods_until(&self, now: Instant) -> Option<Instant> {
        self.solicitor.expects_until(now)
    }

    /// A change of the node's network: pods may have other interfaces.
    pub fn follow_network(&mut self, network: &Snapshot) {
        if self.switch == Switch::On {
            let now = Instant::now();
            self.reconciler.follow(network, now);
            self.solicitor.ask(network, self.reconciler.unresolved(), Asked::Lost);
            self.begin(now);
            self.tell();
        }
    }

    /// Tries again what failed, and asks again for pods that have not answered.
    pub fn retry(&mut self, network: &Snapshot) {
        if self.switch == Switch::On {
            let now = Instant::now();
            self.reconciler.retry(now);
            self.solicitor.ask(network, self.reconciler.unresolved(), Asked::Lost);
            self.begin(now);
            self.tell();
        }
    }

    /// Lets policies hold from now on, if they do not yet and the cluster and where its pods are is
    /// known as well as it will be.
    fn begin(&mut self, now: Instant) {
        let Some(beginning) = self.beginning else { return };
        let is_known = self.is_synced && self.expect_pods_until(now).is_none();
        if !is_known && !beginning.is_overdue(now) {
            return;
        }
        let mode = beginning.mode;
        match self.reconciler.tables_mut().put_mode(mode) {
            Ok(()) => {
                self.beginning = None;
                info!(cluster_is_known = self.is_synced, "policies hold");
            }
            Err(error) => {
                warn!(error = format!("{:#}", anyhow::Error::from(error)), "write the settings");
            }
        }
    }

    /// Gives up what nothing has needed for a while; returns when there is more to do. Called after
    /// every event.
    pub fn collect(&mut self, network: &Snapshot) -> Option<Instant> {
        let now = Instant::now();
        if self.collect.is_some_and(|due| due <= now) {
            let changes = self.planner.collect();
            // Giving up shows what else is not needed: again, until there is nothing.
            self.collect = (!changes.is_empty()).then_some(now + COLLECT);
            self.reconciler.apply(changes, network, now);
            self.tell();
        }
        if self.waits_until.is_some_and(|due| due <= now) {
            self.retry(network);
        }
        self.waits_until = self.reconciler.due(now);
        self.begin(now);
        let answers = self.beginning.and_then(|_| self.expect_pods_until(now));
        self.collect.into_iter().chain(self.waits_until).chain(answers).min()
    }

    /// Whether policies hold, and the maps everything that is known.
    pub fn is_settled(&self) -> bool {
        let holds = self.beginning.is_none() && self.reconciler.failures().next().is_none();
        self.switch == Switch::Off || holds
    }

    /// What could not be written, and what is closed because it cannot be judged; in words.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        let more = self.reconciler.failures().count().saturating_sub(SHOWN);
        let failures = self.reconciler.failures().take(SHOWN);
        let shown = failures.map(|(subject, failure)| self.words(subject, failure));
        let more = (more > 0).then(|| format!("policies: {more} more of these"));
        shown.chain(more).chain(self.told.problems.iter().map(ToString::to_string))
    }

    fn words(&self, subject: &Subject, failure: &Failure) -> String {
        let pods = match subject {
            Subject::Ruleset(id) => self.reconciler.pods_of(*id),
            _ => Vec::new(),
        };
        match pods[..] {
            [] => format!("{subject}: {failure}"),
            [pod] => format!("{subject}: {failure}; Pod {pod} is closed"),
            [pod, ref more @ ..] => {
                format!("{subject}: {failure}; Pod {pod} and {} more are closed", more.len())
            }
        }
    }

    /// Logs what is wrong now and was not before, and the other way round.
    fn tell(&mut self) {
        let failures: BTreeMap<Subject, Failure> = self
            .reconciler
            .failures()
            .map(|(subject, failure)| (subject.clone(), failure.clone()))
            .collect();
        let told = &self.told.failures;
        let new = failures.iter().filter(|(subject, _)| !told.contains_key(subject));
        for (subject, failure) in new.clone().take(SHOWN) {
            warn!(%subject, %failure, "not programmed; nothing is opened, and it is tried again");
        }
        let over = told.keys().filter(|subject| !failures.contains_key(subject));
        for subject in over.clone().take(SHOWN) {
            info!(%subject, "programmed after all");
        }
        for (what, count) in
            [("not programmed", new.count()), ("programmed after all", over.count())]
        {
            if count > SHOWN {
                warn!(more = count - SHOWN, "policies: {what}");
            }
        }
        self.told.failures = failures;
        let problems = self.planner.problems();
        for problem in problems.iter().filter(|problem| !self.told.problems.contains(problem)) {
            warn!(%problem, "policies");
        }
        self.told.problems = problems;
    }
}

/// How much of the maps what is planned may take. Some is kept for what only an earlier agent knew,
/// which goes after that which replaces it has come.
pub fn room(tables: &KernelPolicyTables) -> Room {
    let most = |map| tables.capacity(map) - tables.capacity(map) / 8;
    let of_each = |map: fn(Family) -> PolicyMap| Family::ALL.map(map).map(most).into_iter().min();
    Room {
        ports: most(PolicyMap::Ports),
        rows: most(PolicyMap::Rows),
        ranges: of_each(PolicyMap::Ranges).unwrap_or_default(),
        peers: of_each(PolicyMap::Peers).unwrap_or_default(),
    }
}

fn is_of_policy(event: &Event) -> bool {
    match event {
        Event::Apply(object) => match object {
            Object::Pod(_)
            | Object::Namespace(_)
            | Object::Node(_)
            | Object::NetworkPolicy(_)
            | Object::ClusterNetworkPolicy(_) => true,
            Object::Service(_) | Object::EndpointSlice(_) | Object::ServiceCidr(_) => false,
        },
        Event::Delete(object) => match object.kind {
            Kind::Pod
            | Kind::Namespace
            | Kind::Node
            | Kind::NetworkPolicy
            | Kind::ClusterNetworkPolicy => true,
            Kind::Service
            | Kind::EndpointSlice
            | Kind::ServiceCidr
            | Kind::File
            | Kind::Directory
            | Kind::Watch
            | Kind::Other(_) => false,
        },
        Event::Rejected(..) => false,
        Event::Synced => true,
    }
}
