// SPDX-License-Identifier: Apache-2.0
//! The agent's state, and what each event does to it: an EndpointSlice's way from here is
//! [`Planner::apply`], then [`Reconciler::apply`].

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use prometheus_client::metrics::histogram::Histogram;
use tracing::{debug, info, warn};

use super::{
    attachments::{Attachment, attachments},
    fast_path::FastPath,
    held::Held,
    node_fate::node_fate,
    policies::Policies,
    profile::{PodRanges, Profile},
    report,
    socket_lb::SocketLb,
    take_over::TakeOver,
};
use crate::{
    cli::agent::XdpMode,
    datapath::{
        attach::{Attacher, Role},
        devices::DeviceRecord,
        stray_flows::StrayFlows,
        tables::KernelTables,
    },
    model::{addr::Scope, event::Event, ip::Family, rejection::Rejection},
    node::{IfIndex, Snapshot},
    plan::{desired::Changes, options::NodeAddresses, planner::Planner},
    reconcile::{
        reconciler::{Outcome, Reconciler},
        tables::{Redirect, Tables as _},
    },
    server::{
        Recorder,
        health::Moment,
        recorder::{Extent, Families, Seen},
    },
    source::event::Delivery,
};

/// Everything the agent knows.
pub struct NodeAgent {
    pub(super) node_name: String,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
    pub(super) profile: Profile,
    pub(super) planner: Planner,
    /// The node's own addresses, as the planner knows them.
    pub(super) addresses: NodeAddresses,
    pub(super) reconciler: Reconciler<KernelTables>,
    pub(super) policies: Policies,
    /// What is known to policies and not yet to services.
    held: Held,
    pub(super) attacher: Attacher,
    pub(super) network: Snapshot,
    pub(super) fast_path: FastPath,
    xdp: XdpMode,
    pub(super) take_over: TakeOver,
    pub(super) sockets: SocketLb,
    strays: StrayFlows,
    /// Batches read from the source.
    pub(super) revision: u64,
    /// The last of them that the maps hold completely.
    pub(super) programmed: u64,
    pub(super) programmed_at: Option<Instant>,
    /// Interfaces that could not be attached, and why.
    pub(super) unattached: BTreeMap<IfIndex, (Attachment, String)>,
    /// When each rejection was first seen.
    pub(super) rejected_since: BTreeMap<String, SystemTime>,
    /// How long changes took.
    pub(super) programming: Histogram,
    /// Health, and kube-proxy's metrics.
    pub(super) recorder: Arc<Recorder>,
    /// Health checks of services that cannot be answered, in words.
    pub(super) unanswered: Vec<String>,
    /// Something that no frontend waits for could not be written, and that was logged.
    was_due: bool,
}

/// What an agent is made of.
pub struct Parts {
    /// The operator's choices.
    pub profile: Profile,
    /// What is in them.
    pub reconciler: Reconciler<KernelTables>,
    /// Network policy.
    pub policies: Policies,
    /// The programs.
    pub attacher: Attacher,
    /// May packets be redirected past the host's stack?
    pub fast_path: FastPath,
    /// May uplinks' drivers run a program?
    pub xdp: XdpMode,
    /// Health and metrics.
    pub recorder: Arc<Recorder>,
    /// From kube-proxy to us.
    pub take_over: TakeOver,
    /// Sockets that are translated when they dial.
    pub sockets: SocketLb,
    /// Flows that do not notice by themselves where their service leads now.
    pub strays: StrayFlows,
}

