// SPDX-License-Identifier: Apache-2.0
//! A world as it stands: two nodes, pods with servers on both, a client in a pod and one outside, and
//! on the first node whatever leads to the services.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::cgroup::Cgroup;
use pintle_lab::cluster::{Cluster, Layout};
use pintle_lab::device::Device;
use pintle_lab::kube_proxy::{self, Iptables, ServiceRules, iptables, nftables};
use pintle_lab::manifest::{Endpoint, Port, Service};
use pintle_lab::server::Server;
use pintle_lab::topology::{self, Cni, Family, Machine as _, Node, Outsider, Pod};

use super::client::Place;
use super::workload::{Operation, Route};
use super::world::{DataPath, World};
use crate::cpu::Cpus;
use crate::frame::{Frame, Transport};
use crate::packets::Track;

/// Pods behind the measured service, and behind every other one.
const ENDPOINTS: u32 = 3;
/// Services that nftables is given in one transaction: it is quadratic in them.
const TRANSACTION: usize = 2_000;

const TCP: Port = Port { name: "tcp", protocol: "TCP", port: 80, target: 9000 };
const UDP: Port = Port { name: "udp", protocol: "UDP", port: 53, target: 5353 };
const BULK: Port = Port { name: "bulk", protocol: "TCP", port: 81, target: 9001 };
const NODE_PORT_LOCAL: u16 = 30080;
const NODE_PORT_REMOTE: u16 = 30081;

/// Fields drop in this order: what runs, what it runs in.
pub struct Site {
    /// Which world it is.
    pub world: World,
    agent: Option<Agent>,
    servers: Vec<Server>,
    cgroup: Option<Arc<Cgroup>>,
    client: Pod,
    outsider: Outsider,
    local: Vec<Pod>,
    remote: Pod,
    lab: topology::World,
}

/// The measured services: their objects, and the pods behind them.
struct Probes {
    cluster_ip: Service,
    local: Service,
    remote: Service,
}

impl Site {
    /// Builds a world with everything in it.
    pub fn build(world: World, cpus: Cpus) -> Result<Self> {
        let mut lab = topology::World::new(2, Cni::Ptp)?;
        let client = lab.nodes[0].add_pod("client")?;
        // More short connections than ports: closed ones are used again after a second.
        client.set_sysctls(&[("net/ipv4/tcp_tw_reuse", "1")])?;
        let local = ["a", "b", "c"].map(|name| lab.nodes[0].add_pod(name));
        let local = local.into_iter().collect::<Result<Vec<_>>>()?;
        let remote = lab.nodes[1].add_pod("d")?;
        let outsider = lab.add_outsider()?;
        outsider.set_sysctls(&[("net/ipv4/tcp_tw_reuse", "1")])?;
        lab.route_pods_by_first()?;
        let agent = None;
        let servers = Vec::new();
        let cgroup = None;
        let mut site = Self { world, agent, servers, cgroup, client, outsider, local, remote, lab };
        site.install().with_context(|| world.name())?;
        site.serve(cpus)?;
        Ok(site)
    }

    /// Where a client of a workload is, and whom it dials.
    pub fn place(&self, route: Route, operation: Operation) -> Place {
        let port = match operation {
            Operation::Datagram | Operation::DatagramRequest => UDP,
            Operation::Bulk => BULK,
            _ => TCP,
        };
        let (ns, pods) = match route {
            Route::ClusterIp => (self.client.ns().clone(), &self.local[..]),
            Route::NodePortLocal => ((*self.outsider).clone(), &self.local[..]),
            Route::NodePortRemote => ((*self.outsider).clone(), std::slice::from_ref(&self.remote)),
        };
        let node = self.node().ip_of(Family::V4);
        let targets = match (self.world.path, route) {
            (DataPath::Direct, _) => {
                pods.iter().map(|pod| pod.addr(Family::V4, port.target)).collect()
            }
            (_, Route::ClusterIp) => {
                vec![SocketAddr::new(probes().cluster_ip.ip(Family::V4), port.port)]
            }
            (_, Route::NodePortLocal) => vec![SocketAddr::new(node, NODE_PORT_LOCAL)],
            (_, Route::NodePortRemote) => vec![SocketAddr::new(node, NODE_PORT_REMOTE)],
        };
        Place { ns, cgroup: self.cgroup.clone(), targets }
    }

