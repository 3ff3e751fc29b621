// SPDX-License-Identifier: Apache-2.0
//! A node with the agent as users run it: its programs at the interfaces of pods and at the uplink, its
//! maps with as many services and policies as are asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use anyhow::{Context, Result, anyhow};
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{ProgramFd, loaded_programs};
use pintle::datapath::pins::Pins;
use pintle::node::IfIndex;
use pintle_abi::addr::{Tuple, V4, V6};
use pintle_abi::counter::{Counter, Hook, counter_index};
use pintle_abi::flow::Flow;
use pintle_abi::map::{self, MapSpec};
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::cluster::{Cluster, Layout};
use pintle_lab::device::Device;
use pintle_lab::manifest::{Endpoint, Port, Service};
use pintle_lab::objects::{NAMESPACE, PodObject};
use pintle_lab::topology::{Cni, Family, Pod, World};

use super::wrapper::{Ran, Wrapper, run};
use crate::cpu::Cpus;
use crate::frame::Frame;

/// Ports of the service and of its pods, over both protocols.
pub const SERVICE_PORT: u16 = 80;
/// See [`SERVICE_PORT`].
pub const TARGET_PORT: u16 = 9000;
/// The port of the node that leads to a pod of it.
pub const NODE_PORT_LOCAL: u16 = 30_080;
/// The port of the node that leads to a pod of another.
pub const NODE_PORT_REMOTE: u16 = 30_081;
/// Services that need more room than the maps have by default.
const MANY: u32 = 20_000;
/// Length of the frames.
pub const LENGTH: usize = 80;
/// Length of `__sk_buff`, and where `ingress_ifindex` and `ifindex` are in it.
const SKB: (usize, usize, usize) = (192, 36, 40);

/// How much there is in the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Extent {
    /// Services.
    pub services: u32,
    /// Policies, all of which select the pods that are policed.
    pub policies: u32,
}

/// Whose interface a packet is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The client's, or the client's that policies select.
    Client(Policed),
    /// The server's.
    Server(Policed),
    /// The node's uplink.
    Uplink,
    /// The same, before the kernel has a buffer for the packet.
    Driver,
}

/// Whether policies select a pod.
pub type Policed = bool;

/// Fields drop in this order: what runs, what it runs in.
pub struct Site {
    /// How much there is.
    pub extent: Extent,
    agent: Agent,
    clients: [Pod; 2],
    servers: [Pod; 2],
    remote: Pod,
    world: World,
}

impl Site {
    /// Builds a node and waits until the agent has programmed everything.
    pub fn build(extent: Extent) -> Result<Self> {
        let mut world = World::with_xdp(2, Cni::Ptp)?;
        world.know_neighbours()?;
        let mut pod = |node: usize, name: &str, policed: Policed| {
            let wired = world.nodes[node].wire_pod(name)?;
            let mut object = PodObject::new(NAMESPACE, name, "", &[]);
            object.labels = BTreeMap::from([("policed".into(), policed.to_string())]);
            world.nodes[node].announce(wired, object)
        };
        let clients = [pod(0, "client", false)?, pod(0, "policed-client", true)?];
        let servers = [pod(0, "server", false)?, pod(0, "policed-server", true)?];
        let remote = pod(1, "remote", false)?;
        let agent = Agent::of_binary(&world.nodes[0], FastPath::Auto, std::env::current_exe()?)?;
        world.objects().show(&agent.manifests)?;
        let mut site = Self { extent, agent, clients, servers, remote, world };
        site.fill()?;
        site.agent.start().context("start the agent")?;
        Ok(site)
    }

    fn fill(&mut self) -> Result<()> {
        let Extent { services, policies } = self.extent;
        if services > MANY {
            let maps = ["FRONTENDS_V4", "SLOTS_V4", "BACKENDS_V4"];
            // An address, a port, and room to spare.
            let entries = services * 3;
            self.agent.extra_args = maps.map(|map| format!("--map-size={map}={entries}")).to_vec();
        }
        let dir = &self.agent.manifests;
        Cluster { services: services.saturating_sub(1), endpoints: 1 }
            .write(dir, Layout::OneJsonFile)?;
        for (service, pod) in [
            (service(0), &self.servers[0]),
            (service(1), &self.servers[1]),
            (exposed(2, NODE_PORT_LOCAL), &self.servers[0]),
            (exposed(3, NODE_PORT_REMOTE), &self.remote),
        ] {
            dir.service(&service)?;
            dir.endpoints(&service, &[Endpoint::ready(pod)])?;
        }
        dir.write("policies.yaml", &policies_yaml(policies))
    }

    /// What a client of a pod's service dials.
    pub fn service(&self, policed: Policed, family: Family) -> SocketAddr {
        SocketAddr::new(service(policed.into()).ip(family), SERVICE_PORT)
    }

    /// The client.
    pub fn client(&self, policed: Policed) -> &Pod {
        &self.clients[usize::from(policed)]
    }

    /// The server.
    pub fn server(&self, policed: Policed) -> &Pod {
        &self.servers[usize::from(policed)]
    }

    /// The server on the other node.
    pub fn remote(&self) -> &Pod {
        &self.remote
    }

    /// An address of the node.
    pub fn node_ip(&self, family: Family) -> IpAddr {
        self.world.nodes[0].ip_of(family)
    }

