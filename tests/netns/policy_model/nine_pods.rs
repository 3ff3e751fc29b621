// SPDX-License-Identifier: Apache-2.0
//! The nine pods, their services and agents; a check of the whole matrix against an expectation.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use anyhow::Result;
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::manifest::{Endpoint, Port, Service, slice_yaml};
use pintle_lab::objects::{ContainerPort, PodObject};
use pintle_lab::topology::{Cni, Family, Pod, World};

use super::probe::{Outcome, Protocol, Target, ask};
use super::server::{PORTS, Servers};

pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
/// Namespace and name of every pod. All `b` are on node 2, where there is one.
pub const NAMES: [&str; 9] = ["x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c"];
/// What a service's port number has more than its target's: rules name the target.
pub const SERVICE_PORT: u16 = 8000;
/// Ports that probes of services dial from, and no others: while a connection to a service is kept,
/// the same port cannot dial the service's pod itself. Below those that the kernel gives out.
const SERVICE_CLIENTS: std::ops::Range<u16> = 1024..10240;
/// How many wrong cells a failure shows.
const SHOWN: usize = 16;

/// How a probe dials a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// At its own address.
    Direct,
    /// At the ClusterIP of its service.
    Service,
}

/// One cell of the matrix. The port is the pod's, also through the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub from: &'static str,
    pub to: &'static str,
    pub protocol: Protocol,
    pub port: u16,
    pub family: Family,
    pub way: Way,
}

impl Cell {
    pub fn src_ns(&self) -> &'static str {
        &self.from[..1]
    }
    pub fn dst_ns(&self) -> &'static str {
        &self.to[..1]
    }
    pub fn src_pod(&self) -> &'static str {
        &self.from[2..]
    }
    pub fn dst_pod(&self) -> &'static str {
        &self.to[2..]
    }
    pub fn is(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && self.port == port
    }
    pub fn tcp(&self) -> bool {
        self.protocol == Protocol::Tcp
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { from, to, protocol, port, family, way } = self;
        write!(f, "{from} to {to} {protocol:?} {port} {family:?} {way:?}")
    }
}

/// The model. Fields drop in this order: agents, servers, namespaces.
pub struct NinePods {
    pub agents: Vec<Agent>,
    pub servers: Vec<Servers>,
    pub pods: Vec<Pod>,
    pub services: Vec<Service>,
    pub world: World,
    pub fast_path: FastPath,
    /// Probes of services so far.
    dialled: AtomicU16,
}

impl NinePods {
    /// The model on so many nodes, with running agents.
    pub fn new(nodes: u8, cni: Cni, fast_path: FastPath) -> NinePods {
        let mut nine = NinePods::without_agents(nodes, cni, fast_path).expect("nine pods");
        nine.agents.iter_mut().try_for_each(Agent::start).expect("agents");
        nine
    }

    /// The same with agents that are ready to start.
    pub fn without_agents(nodes: u8, cni: Cni, fast_path: FastPath) -> Result<NinePods> {
        let mut world = World::new(nodes, cni)?;
        for namespace in NAMESPACES {
            world.objects().put_namespace(namespace, &[("ns", namespace)])?;
        }
        let pods = NAMES.into_iter().map(|name| add_pod(&mut world, name));
        let pods = pods.collect::<Result<Vec<_>>>()?;
        let servers = pods.iter().map(|pod| Servers::start(pod, &pod.name));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let services: Vec<Service> = pods.iter().zip(100..).map(service_of).collect();
        for (service, pod) in services.iter().zip(&pods) {
            let Service { namespace, name, .. } = service;
            let slices =
                Family::BOTH.map(|family| slice_yaml(service, &[Endpoint::ready(pod)], family));
            let text = [service.yaml(), slices.join("---\n")].join("---\n");
            world.objects().put(&format!("service-{namespace}-{name}.yaml"), &text)?;
        }
        let agents = world.nodes.iter().map(|node| Agent::new(node, fast_path));
        let agents = agents.collect::<Result<Vec<_>>>()?;
        let dialled = AtomicU16::new(0);
        Ok(NinePods { agents, servers, pods, services, world, fast_path, dialled })
    }

    pub fn pod(&self, name: &str) -> &Pod {
        &self.pods[index(name)]
    }