    /// The way of datagrams from the client's pod to the pods of the service.
    pub fn track(&self) -> Result<Track> {
        let eth0 = |pod: &Pod| Device::new(pod.ns(), "eth0");
        let place = self.place(Route::ClusterIp, Operation::Datagram);
        let source = eth0(&self.client);
        let peer = Device::new(self.node().netns(), &self.client.host_device);
        let frame = Frame {
            macs: [source.mac()?, peer.mac()?],
            src: self.client.addr(Family::V4, 0),
            dst: place.targets[0],
            transport: Transport::Udp,
            checksum: 0,
        };
        let sinks = self.local.iter().map(eth0).collect();
        Ok(Track { source, peer, sinks, early: false, frame })
    }

    fn node(&self) -> &Node {
        &self.lab.nodes[0]
    }

    /// Starts the servers where clients will be: on the CPU of the measurement.
    fn serve(&mut self, cpus: Cpus) -> Result<()> {
        let pods = || self.local.iter().chain([&self.remote]);
        let start = || -> Result<Vec<Server>> {
            cpus.enter()?;
            let mut servers = Vec::new();
            for pod in pods() {
                servers.push(Server::tcp_one_by_one(pod, TCP.target)?);
                servers.push(Server::udp_mirror(pod, UDP.target)?);
                servers.push(Server::tcp_bulk(pod, BULK.target, super::client::BULK)?);
            }
            Ok(servers)
        };
        let started = std::thread::scope(|scope| scope.spawn(start).join());
        self.servers = started.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(())
    }

    /// Brings in what leads to the services.
    fn install(&mut self) -> Result<()> {
        if self.world.conntrack {
            Iptables::Legacy.restore(
                self.node(),
                Family::V4,
                &iptables::fixed_rules(Family::V4),
            )?;
        }
        match self.world.path {
            DataPath::Direct => {}
            DataPath::IptablesLegacy => self.install_iptables(Iptables::Legacy)?,
            DataPath::IptablesNft => self.install_iptables(Iptables::Nft)?,
            DataPath::Nftables => self.install_nftables()?,
            DataPath::Ipvs => self.install_ipvs()?,
            DataPath::Pintle | DataPath::PintleSockets => self.install_pintle()?,
        }
        self.shorten_timeouts()
    }

    fn install_iptables(&self, back_end: Iptables) -> Result<()> {
        let rules = kube_proxy::iptables_mode(&self.rules());
        back_end.restore(self.node(), Family::V4, &rules)?;
        back_end.restore(self.node(), Family::V4, iptables::LOCALNET).map(drop)
    }

    fn install_nftables(&self) -> Result<()> {
        let node = self.node();
        let node_ips = [node.ip_of(Family::V4)];
        kube_proxy::nft(node, &nftables::fixed_rules(Family::V4, &node_ips))?;
        for services in self.rules().chunks(TRANSACTION) {
            kube_proxy::nft(node, &nftables::service_rules(Family::V4, services))?;
        }
        Ok(())
    }

    fn install_ipvs(&self) -> Result<()> {
        let node = self.node();
        let rules = self.rules();
        Iptables::Legacy.restore(node, Family::V4, &iptables::fixed_rules(Family::V4))?;
        let masquerade = "*nat\n-A POSTROUTING -m ipvs --ipvs -s 198.51.100.0/24 \
                          -j MASQUERADE --random-fully\nCOMMIT\n";
        Iptables::Legacy.restore(node, Family::V4, masquerade)?;
        let mut lines = vec!["link add kube-ipvs0 type dummy".to_owned()];
        let mut addresses: Vec<IpAddr> = rules.iter().map(|rules| rules.frontend.ip()).collect();
        addresses.dedup();
        lines.extend(addresses.iter().map(|ip| format!("addr add {ip}/32 dev kube-ipvs0")));
        node.ip(&lines)?;
        node.set_sysctls(&[("net/ipv4/vs/conntrack", "1")])?;
        let servers = kube_proxy::ipvs_mode(&rules, &[node.ip_of(Family::V4)]);
        kube_proxy::loader::ipvsadm(node, &servers).map(drop)
    }