    /// What comes in at a place.
    pub fn entrance(&self, place: Place) -> Result<Entrance> {
        let (hook, name) = match place {
            Place::Client(policed) => (Hook::FromPod, &*self.client(policed).host_device),
            Place::Server(policed) => (Hook::FromPod, &*self.server(policed).host_device),
            Place::Uplink => (Hook::FromNet, "eth0"),
            Place::Driver => (Hook::Xdp, "eth0"),
        };
        let device = Device::new(self.agent.netns(), name);
        let (ifindex, mac) = (device.index()?, device.mac()?);
        let pins = Pins::new(self.agent.bpf_root());
        let link = PinnedLink::from_pin(pins.link(hook, IfIndex(ifindex)))
            .with_context(|| format!("{} has no link at {name}: this needs tcx", hook.as_str()))?;
        let id = FdLink::from(link).info()?.program_id();
        let program = loaded_programs().find_map(|info| info.ok().filter(|info| info.id() == id));
        let program = program.ok_or_else(|| anyhow!("program {id} is gone"))?.fd()?;
        Ok(Entrance { place, program, ifindex, mac })
    }

    /// Sends a packet once; its frame as it goes on is returned.
    pub fn send(&self, place: Place, frame: Frame, cpus: Cpus) -> Result<Ran> {
        use std::os::fd::AsRawFd as _;
        let entrance = self.entrance(place)?;
        let program = entrance.program.as_fd().as_raw_fd();
        let bytes = entrance.addressed(frame.bytes(LENGTH));
        self.inside(cpus, || run(program, &bytes, &entrance.context(), 1))
    }

    /// Runs a wrapped program on a packet, again and again.
    pub fn repeat(
        &self,
        (wrapper, context): (&Wrapper, &[u8]),
        frame: &[u8],
        repeat: u32,
        cpus: Cpus,
    ) -> Result<Ran> {
        wrapper.restart()?;
        self.inside(cpus, || wrapper.run(frame, context, repeat))
    }

    /// How many packets XDP has sent on so far.
    pub fn redirected_early(&self) -> Result<u64> {
        let data = MapData::from_pin(Pins::new(self.agent.bpf_root()).map(&map::COUNTERS))?;
        let counters = PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(data))?;
        let index = counter_index(Hook::Xdp, Counter::Redirected);
        Ok(counters.get(&index, 0)?.iter().sum())
    }

    fn inside<T: Send>(&self, cpus: Cpus, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.agent.netns().run(|| {
            cpus.enter()?;
            work()
        })
    }

    /// Forgets every connection.
    pub fn forget(&self) -> Result<()> {
        self.clear::<V4>(&map::TCP_FLOWS_V4)?;
        self.clear::<V4>(&map::UDP_FLOWS_V4)?;
        self.clear::<V6>(&map::TCP_FLOWS_V6)?;
        self.clear::<V6>(&map::UDP_FLOWS_V6)
    }

    fn clear<A>(&self, spec: &MapSpec) -> Result<()>
    where
        Tuple<A>: aya::Pod,
        Flow<A>: aya::Pod,
    {
        let data = MapData::from_pin(Pins::new(self.agent.bpf_root()).map(spec))?;
        let mut flows: HashMap<_, Tuple<A>, Flow<A>> = HashMap::try_from(Map::HashMap(data))?;
        let keys: Vec<Tuple<A>> = flows.keys().filter_map(Result::ok).collect();
        for key in keys {
            // The agent removes what has expired.
            let _ = flows.remove(&key);
        }
        Ok(())
    }
}

/// A program at an interface.
pub struct Entrance {
    place: Place,
    /// The program.
    pub program: ProgramFd,
    /// The interface.
    ifindex: u32,
    mac: [u8; 6],
}

impl Entrance {
    /// The frame, sent to the interface's own address.
    pub fn addressed(&self, mut frame: Vec<u8>) -> Vec<u8> {
        frame[..self.mac.len()].copy_from_slice(&self.mac);
        frame
    }

    /// What the kernel knows of a packet that has come in there.
    pub fn context(&self) -> Vec<u8> {
        if self.place == Place::Driver {
            // `struct xdp_md`: where the frame is, its metadata, the device, its queue, and one more.
            let words = [0, LENGTH as u32, 0, self.ifindex, 0, 0];
            return words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        }
        let (len, ingress, own) = SKB;
        let mut context = vec![0; len];
        for at in [ingress, own] {
            context[at..at + 4].copy_from_slice(&self.ifindex.to_ne_bytes());
        }
        context
    }
}

fn service(number: u8) -> Service {
    let ports = ["TCP", "UDP"].map(|protocol| Port {
        name: if protocol == "TCP" { "tcp" } else { "udp" },
        protocol,
        port: SERVICE_PORT,
        target: TARGET_PORT,
    });
    Service {
        // Beside those of the other services, which are many.
        cluster_ips: vec![
            IpAddr::from([10, 100, 0, number + 1]),
            IpAddr::from([0xfd00, 0x10, 0x96, 0, 0, 0, 1, u16::from(number) + 1]),
        ],
        ..Service::dual_stack(&format!("probe-{number}"), number, &ports)
    }
}

fn exposed(number: u8, port: u16) -> Service {
    Service { kind: "NodePort", node_ports: vec![("tcp", port), ("udp", port)], ..service(number) }
}

/// Policies that select the same pods: the first lets them talk to each other, each of the others allows
/// a network of its own, so that none is a part of another.
fn policies_yaml(count: u32) -> String {
    let pods = "podSelector: {matchLabels: {policed: \"true\"}}";
    let mut text = String::new();
    for number in 0..count.max(1) {
        let [high, low] = [number >> 8, number & 0xff];
        let peer = match number {
            0 => format!("{{{pods}}}"),
            _ => format!("{{ipBlock: {{cidr: \"172.{}.{low}.0/24\"}}}}", 16 + high),
        };
        let _ = write!(
            text,
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  \
             name: policy-{number}\n  namespace: {NAMESPACE}\nspec:\n  {pods}\n  \
             policyTypes: [Ingress, Egress]\n  ingress:\n  - from: [{peer}]\n  egress:\n  \
             - to: [{peer}]\n"
        );
    }
    text
}