impl NodeAgent {
    /// An agent that has taken over the maps and has seen no event yet.
    pub fn new(node_name: &str, parts: Parts) -> Self {
        Self {
            node_name: node_name.to_owned(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            planner: Planner::new(node_name, parts.profile.options.clone()),
            profile: parts.profile,
            addresses: NodeAddresses::default(),
            reconciler: parts.reconciler,
            policies: parts.policies,
            held: Held::default(),
            attacher: parts.attacher,
            network: Snapshot::default(),
            fast_path: parts.fast_path,
            xdp: parts.xdp,
            take_over: parts.take_over,
            sockets: parts.sockets,
            strays: parts.strays,
            revision: 0,
            programmed: 0,
            programmed_at: None,
            unattached: BTreeMap::new(),
            rejected_since: BTreeMap::new(),
            programming: report::programming_histogram(),
            recorder: parts.recorder,
            unanswered: Vec::new(),
            was_due: false,
        }
    }

    /// A batch of changes from the source. Policies first: who is sent to a pod must be let in there.
    pub fn take(&mut self, delivery: Delivery) {
        self.policies.take(&delivery.batch, &self.network, delivery.noticed);
        self.revision += 1;
        self.held.push(delivery, Instant::now());
        self.release();
    }

    /// Lets services follow what they need not wait for any longer.
    fn release(&mut self) {
        let now = Instant::now();
        let pods_may_answer = self.policies.expect_pods_until(now).is_some();
        while let Some(delivery) = self.held.release(pods_may_answer, now) {
            self.follow_services(delivery);
        }
    }

    fn follow_services(&mut self, delivery: Delivery) {
        let was_synced = self.planner.is_synced();
        let rejections = self.planner.rejections_version();
        let node = self.planner.node().cloned();
        let seen = self.note_seen(&delivery.batch);
        let mut changes = self.planner.apply(delivery.batch);
        if self.planner.node() != node.as_ref() {
            self.follow_pod_ranges();
            changes.wildcards.extend(self.follow_addresses().wildcards);
        }
        let frontends = changes.frontends.len();
        match (was_synced, self.planner.is_synced()) {
            (_, false) => {}
            (false, true) => self.program_first(changes),
            (true, true) => {
                self.recorder.queued(&seen.families, Moment::now());
                let start = Instant::now();
                self.program(changes);
                self.recorder.programmed(&seen.families, Extent::Partial, start.elapsed());
                let time = delivery.noticed.elapsed();
                self.programming.observe(time.as_secs_f64());
                debug!(
                    revision = self.revision,
                    frontends,
                    ns = time.as_nanos() as u64,
                    "programmed"
                );
            }
        }
        if self.planner.rejections_version() != rejections {
            self.note_rejections();
        }
    }

    /// The first complete desired state: also takes away what nobody desires any more.
    fn program_first(&mut self, mut changes: Changes) {
        let start = Instant::now();
        self.reconciler.complete(&mut changes);
        let frontends = changes.frontends.len();
        let both = Families::from(Family::ALL);
        self.recorder.queued(&both, Moment::now());
        self.program(changes);
        self.recorder.programmed(&both, Extent::Full, start.elapsed());
        self.reconciler.sweep(Instant::now());
        info!(frontends, program_ms = start.elapsed().as_millis(), "synced");
        // The first load needs several times the memory that what it leaves behind does.
        // SAFETY: the call has no preconditions; it returns free memory to the kernel.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::malloc_trim(0);
        }
    }

    fn program(&mut self, changes: Changes) {
        let now = Instant::now();
        let tables = self.reconciler.tables();
        let spare = Family::ALL.map(|family| tables.backend_capacity(family) - 1);
        self.take_over.before_programming(&changes, spare, &self.network.addresses());
        let outcome =
            self.reconciler.apply(changes, &resolver(&self.network, self.fast_path.is_on()), now);
        self.programmed_at = Some(now);
        self.forget_strays(now);
        for (family, scope) in Family::ALL.into_iter().flat_map(|f| Scope::ALL.map(|s| (f, s))) {
            let services = self.planner.unserved(family, scope);
            self.recorder.no_local_endpoints(family, scope, services);
        }
        self.tell(&outcome);
    }

    /// Logs what fails now and did not before, and the other way round.
    fn tell(&mut self, outcome: &Outcome) {
        for frontend in &outcome.failed {
            if let Some(error) = self.reconciler.error(frontend) {
                warn!(%frontend, %error, "not programmed; it stays as it was");
            }
        }
        for frontend in &outcome.recovered {
            info!(%frontend, "programmed after all");
        }
        let is_due = self.reconciler.due_error().is_some();
        if let Some(error) = self.reconciler.due_error().filter(|_| !self.was_due) {
            warn!(%error, "not written; trying again");
        }
        self.was_due = is_due;
        if self.planner.is_synced() {
            self.recorder.settled(&self.failing(), Moment::now());
        }
        let complete = !is_due
            && self.held.is_empty()
            && self.reconciler.errors().next().is_none()
            && self.policies.is_settled();
        if self.planner.is_synced() && complete {
            self.finish_take_over();
            self.programmed = self.revision;
        }
    }

    /// Tells what a batch is about.
    fn note_seen(&self, batch: &[Event]) -> Seen {
        if let Some(fate) = node_fate(batch, &self.node_name) {
            self.recorder.health.note_node(fate);
        }
        let seen = Seen::of(batch);
        self.recorder.seen(&seen, Moment::now());
        seen
    }