    fn install_pintle(&mut self) -> Result<()> {
        let binary = std::env::current_exe()?;
        let mut agent = Agent::of_binary(self.node(), FastPath::Auto, binary)?;
        self.lab.objects().show(&agent.manifests)?;
        if self.world.path == DataPath::PintleSockets {
            let cgroup = Arc::new(Cgroup::new()?);
            agent.translate_sockets("all", cgroup.path());
            self.cgroup = Some(cgroup);
        }
        self.fillers().write(&agent.manifests, Layout::OneJsonFile)?;
        let Probes { cluster_ip, local, remote } = probes();
        let ready = |pods: &[Pod]| pods.iter().map(Endpoint::ready).collect::<Vec<_>>();
        for (service, endpoints) in [
            (cluster_ip, ready(&self.local)),
            (local, ready(&self.local)),
            (remote, ready(std::slice::from_ref(&self.remote))),
        ] {
            agent.manifests.service(&service)?;
            agent.manifests.endpoints(&service, &endpoints)?;
        }
        agent.start()?;
        self.agent = Some(agent);
        Ok(())
    }

    /// The services that nobody dials.
    fn fillers(&self) -> Cluster {
        Cluster { services: self.world.services.saturating_sub(1), endpoints: ENDPOINTS }
    }

    /// All services as rules; those that are tried one by one find the measured one last.
    fn rules(&self) -> Vec<ServiceRules> {
        let fillers = self.fillers();
        let mut rules: Vec<ServiceRules> =
            (0..fillers.services).map(|service| fillers.rules(service)).collect();
        let Probes { cluster_ip, local, remote } = probes();
        let remote_pods = std::slice::from_ref(&self.remote);
        rules.push(of_probe(&local, &TCP, &self.local, Some(NODE_PORT_LOCAL)));
        rules.push(of_probe(&remote, &TCP, remote_pods, Some(NODE_PORT_REMOTE)));
        for port in [BULK, UDP, TCP] {
            rules.push(of_probe(&cluster_ip, &port, &self.local, None));
        }
        rules
    }

    /// Tracked connections that are closed go soon: the table has room for some seconds of them.
    fn shorten_timeouts(&self) -> Result<()> {
        const TIMEOUTS: [(&str, &str); 3] = [
            ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
            ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1"),
            ("net/netfilter/nf_conntrack_tcp_timeout_last_ack", "1"),
        ];
        let is_tracked = self.world.conntrack
            || !(self.world.path == DataPath::Direct || self.world.path.is_pintle());
        if is_tracked { self.node().set_sysctls(&TIMEOUTS) } else { Ok(()) }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.servers.iter().for_each(Server::stop);
    }
}

fn probes() -> Probes {
    let service = |name: &str, number: u8, ports: &[Port]| Service {
        // Beside those of the other services, which are many.
        cluster_ips: vec![
            IpAddr::from([10, 98, 0, number]),
            IpAddr::from([0xfd00, 0x10, 0x96, 0, 0, 0, 1, u16::from(number)]),
        ],
        ..Service::dual_stack(name, number, ports)
    };
    let exposed = |name: &str, number: u8, port: u16| Service {
        kind: "NodePort",
        node_ports: vec![(TCP.name, port)],
        ..service(name, number, &[TCP])
    };
    Probes {
        cluster_ip: service("probe", 1, &[TCP, UDP, BULK]),
        local: exposed("probe-local", 2, NODE_PORT_LOCAL),
        remote: exposed("probe-remote", 3, NODE_PORT_REMOTE),
    }
}

fn of_probe(service: &Service, port: &Port, pods: &[Pod], node_port: Option<u16>) -> ServiceRules {
    ServiceRules {
        name: format!("{}/{}:{}", service.namespace, service.name, port.name),
        protocol: if port.protocol == "UDP" { "udp" } else { "tcp" },
        frontend: SocketAddr::new(service.ip(Family::V4), port.port),
        endpoints: pods.iter().map(|pod| pod.addr(Family::V4, port.target)).collect(),
        node_port,
    }
}
