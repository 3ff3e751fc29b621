// SPDX-License-Identifier: Apache-2.0
//! `pintle bench xdp`: CPU time for a packet from outside to a node port whose pod is on another node.
//!
//! The sender is on the other end of the node's uplink, a veth, and so is who swallows what the node sends on:
//! the node does both directions of a router's work on one device. Three nodes take turns: one whose uplink
//! has a program that rewrites fixed values and sends back ([`crate::fixed`]), one with Pintle's
//! XDP, one with Pintle's tc alone.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use clap::Args;
use pintle::cli::Outcome;
use pintle::cli::output::Format;
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::bpf;
use pintle_lab::device::Device;
use pintle_lab::manifest::{Endpoint, Port, Service};
use pintle_lab::topology::{Cni, Family, Pod, World};
use serde::Serialize;

use crate::compare::turns::Measured;
use crate::cpu::Cpus;
use crate::frame::{Frame, Transport};
use crate::machine::Machine;
use crate::packets::{self, Track};
use crate::report::table::align;
use crate::{check_rights, fixed, interrupt};

const NODE_PORT: u16 = 30_080;
const PORT: Port = Port { name: "udp", protocol: "UDP", port: 80, target: 9000 };
/// Length of the frames, as those of [`packets`].
const LENGTH: usize = 64;

/// What to measure.
#[derive(Debug, Args)]
pub struct Xdp {
    /// With so many flows
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "1,1000",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    flows: Vec<u32>,
    /// For about so many seconds each
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Who does the work of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Fixed,
    Xdp,
    Tc,
}

impl Path {
    /// What the others are compared with comes first.
    const ALL: [Self; 3] = [Self::Fixed, Self::Xdp, Self::Tc];

    fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed rewrites, XDP_TX",
            Self::Xdp => "pintle, XDP",
            Self::Tc => "pintle, tc",
        }
    }
}

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    machine: Machine,
    rows: Vec<Row>,
}

/// A path with a number of flows.
#[derive(Debug, Serialize)]
struct Row {
    path: &'static str,
    flows: u32,
    /// Nanoseconds of CPU for a packet, sender and receiver included: the median of all rounds.
    ns: f64,
    /// Of that to what the first path takes, in the same round.
    ratio: f64,
    /// Packets that did not arrive, of a million.
    lost: f64,
}

impl Xdp {
    /// Measures and prints.
    pub fn run(&self, output: Format) -> Result<Outcome> {
        check_rights()?;
        interrupt::watch()?;
        let cpus = Cpus::choose()?;
        let machine = Machine::look(cpus.measured());
        cpus.keep_off().context("leave the CPU of the measurement")?;
        let sites = Path::ALL.map(Site::build).into_iter().collect::<Result<Vec<_>>>()?;
        let mut rows = Vec::new();
        for flows in &self.flows {
            let tracks = sites.iter().map(Site::track).collect::<Result<Vec<_>>>()?;
            let measured = packets::measure(&tracks, *flows, self.seconds, cpus)?;
            let paths = Path::ALL.iter().zip(&measured);
            rows.extend(paths.map(|(path, measured)| Row::of(*path, *flows, measured)));
        }
        let run = Run { machine, rows };
        match self.json || output == Format::Json {
            true => writeln!(io::stdout(), "{:#}", serde_json::to_value(&run)?)?,
            false => write!(io::stdout(), "{}", run.table())?,
        }
        Ok(Outcome::Good)
    }
}

impl Row {
    fn of(path: Path, flows: u32, measured: &Measured) -> Self {
        let sent = (measured.operations + measured.failed) as f64;
        Self {
            path: path.name(),
            flows,
            ns: measured.over_epochs(|epoch| epoch.median_ns),
            ratio: measured.over_epochs(|epoch| epoch.ratio),
            lost: measured.failed as f64 * 1e6 / sent,
        }
    }
}

impl Run {
    fn table(&self) -> String {
        let head = ["PATH", "FLOWS", "NS PER PACKET", "RATIO", "LOST PER MILLION"];
        let mut table = vec![head.map(str::to_owned).to_vec()];
        table.extend(self.rows.iter().map(|row| {
            let Row { path, flows, ns, ratio, lost } = row;
            let numbers = [format!("{ns:.0}"), format!("{ratio:.2}"), format!("{lost:.0}")];
            [&[(*path).to_owned(), flows.to_string()], &numbers[..]].concat()
        }));
        format!(
            "{}\nCPU time of everything on one CPU: the sender, the veth, the node, who counts what it sends.\n",
            align(&table)
        )
    }
}

/// A node and its neighbours. Fields drop in this order: what runs, what it runs in.
struct Site {
    path: Path,
    _fixed: Option<[OwnedFd; 2]>,
    _agent: Agent,
    _pod: Pod,
    world: World,
}

impl Site {
    fn build(path: Path) -> Result<Self> {
        interrupt::check()?;
        // The sink will be where the peers' programs would be.
        let mut world = World::without_xdp(2, Cni::Ptp)?;
        world.know_neighbours()?;
        let pod = world.nodes[1].add_pod("remote")?;
        let node = &world.nodes[0];
        let mut agent = Agent::of_binary(node, FastPath::Auto, std::env::current_exe()?)?;
        world.objects().show(&agent.manifests)?;
        let service = Service {
            kind: "NodePort",
            node_ports: vec![(PORT.name, NODE_PORT)],
            ..Service::dual_stack("probe", 10, &[PORT])
        };
        agent.manifests.service(&service)?;
        agent.manifests.endpoints(&service, &[Endpoint::ready(&pod)])?;
        agent.extra_args =
            vec![format!("--xdp={}", if path == Path::Xdp { "always" } else { "off" })];
        agent.start().context("start the agent")?;
        let mut site = Self { path, _fixed: None, _agent: agent, _pod: pod, world };
        if path == Path::Fixed {
            let program = fixed::program(&site.frame()?.bytes(LENGTH))?;
            let link = bpf::attach_xdp(&site.uplink(), &program)?;
            site._fixed = Some([program, link]);
        }
        Ok(site)
    }

    fn uplink(&self) -> Device {
        Device::new(&self.world.nodes[0], "eth0")
    }

    /// What a client sends, as the router passes it on.
    fn frame(&self) -> Result<Frame> {
        let router = Device::new(self.world.router(), "switch").mac()?;
        Ok(Frame {
            macs: [router, self.uplink().mac()?],
            src: SocketAddr::from(([198, 51, 100, 9], 0)),
            dst: SocketAddr::new(self.world.nodes[0].ip_of(Family::V4), NODE_PORT),
            transport: Transport::Udp,
            checksum: 0x1234,
        })
    }

    fn track(&self) -> Result<Track> {
        let source = Device::new(self.world.router(), "node1");
        Ok(Track {
            sinks: vec![source.clone()],
            source,
            peer: self.uplink(),
            early: self.path != Path::Tc,
            frame: self.frame()?,
        })
    }
}