    /// Families of which something could not be written.
    fn failing(&self) -> Families {
        if self.reconciler.due_error().is_some() {
            return Family::ALL.into();
        }
        self.reconciler.errors().map(|(frontend, _)| Family::of(frontend.addr.ip)).collect()
    }

    /// A change of the node's network: attaches to new pods and forgets those that are gone.
    pub fn follow_network(&mut self, snapshot: Snapshot) {
        self.network = snapshot;
        let (fast_path, pods) = (self.fast_path.is_on(), &self.profile.pods);
        let wanted = attachments(&self.network, fast_path, self.xdp, pods);
        let gone: Vec<IfIndex> = self
            .attacher
            .attached()
            .keys()
            .filter(|index| !wanted.contains_key(index))
            .copied()
            .collect();
        for index in gone {
            self.forget(index);
        }
        self.unattached.retain(|index, _| wanted.contains_key(index));
        // Uplinks first: what a pod opens must find its way back from there.
        for role in [Role::Loopback, Role::Net, Role::Pod] {
            for (index, attachment) in wanted.iter().filter(|(_, wanted)| wanted.role == role) {
                self.attach(*index, attachment);
            }
        }
        self.policies.follow_network(&self.network);
        self.release();
        let (v4, v6) = self.network.node_addresses();
        if let Err(error) = self.reconciler.tables_mut().put_node_addresses(v4, v6) {
            warn!(error = format!("{:#}", anyhow::Error::from(error)), "write the settings");
        }
        self.reconciler.resolve_again(&resolver(&self.network, self.fast_path.is_on()));
        self.tell(&Outcome::default());
        self.follow_pod_ranges();
        let changes = self.follow_addresses();
        if !changes.is_empty() {
            self.program(changes);
        }
    }

    /// Tells the programs whose packets are local pods', where addresses tell.
    fn follow_pod_ranges(&mut self) {
        let ranges = self.profile.pod_ranges;
        let known = ranges.known(self.planner.node().map(Arc::as_ref));
        if known.is_none() && ranges != PodRanges::None {
            return;
        }
        if let Err(error) = self.reconciler.tables_mut().put_pod_ranges(known) {
            warn!(error = format!("{:#}", anyhow::Error::from(error)), "write the settings");
        }
    }

    /// Node ports answer at the addresses that the node has now, those that stand for it included.
    fn follow_addresses(&mut self) -> Changes {
        // Until its Node object is known, the node is known by the way to the network.
        let (v4, v6) = self.network.node_addresses();
        let known = self.planner.node_ips().iter().copied();
        let primary: Vec<IpAddr> =
            known.chain(v4.map(IpAddr::from)).chain(v6.map(IpAddr::from)).collect();
        let addresses = self.profile.node_ports.choose(&self.network.addresses(), &primary);
        if addresses == self.addresses {
            return Changes::default();
        }
        debug!(node_ports = ?addresses.node_ports, "the node's addresses");
        self.addresses = addresses.clone();
        self.planner.set_node_addresses(addresses)
    }

    /// What a search of netfilter for policy engines has found.
    pub fn follow_netfilter(&mut self, engine: Option<&'static str>) {
        let fast_path = self.fast_path.given(engine);
        if fast_path == self.fast_path {
            return;
        }
        info!(reason = fast_path.reason(), on = fast_path.is_on(), "fast path");
        self.fast_path = fast_path;
        if let Err(error) = self.reconciler.tables_mut().put_fast_path(fast_path.is_on()) {
            warn!(error = format!("{:#}", anyhow::Error::from(error)), "write the settings");
        }
        self.follow_network(self.network.clone());
    }

    /// Removes pins of interfaces that an earlier agent had, and this one has not.
    pub fn forget_other_interfaces(&mut self) -> io::Result<()> {
        for index in self.reconciler.tables().device_indices() {
            if !self.attacher.attached().contains_key(&IfIndex(index)) {
                self.forget(IfIndex(index));
            }
        }
        self.attacher.forget_others()
    }

    /// Tries again what failed.
    pub fn retry(&mut self) {
        self.policies.retry(&self.network);
        let now = Instant::now();
        let outcome = self.reconciler.retry(&resolver(&self.network, self.fast_path.is_on()), now);
        self.tell(&outcome);
        for (index, (attachment, _)) in self.unattached.clone() {
            self.attach(index, &attachment);
        }
    }

