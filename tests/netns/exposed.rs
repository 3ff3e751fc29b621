// SPDX-License-Identifier: Apache-2.0
//! The scene of a service that is dialled from everywhere: from a pod, from the node itself, and from
//! outside at a node port. Of its three backends the last one is on another node.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use pintle_lab::{
    agent::{Agent, FastPath},
    cgroup::Cgroup,
    client::DEADLINE,
    manifest::{Endpoint, Port, Service},
    netns::NetNs,
    topology::{Cni, Family, Outsider, Pod, World},
};
use pintle_tests::{
    api_server::ApiServer,
    load::{Kind, Load},
};

use crate::scene::{Backend, DNS, HTTP, endpoints, web};

/// The node ports of the service.
pub const NODE_PORTS: [(&str, u16); 3] = [("http", 30080), ("dns", 30053), ("echo", 30007)];

/// Two nodes, of which the first has the agent, two backends of `web` and a client.
pub struct Exposed {
    // Fields drop in this order: the agent ends before its node does.
    pub agent: Agent,
    pub web: Service,
    pub client: Pod,
    pub outsider: Outsider,
    pub backends: Vec<Backend>,
    pub world: World,
    pub cgroup: Cgroup,
}

/// A way to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A pod that dials the cluster address.
    Pod,
    /// The node itself, at the cluster address.
    Node,
    /// A client outside the cluster, at the node port.
    Outside,
}

impl From {
    /// All of them.
    pub const ALL: [From; 3] = [From::Pod, From::Node, From::Outside];
}

impl Exposed {
    /// Builds everything; sockets are translated as `socket_lb` says.
    pub fn new(cni: Cni, fast_path: FastPath, socket_lb: &str) -> Exposed {
        Exposed::in_world(World::new(2, cni).expect("two nodes"), fast_path, socket_lb)
    }

    /// The same on these nodes.
    pub fn in_world(world: World, fast_path: FastPath, socket_lb: &str) -> Exposed {
        let mut scene = Exposed::build(world, fast_path, socket_lb).expect("build the scene");
        scene.agent.start().expect("start the agent");
        scene
    }

    /// The same, with an agent that reads from an API server.
    pub fn at_an_api_server(
        cni: Cni,
        fast_path: FastPath,
        socket_lb: &str,
    ) -> (Exposed, Arc<ApiServer>) {
        let world = World::new(2, cni).expect("two nodes");
        let mut scene = Exposed::build(world, fast_path, socket_lb).expect("build the scene");
        let server = ApiServer::beside(&mut scene.agent).expect("an API server");
        scene.agent.start().expect("start the agent");
        (scene, server)
    }

    fn build(mut world: World, fast_path: FastPath, socket_lb: &str) -> Result<Exposed> {
        let client = world.nodes[0].add_pod("client")?;
        let places = [(0, 1), (0, 2), (1, 3)];
        let backends = places.map(|(node, number)| Backend::new(&mut world.nodes[node], number));
        let backends = backends.into_iter().collect::<Result<Vec<_>>>()?;
        let (outsider, cgroup) = (world.add_outsider()?, Cgroup::new()?);
        let mut agent = Agent::new(&world.nodes[0], fast_path)?;
        agent.translate_sockets(socket_lb, cgroup.path());
        let web = Service { kind: "NodePort", node_ports: NODE_PORTS.into(), ..web(10) };
        agent.manifests.service(&web)?;
        agent.manifests.endpoints(&web, &endpoints(&backends))?;
        Ok(Exposed { agent, web, client, outsider, backends, world, cgroup })
    }

    /// The node port of a port.
    pub fn node_port(port: &Port) -> u16 {
        let found = NODE_PORTS.iter().find(|(name, _)| *name == port.name);
        found.expect("the port has a node port").1
    }

    /// Where the client is, and what it dials.
    pub fn way(&self, from: From, family: Family, port: &Port) -> (&NetNs, SocketAddr) {
        let cluster = SocketAddr::new(self.web.ip(family), port.port);
        let node: IpAddr = self.world.nodes[0].ip_of(family);
        match from {
            From::Pod => (&self.client, cluster),
            From::Node => (&self.world.nodes[0], cluster),
            From::Outside => (&self.outsider, SocketAddr::new(node, Exposed::node_port(port))),
        }
    }

    /// Load of one kind, by `workers` clients.
    pub fn load(&self, from: From, family: Family, workers: u32, kind: Kind) -> Load {
        self.patient_load((from, family), workers, kind, DEADLINE)
    }

    /// The same, with another patience.
    pub fn patient_load(
        &self,
        (from, family): (From, Family),
        workers: u32,
        kind: Kind,
        patience: Duration,
    ) -> Load {
        let port = match kind {
            Kind::LongLived { .. } | Kind::Short { .. } => &HTTP,
            Kind::UdpNewPort { .. } | Kind::UdpSamePort { .. } => &DNS,
        };
        let (ns, target) = self.way(from, family, port);
        self.cgroup.run(|| Load::patient(ns, target, workers, kind, patience))
    }

    /// Replaces the endpoints and waits until they are programmed.
    pub fn set_endpoints(&mut self, endpoints: &[Endpoint]) {
        self.agent.manifests.endpoints(&self.web, endpoints).expect("write the slices");
        self.agent.settle().expect("settle");
    }

    /// Replaces the service and waits until it is programmed.
    pub fn set_service(&mut self, service: Service) {
        self.agent.manifests.service(&service).expect("write the service");
        self.web = service;
        self.agent.settle().expect("settle");
    }

    /// Replaces the endpoints by these backends, all ready.
    pub fn set_ready(&mut self, backends: &[usize]) {
        let chosen = endpoints(backends.iter().map(|index| &self.backends[*index]));
        self.set_endpoints(&chosen);
    }
}
