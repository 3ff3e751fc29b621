// SPDX-License-Identifier: Apache-2.0
//! From kube-proxy's rules to our own programs without breaking a connection.
//!
//! The order: `SETTINGS.take_over` is set before programs are attached, so packets of connections
//! that nobody has told us of pass. Connections that kube-proxy has translated get entries that leave
//! them to the kernel, before the first complete state is programmed. When that is in the maps, the
//! rules go; then the last connections they have opened get their entries, and the setting ends.
//!
//! Each step may be repeated: an agent that dies on the way is followed by one that goes on.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use anyhow::Context as _;
use tracing::{info, warn};

use super::node_agent::NodeAgent;
use crate::{
    cli::agent::TakeOver as Mode,
    datapath::{
        kernel_flows::{KernelFlows, Written},
        pins::Pins,
        sweep::monotonic_ns,
        tables::KernelTables,
    },
    model::addr::{BackendAddr, FrontendAddr},
    plan::desired::Changes,
    reconcile::tables::Family,
    takeover::{
        self, Leftovers,
        conntrack::{self, Connection},
        flows::{KnownBackend, kernel_flow, reservation},
        ipvs, keeper,
        netlink::Netfilter,
        running,
    },
};

/// The take-over of this node.
#[derive(Debug, Default)]
pub struct TakeOver {
    /// Leftovers are looked for.
    is_wanted: bool,
    /// Open while it is under way.
    flows: Option<KernelFlows>,
    served: Served,
    /// When it ended; what was seen before is out of date.
    ended: Option<Instant>,
    problem: Option<String>,
}

/// What is served, or was since the take-over began: an entry too many does no harm, for its packets
/// pass to where they would have gone.
#[derive(Debug, Default)]
struct Served {
    frontends: BTreeSet<FrontendAddr>,
    backends: HashSet<BackendAddr>,
}

impl Served {
    fn take(&mut self, desired: &Changes) {
        let all = desired.frontends.iter();
        for (key, frontend) in all.filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            self.frontends.insert(key.addr);
            let backends = frontend.backends.iter().chain(&frontend.draining);
            self.backends.extend(backends.map(|backend| backend.addr));
        }
    }

    /// An address that clients dial; a node port is one of every address.
    fn contains(&self, dialled: &FrontendAddr) -> bool {
        let any: IpAddr = match dialled.ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let node_port = FrontendAddr { ip: any, ..*dialled };
        self.frontends.contains(dialled) || self.frontends.contains(&node_port)
    }
}

impl TakeOver {
    /// Fails if a kube-proxy runs, unless the operator wants it so; asked before anything is changed.
    pub fn at_start(mode: Mode) -> anyhow::Result<Self> {
        let is_wanted = match (mode, running::look().refuse()) {
            (Mode::Force, Err(error)) => {
                warn!(%error, "starting all the same; its rules stay");
                false
            }
            (_, Err(error)) => return Err(error.into()),
            (mode, Ok(())) => mode != Mode::Off,
        };
        Ok(Self { is_wanted, ..Self::default() })
    }

    /// Begins, or goes on where an earlier agent has ended, if there is anything to take over.
    pub fn begin(&mut self, pins: &Pins, tables: &mut KernelTables) -> anyhow::Result<()> {
        let leftovers = match self.is_wanted {
            true => leftovers(),
            false => Leftovers::default(),
        };
        let was_under_way = tables.settings()?.take_over != 0;
        let is_under_way = self.is_wanted && (was_under_way || !leftovers.is_empty());
        if is_under_way {
            info!(%leftovers, "taking over from kube-proxy");
            self.flows = Some(KernelFlows::open(pins).context("open the flow maps")?);
        }
        tables.put_take_over(is_under_way)?;
        Ok(())
    }

    /// Notes the connections to what is about to be programmed. Backends have no ids yet: `spare`
    /// is one of each family that nobody has, so that it never seems to be gone.
    pub fn before_programming(&mut self, desired: &Changes, spare: [u32; 2], node: &[IpAddr]) {
        let Some(flows) = &self.flows else { return };
        self.served.take(desired);
        let backend = |addr: &BackendAddr| {
            let id = spare[Family::of(addr.ip) as usize];
            self.served.backends.contains(addr).then_some(KnownBackend { id, generation: 0 })
        };
        let noted = translated().and_then(|found| self.write(flows, &found, backend, node));
        if let Err(error) = noted {
            warn!(%error, "note the connections that kube-proxy has opened; trying again");
        }
    }