    /// Frees what is out of use; returns when there is more to free. Called after every event.
    pub fn free_retired(&mut self) -> Option<Instant> {
        self.release();
        let now = Instant::now();
        self.forget_strays(now);
        let next = self.reconciler.free_retired(now);
        self.sockets.follow(self.reconciler.gone_backends());
        let policies = self.policies.collect(&self.network);
        next.into_iter().chain(policies).chain(self.held.until()).min()
    }

    /// Forgets UDP flows that are with a backend where their service does not lead any more.
    fn forget_strays(&mut self, now: Instant) {
        let Some(leads) = self.reconciler.strays(now) else { return };
        match self.strays.forget(&leads) {
            Ok(0) => {}
            Ok(forgotten) => debug!(forgotten, "UDP flows to backends that their service gave up"),
            Err(error) => warn!(%error, "read the UDP flows"),
        }
    }

    /// Rejections as they are now, with the time each was first seen.
    pub fn rejections(&self) -> impl Iterator<Item = (Rejection, SystemTime)> {
        self.planner.rejections().map(|rejection| {
            let since = self.rejected_since.get(&rejection.to_string());
            let since = since.copied().unwrap_or(self.started_at);
            (rejection, since)
        })
    }

    fn attach(&mut self, index: IfIndex, wanted: &Attachment) {
        let known = self.attacher.attached().get(&index);
        let known = known == Some(&(wanted.name.clone(), wanted.role));
        let mut attached = self.put_device(index, wanted);
        if attached.is_ok() && !known {
            attached = self.attach_anew(index, wanted);
        }
        match attached {
            Ok(()) => {
                self.unattached.remove(&index);
            }
            Err(error) => {
                if self.unattached.get(&index).is_none_or(|(_, known)| *known != error) {
                    warn!(interface = wanted.name, error, "attach; trying again");
                }
                self.unattached.insert(index, (wanted.clone(), error));
            }
        }
    }

    /// Attaches every program. Frames without a buffer of the kernel may be sent out of a device only once
    /// XDP runs there.
    fn attach_anew(&mut self, index: IfIndex, wanted: &Attachment) -> Result<(), String> {
        let (role, fast) = (wanted.role.as_str(), wanted.device.fast);
        let attached = self.attacher.attach(index, &wanted.name, wanted.role);
        attached.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        info!(interface = wanted.name, role, fast, "attached");
        if let Some(native) = wanted.native.clone() {
            self.attacher.attach_native(index, &wanted.name, native);
            let native = self.attacher.native().get(&index);
            let reason = native.and_then(|native| native.as_ref().err());
            info!(interface = wanted.name, native = reason.is_none(), reason, "XDP");
        }
        self.put_device(index, wanted)
    }

    /// Tells the programs of an interface.
    fn put_device(&mut self, index: IfIndex, wanted: &Attachment) -> Result<(), String> {
        let native = self.attacher.native().get(&index).is_some_and(Result::is_ok);
        let takes_frames = wanted.device.takes_frames && native;
        let device = DeviceRecord { takes_frames, ..wanted.device.clone() };
        let written = self.reconciler.tables_mut().put_device(index.0, &device);
        written.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    fn forget(&mut self, index: IfIndex) {
        self.attacher.forget(index);
        if let Err(error) = self.reconciler.tables_mut().remove_device(index.0) {
            warn!(index = index.0, %error, "forget an interface");
        }
    }

    fn note_rejections(&mut self) {
        let now = SystemTime::now();
        let mut since = BTreeMap::new();
        for rejection in self.planner.rejections() {
            let text = rejection.to_string();
            let first = self.rejected_since.get(&text).copied();
            if first.is_none() {
                warn!(object = %rejection.object, reason = %rejection.reason, "rejected");
            }
            since.insert(text, first.unwrap_or(now));
        }
        self.rejected_since = since;
    }
}

/// Finds the interface of a local pod, if packets may be redirected to it.
fn resolver(
    network: &Snapshot,
    fast_path: bool,
) -> impl Fn(std::net::IpAddr) -> Option<Redirect> + '_ {
    move |ip| {
        let index = network.resolve(ip).filter(|_| fast_path)?;
        let interface = network.interfaces.get(&index).filter(|found| found.eligible())?;
        Some(Redirect { ifindex: index.0, mtu: interface.mtu })
    }
}