    pub fn server(&self, name: &str) -> &Servers {
        &self.servers[index(name)]
    }

    /// What a cell's probe dials.
    fn target(&self, cell: &Cell) -> Target {
        let Cell { protocol, family, port, .. } = *cell;
        match cell.way {
            Way::Direct => Target::new(protocol, self.pod(cell.to).addr(family, port)),
            Way::Service => {
                let service = &self.services[index(cell.to)];
                let addr = SocketAddr::new(service.ip(family), SERVICE_PORT + port);
                let number = self.dialled.fetch_add(1, Ordering::Relaxed);
                let from_port = SERVICE_CLIENTS.start + number % SERVICE_CLIENTS.len() as u16;
                Target { protocol, addr, from_port }
            }
        }
    }

    /// Returns when every agent has programmed what was written.
    pub fn settle(&mut self) {
        thread::scope(|scope| {
            let settling: Vec<_> =
                self.agents.iter_mut().map(|agent| scope.spawn(|| agent.settle())).collect();
            for one in settling {
                one.join().expect("a thread").expect("settle");
            }
        });
    }

    /// These policies hold from now on, and no others. They may be many lines with `---` between.
    pub fn set_policies(&mut self, policies: &[String]) {
        let text = policies.join("---\n");
        self.world.objects().put("policies.yaml", &text).expect("write the policies");
        self.settle();
    }

    /// Changes the labels of a pod.
    pub fn label(&mut self, name: &str, labels: &[(&str, &str)]) {
        let object = self.pods[index(name)].object.as_mut().expect("an object");
        object.labels = pairs(labels);
        self.world.objects().put_pod(object).expect("write the pod");
        self.settle();
    }

    /// Sets policies and compares every cell with an expectation; a pod that dials its own service
    /// reaches itself.
    #[track_caller]
    pub fn check(&mut self, what: &str, policies: &[String], expected: impl Fn(&Cell) -> bool) {
        self.set_policies(policies);
        self.expect(what, expected);
    }

    /// Compares every cell with an expectation.
    #[track_caller]
    pub fn expect(&self, what: &str, expected: impl Fn(&Cell) -> bool) {
        self.expect_also_of_hairpins(what, |cell| cell.from == cell.to || expected(cell));
    }

    /// The same, with an expectation of what goes through a service back to its client, too.
    #[track_caller]
    pub fn expect_also_of_hairpins(&self, what: &str, expected: impl Fn(&Cell) -> bool) {
        let cells = cells();
        let outcomes = self.probe(&cells);
        let mut wrong = Vec::new();
        for (cell, outcome) in cells.iter().zip(&outcomes) {
            let is_own_address = cell.from == cell.to && cell.way == Way::Direct;
            let is_expected = is_own_address || expected(cell);
            if !self.is_as_expected(cell, outcome, is_expected) {
                wrong.push(format!("{cell}: {outcome:?}, expected {is_expected}"));
            }
        }
        let (count, of) = (wrong.len(), cells.len());
        wrong.truncate(SHOWN);
        assert!(wrong.is_empty(), "{what}: {count} of {of} cells\n{}", wrong.join("\n"));
    }

    fn is_as_expected(&self, cell: &Cell, outcome: &Outcome, is_expected: bool) -> bool {
        match outcome {
            Outcome::Answer { by, seen } => {
                // Policies judge pods' addresses, so nothing may have hidden them.
                let is_hairpin = cell.from == cell.to;
                let client = self.pod(cell.from).ip(cell.family);
                is_expected && by == cell.to && (is_hairpin || *seen == client)
            }
            Outcome::Silence => !is_expected,
            Outcome::Error(_) => false,
        }
    }

    /// The outcome of every cell, all at the same time.
    pub fn probe(&self, cells: &[Cell]) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::Silence; cells.len()];
        let by_pod = thread::scope(|scope| {
            let asking = NAMES.map(|name| {
                let own = cells.iter().enumerate().filter(move |(_, cell)| cell.from == name);
                let (places, targets): (Vec<usize>, Vec<_>) =
                    own.map(|(place, cell)| (place, self.target(cell))).unzip();
                scope.spawn(move || (places, ask(self.pod(name), &targets)))
            });
            asking.map(|one| one.join().expect("the probes of a pod"))
        });
        for (places, found) in by_pod {
            for (place, outcome) in places.into_iter().zip(found) {
                outcomes[place] = outcome;
            }
        }
        outcomes
    }
}