    /// Ends the take-over: what kube-proxy has left goes, its connections stay.
    fn finish(
        &self,
        backend: impl Fn(&BackendAddr) -> Option<KnownBackend>,
        node: &[IpAddr],
    ) -> io::Result<bool> {
        let Some(flows) = &self.flows else { return Ok(false) };
        // A source that knows of no service at all is no reason to take kube-proxy's away.
        if self.served.frontends.is_empty() {
            return Ok(false);
        }
        let connections = translated()?;
        self.write(flows, &connections, &backend, node)?;
        if let Err(error) = hold(&connections) {
            // A kernel without nf_tables; usually others have rules that ask for tracking, too.
            warn!(%error, "keep the kernel translating; kube-proxy's connections may break");
        }
        let start = Instant::now();
        let removed = takeover::remove()?;
        let removal_ms = start.elapsed().as_millis();
        // Those that the rules have translated until they went.
        let connections = translated()?;
        let written = self.write(flows, &connections, &backend, node)?;
        if connections.is_empty() {
            ipvs::remove()?;
        }
        let kept = written.known + written.new + written.completed;
        info!(%removed, removal_ms, connections = kept, "took over from kube-proxy");
        if written.refused > 0 {
            let connections = written.refused;
            warn!(connections, "the flow maps are full; kube-proxy's connections may break");
        }
        Ok(true)
    }

    fn write(
        &self,
        flows: &KernelFlows,
        connections: &[Connection],
        backend: impl Fn(&BackendAddr) -> Option<KnownBackend>,
        node: &[IpAddr],
    ) -> io::Result<Written> {
        let now = monotonic_ns();
        let served = |dialled: &FrontendAddr| self.served.contains(dialled);
        let (mut kept, mut reserved) = (Vec::new(), Vec::new());
        for connection in connections {
            let Some(flow) = kernel_flow(connection, now, served, &backend) else { continue };
            kept.push(flow);
            reserved.extend(reservation(connection, now, |ip| node.contains(ip)));
        }
        let refused = flows.write(reserved)?.refused;
        let written = flows.write(kept)?;
        Ok(Written { refused: written.refused + refused, ..written })
    }

    /// Rules that come back are somebody's who is at work; what was seen before the end is not.
    fn follow(&mut self, look: Look) {
        let is_late = self.ended.is_some_and(|ended| ended > look.begun);
        if self.is_wanted && self.flows.is_none() && !is_late {
            let leftovers = look.leftovers;
            self.note(leftovers.are_live().then(|| {
                format!("kube-proxy has rules on this node again ({leftovers}): is it running?")
            }));
        }
    }

    /// Logs a problem that is new.
    fn note(&mut self, problem: Option<String>) {
        if let Some(problem) = &problem
            && self.problem.as_ref() != Some(problem)
        {
            warn!("{problem}");
        }
        self.problem = problem;
    }

    /// What kube-proxy leaves on this node is looked for and removed.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// What is wrong, for `status`.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

impl NodeAgent {
    /// Goes on with the take-over, now that everything is programmed.
    pub(super) fn finish_take_over(&mut self) {
        let reconciler = &self.reconciler;
        let backend = |addr: &BackendAddr| {
            let (id, generation) = reconciler.backend(addr)?;
            Some(KnownBackend { id, generation })
        };
        let ended = match self.take_over.finish(backend, &self.network.addresses()) {
            Ok(false) => return,
            Ok(true) => {
                let ended = self.reconciler.tables_mut().put_take_over(false);
                ended.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
            }
            Err(error) => Err(error.to_string()),
        };
        match ended {
            Ok(()) => {
                let is_wanted = self.take_over.is_wanted;
                let ended = Some(Instant::now());
                self.take_over = TakeOver { is_wanted, ended, ..TakeOver::default() };
            }
            Err(error) => {
                self.take_over.note(Some(format!("taking over from kube-proxy: {error}")));
            }
        }
    }

