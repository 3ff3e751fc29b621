// SPDX-License-Identifier: Apache-2.0
//! The scene of traffic between nodes: three of them with an agent and a backend each, pods that dial,
//! and a client outside, behind a router that knows service addresses at node 1.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::manifest::{Endpoint, Port, Service};
use pintle_lab::server::Server;
use pintle_lab::topology::{Cni, Family, Outsider, Pod, World};

use crate::scene::{Backend, DNS, ECHO, HTTP};

/// Servers of this one say who asks; over UDP, at the port number of `HTTP`.
pub const WHO: Port = Port { name: "who", protocol: "UDP", port: 80, target: 5354 };

/// The node port of `HTTP` and of `WHO`.
pub const NODE_PORT: u16 = 30080;
/// The node port of `ECHO`.
pub const ECHO_NODE_PORT: u16 = 30007;
/// The node port of datagrams that come back as they are, and its service port.
pub const MIRROR_NODE_PORT: u16 = 30053;
pub const MIRROR: Port = Port { port: 53, ..DNS };

/// What a traffic policy asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Endpoints of the whole cluster.
    Cluster,
    /// Those of the node that a packet meets.
    Local,
}

/// A backend and its servers that say who asks.
pub struct Responder {
    pub backend: Backend,
    _who: Server,
}

/// Three nodes. Backend `web-N` is on node `N`; clients are on nodes 1 and 2.
pub struct ThreeNodes {
    // Fields drop in this order: the agents end before their nodes do.
    pub agents: Vec<Agent>,
    pub web: Service,
    pub clients: Vec<Pod>,
    pub backends: Vec<Responder>,
    pub outside: Outsider,
    pub world: World,
}

impl ThreeNodes {
    /// Builds the world of nodes, with nothing on them.
    pub fn world(cni: Cni) -> World {
        World::new(3, cni).expect("three nodes")
    }

    /// Puts everything on the nodes and starts the agents once `prepare` has seen them.
    pub fn on(world: World, fast_path: FastPath, prepare: impl FnOnce(&mut [Agent])) -> ThreeNodes {
        ThreeNodes::build(world, fast_path, prepare).expect("build three nodes")
    }

    fn build(
        mut world: World,
        fast_path: FastPath,
        prepare: impl FnOnce(&mut [Agent]),
    ) -> Result<ThreeNodes> {
        let clients = world.nodes[..2].iter_mut().map(|node| node.add_pod("client"));
        let clients = clients.collect::<Result<Vec<_>>>()?;
        let backends = world.nodes.iter_mut().zip(1..).map(|(node, number)| {
            let backend = Backend::new(node, number)?;
            let _who = Server::udp_who(&backend.pod, WHO.target)?;
            Ok(Responder { backend, _who })
        });
        let backends = backends.collect::<Result<Vec<_>>>()?;
        let outside = world.add_outsider()?;
        let agents = world.nodes.iter().map(|node| Agent::new(node, fast_path));
        let agents = agents.collect::<Result<Vec<_>>>()?;
        let web = Service::dual_stack("web", 10, &[HTTP, WHO, ECHO, MIRROR]);
        let mut scene = ThreeNodes { agents, web, clients, backends, outside, world };
        scene.write([Policy::Cluster; 2], &scene.ready(&[1, 2, 3]))?;
        prepare(&mut scene.agents);
        scene.agents.iter_mut().try_for_each(Agent::start)?;
        Ok(scene)
    }

    /// The backends of these nodes, ready.
    pub fn ready(&self, nodes: &[usize]) -> Vec<Endpoint> {
        nodes.iter().map(|node| Endpoint::ready(self.pod(*node))).collect()
    }

    /// The backend's pod on a node.
    pub fn pod(&self, node: usize) -> &Pod {
        &self.backends[node - 1].backend.pod
    }

    /// The service of every kind with these policies, outside and inside, and its endpoints; returns when
    /// node 1 knows, which all traffic of these tests meets first.
    pub fn set(&mut self, policies: [Policy; 2], endpoints: &[Endpoint]) {
        self.write(policies, endpoints).expect("write the objects");
        self.agents[0].settle().expect("settle");
    }

    fn write(&self, policies: [Policy; 2], endpoints: &[Endpoint]) -> Result<()> {
        let text = exposed(&self.web, policies);
        for agent in &self.agents {
            agent.manifests.endpoints(&self.web, endpoints)?;
            agent.manifests.write("web-service.yaml", &text)?;
        }
        Ok(())
    }

    /// The service's ClusterIP with a port.
    pub fn cluster(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.web.ip(family), port)
    }

    /// A port of node 1.
    pub fn node(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.world.nodes[0].ip_of(family), port)
    }
}

/// The address of the service's load balancer.
pub fn balancer(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([203, 0, 113, 10]),
        Family::V6 => IpAddr::from([0xfd00, 0x203, 0, 0, 0, 0, 0, 0x10]),
    }
}

/// The service's external address.
pub fn external(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([203, 0, 113, 20]),
        Family::V6 => IpAddr::from([0xfd00, 0x203, 0, 0, 0, 0, 0, 0x20]),
    }
}

/// The service with node ports, a load balancer, external addresses and these policies, outside and
/// inside.
pub fn exposed(service: &Service, [outside, inside]: [Policy; 2]) -> String {
    let node_ports = [
        (HTTP.target, NODE_PORT),
        (WHO.target, NODE_PORT),
        (ECHO.target, ECHO_NODE_PORT),
        (MIRROR.target, MIRROR_NODE_PORT),
    ];
    let mut text = service.yaml().replace("type: ClusterIP", "type: LoadBalancer");
    for (target, port) in node_ports {
        let line = format!("targetPort: {target}\n");
        text = text.replace(&line, &format!("{line}      nodePort: {port}\n"));
    }
    let quoted =
        |of: fn(Family) -> IpAddr| Family::BOTH.map(|family| format!("\"{}\"", of(family)));
    let [balancers, externals] = [quoted(balancer), quoted(external)];
    let check = match outside {
        Policy::Cluster => "",
        Policy::Local => "  healthCheckNodePort: 31000\n",
    };
    format!(
        "{text}  externalTrafficPolicy: {outside:?}\n  internalTrafficPolicy: {inside:?}\n{check}  \
         externalIPs: [{}]\nstatus:\n  loadBalancer:\n    ingress: [{{ip: {}}}, {{ip: {}}}]\n",
        externals.join(", "),
        balancers[0],
        balancers[1],
    )
}