/// Every cell.
pub fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for from in NAMES {
        for to in NAMES {
            for protocol in Protocol::BOTH {
                for port in PORTS {
                    for family in Family::BOTH {
                        for way in [Way::Direct, Way::Service] {
                            cells.push(Cell { from, to, protocol, port, family, way });
                        }
                    }
                }
            }
        }
    }
    cells
}

fn index(name: &str) -> usize {
    NAMES.iter().position(|known| *known == name).expect("a pod of the model")
}

pub fn pairs(labels: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn add_pod(world: &mut World, name: &str) -> Result<Pod> {
    let (namespace, short) = name.split_once('/').expect("namespace/name");
    let place = usize::from(short == "b" && world.nodes.len() > 1);
    let node = &mut world.nodes[place];
    let pod = node.wire_pod(name)?;
    let mut object = PodObject::new(namespace, short, &node.name, &[]);
    object.labels = pairs(&[("pod", short)]);
    object.ports = named_ports(short);
    node.announce(pod, object)
}

/// Every port has a name of its own; what `web` and `alt` mean differs between the pods.
fn named_ports(pod: &str) -> Vec<ContainerPort> {
    let port = |name, protocol, number| ContainerPort { name, protocol, number };
    let mut ports = vec![
        port("serve-80-tcp", "TCP", 80),
        port("serve-81-tcp", "TCP", 81),
        port("serve-80-udp", "UDP", 80),
        port("serve-81-udp", "UDP", 81),
    ];
    ports.extend(match pod {
        "a" => vec![port("web", "TCP", 80), port("web", "UDP", 81)],
        "b" => vec![port("web", "TCP", 81)],
        _ => vec![port("web", "UDP", 80)],
    });
    ports
}

fn service_of((pod, number): (&Pod, u8)) -> Service {
    let port = |name, protocol, target| {
        let port = SERVICE_PORT + target;
        Port { name, protocol, port, target }
    };
    let ports = [
        port("t80", "TCP", 80),
        port("t81", "TCP", 81),
        port("u80", "UDP", 80),
        port("u81", "UDP", 81),
    ];
    let object = pod.object.as_ref().expect("an object");
    let mut service = Service::dual_stack(&object.name, number, &ports);
    service.namespace.clone_from(&object.namespace);
    service
}

/// Checks who may dial `x` by the peers of the only rule; everybody else may be dialled by all.
pub fn from(nine: &mut NinePods, peers: &str, is_peer: impl Fn(&Cell) -> bool) {
    let spec = format!("ingress: [{{from: [{peers}]}}]");
    nine.check(peers, &[policy("x/p", &spec)], |cell| cell.dst_ns() != "x" || is_peer(cell));
}

/// The same of whom `x` may dial.
pub fn to(nine: &mut NinePods, peers: &str, is_peer: impl Fn(&Cell) -> bool) {
    let spec = format!("policyTypes: [Egress], egress: [{{to: [{peers}]}}]");
    nine.check(peers, &[policy("x/p", &spec)], |cell| cell.src_ns() != "x" || is_peer(cell));
}

/// A NetworkPolicy: `NAMESPACE/NAME` and its spec in flow style, without the outer braces.
pub fn policy(name: &str, spec: &str) -> String {
    annotated(name, "", spec)
}

/// The same with annotations in flow style.
pub fn annotated(name: &str, annotations: &str, spec: &str) -> String {
    let (namespace, short) = name.split_once('/').expect("namespace/name");
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {short}, namespace: {namespace}, annotations: {{{annotations}}}}}\n\
         spec: {{{spec}}}\n"
    )
}

/// A ClusterNetworkPolicy: tier and priority, its subject and its rules.
pub fn cluster_policy(name: &str, place: &str, subject: &str, rules: &str) -> String {
    let (tier, priority) = place.split_once(' ').expect("tier and priority");
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n\
         metadata: {{name: {name}}}\n\
         spec: {{tier: {tier}, priority: {priority}, subject: {{{subject}}}, {rules}}}\n"
    )
}

/// A subject or peer: all pods of a namespace.
pub fn of_namespace(namespace: &str) -> String {
    format!("namespaces: {{matchLabels: {{ns: {namespace}}}}}")
}