    /// What a later look at the node's rules has found.
    pub(super) fn follow_leftovers(&mut self, look: Look) {
        self.take_over.follow(look);
    }
}

/// A look at the node's rules.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    begun: Instant,
    leftovers: Leftovers,
}

/// Looks for rules of kube-proxy's, and ends what keeps its connections when the last is over.
pub fn look(is_wanted: bool) -> Look {
    let begun = Instant::now();
    let leftovers = leftovers();
    if is_wanted
        && !leftovers.are_live()
        && let Err(error) = release()
    {
        warn!(%error, "remove what keeps kube-proxy's connections");
    }
    Look { begun, leftovers }
}

fn leftovers() -> Leftovers {
    takeover::leftovers().unwrap_or_else(|error| {
        warn!(%error, "look for what kube-proxy has left");
        Leftovers::default()
    })
}

fn translated() -> io::Result<Vec<Connection>> {
    match Netfilter::open()? {
        Some(mut netfilter) => conntrack::translated(&mut netfilter),
        None => Ok(Vec::new()),
    }
}

/// Keeps the kernel translating the families that have connections.
fn hold(connections: &[Connection]) -> io::Result<()> {
    let Some(mut netfilter) = Netfilter::open()? else { return Ok(()) };
    for (family, is_v4) in [(libc::AF_INET, true), (libc::AF_INET6, false)] {
        if connections.iter().any(|connection| connection.original.source.is_ipv4() == is_v4) {
            keeper::hold(&mut netfilter, family as u8)?;
        }
    }
    Ok(())
}

fn release() -> io::Result<()> {
    let Some(mut netfilter) = Netfilter::open()? else { return Ok(()) };
    let is_kept = ipvs::is_there() || !keeper::held(&mut netfilter)?.is_empty();
    if !is_kept || !conntrack::translated(&mut netfilter)?.is_empty() {
        return Ok(());
    }
    info!("the last connection that kube-proxy has opened is over");
    ipvs::remove()?;
    keeper::release(&mut netfilter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::addr::{FrontendKey, Protocol},
        plan::desired::DesiredFrontend,
    };

    fn frontend(ip: &str, port: u16) -> FrontendAddr {
        FrontendAddr { ip: ip.parse().unwrap(), port, protocol: Protocol::Tcp }
    }

    #[test]
    fn rules_that_come_back_are_told_and_forgotten_when_they_go() {
        let look = |tables| Look {
            begun: Instant::now(),
            leftovers: Leftovers { tables, ..Leftovers::default() },
        };
        let early = look(2);
        let mut take_over =
            TakeOver { is_wanted: true, ended: Some(Instant::now()), ..TakeOver::default() };
        take_over.follow(early);
        assert_eq!(take_over.problem(), None, "that was before they were removed");
        take_over.follow(look(2));
        assert!(take_over.problem().is_some_and(|problem| problem.contains("2 nftables tables")));
        take_over.follow(look(0));
        assert_eq!(take_over.problem(), None);
        take_over.is_wanted = false;
        take_over.follow(look(2));
        assert_eq!(take_over.problem(), None, "the operator wants them left alone");
    }

    #[test]
    fn node_ports_are_served_at_every_address_and_others_at_their_own() {
        let desired = || DesiredFrontend {
            service: "shop/web".into(),
            backends: Vec::new(),
            draining: Vec::new(),
            no_backend: Default::default(),
            table: None,
            affinity: None,
            is_split: false,
            masquerade: Default::default(),
            source_ranges: None,
        };
        let frontends = [
            (frontend("10.96.0.10", 80), Some(desired())),
            (frontend("0.0.0.0", 30080), Some(desired())),
            (frontend("10.96.0.11", 80), None),
        ];
        let frontends = frontends.map(|(addr, value)| (FrontendKey::internal(addr), value)).into();
        let mut served = Served::default();
        served.take(&Changes { frontends, ..Changes::default() });
        assert!(served.contains(&frontend("10.96.0.10", 80)));
        assert!(served.contains(&frontend("192.168.77.1", 30080)));
        assert!(!served.contains(&frontend("10.96.0.11", 80)));
        assert!(!served.contains(&frontend("fd00::1", 30080)));
    }
}
