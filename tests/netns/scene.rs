// SPDX-License-Identifier: Apache-2.0
//! The scene most tests play in: a node, a client, three backends, and the agent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::manifest::{Endpoint, Port, Service};
use pintle_lab::server::Server;
use pintle_lab::topology::{Cni, Family, Node, Pod, World};

/// Ports of the service; TCP and UDP share number 80 and are different services (S8).
pub const HTTP: Port = Port { name: "http", protocol: "TCP", port: 80, target: 8080 };
pub const DNS: Port = Port { name: "dns", protocol: "UDP", port: 80, target: 5353 };
pub const ECHO: Port = Port { name: "echo", protocol: "TCP", port: 7, target: 9000 };
/// No backend listens on this one.
pub const SILENT: Port = Port { name: "silent", protocol: "UDP", port: 99, target: 9999 };

/// How long what comes by itself may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A node with a client and three backends of `web`, and a running agent.
pub struct Scene {
    // Fields drop in this order: the agent ends before its node does.
    pub agent: Agent,
    pub web: Service,
    pub client: Pod,
    pub backends: Vec<Backend>,
    pub world: World,
}

/// A pod with a server on each target port but the silent one.
pub struct Backend {
    pub pod: Pod,
    pub http: Server,
    _others: [Server; 2],
}

impl Scene {
    /// Builds the world and starts the agent on it.
    pub fn new(cni: Cni, fast_path: FastPath) -> Scene {
        Scene::build(cni, fast_path).expect("build the scene")
    }

    /// Like `new`, with an agent that is ready to start.
    pub fn without_agent(cni: Cni, fast_path: FastPath) -> Result<Scene> {
        let mut world = World::new(1, cni)?;
        let node = &mut world.nodes[0];
        let client = node.add_pod("client")?;
        let backends = (1..=3).map(|n| Backend::new(node, n)).collect::<Result<Vec<_>>>()?;
        let web = web(10);
        let agent = Agent::new(node, fast_path)?;
        agent.manifests.service(&web)?;
        agent.manifests.endpoints(&web, &endpoints(&backends))?;
        Ok(Scene { agent, web, client, backends, world })
    }

    /// The service's address for one port.
    pub fn vip(&self, family: Family, port: &Port) -> SocketAddr {
        SocketAddr::new(self.web.ip(family), port.port)
    }

    /// Adds another service with these endpoints and waits until it is programmed.
    pub fn add_service(&mut self, service: &Service, endpoints: &[Endpoint]) {
        let agent = &mut self.agent;
        agent.manifests.endpoints(service, endpoints).expect("write the slices");
        agent.manifests.service(service).expect("write the service");
        agent.settle().expect("settle");
    }

    /// Replaces the endpoints of `web` and waits until they are programmed.
    pub fn set_endpoints(&mut self, endpoints: &[Endpoint]) {
        self.agent.manifests.endpoints(&self.web, endpoints).expect("write the slices");
        self.agent.settle().expect("settle");
    }

    fn build(cni: Cni, fast_path: FastPath) -> Result<Scene> {
        let mut scene = Scene::without_agent(cni, fast_path)?;
        scene.agent.start()?;
        Ok(scene)
    }
}

impl Backend {
    /// Adds backend `number` to the node.
    pub fn new(node: &mut Node, number: u8) -> Result<Backend> {
        Backend::of(node.add_pod(&format!("web-{number}"))?)
    }

    /// Lets a pod serve.
    pub fn of(pod: Pod) -> Result<Backend> {
        let http = Server::http(&pod, HTTP.target)?;
        let others = [Server::udp_echo(&pod, DNS.target)?, Server::tcp_echo(&pod, ECHO.target)?];
        Ok(Backend { pod, http, _others: others })
    }
}

/// A service like `web` at address `number`.
pub fn web(number: u8) -> Service {
    Service::dual_stack(&format!("web-{number}"), number, &[HTTP, DNS, ECHO, SILENT])
}

/// All these backends, ready.
pub fn endpoints<'a>(backends: impl IntoIterator<Item = &'a Backend>) -> Vec<Endpoint> {
    backends.into_iter().map(|backend| Endpoint::ready(&backend.pod)).collect()
}

/// Waits until `fact` holds, or panics after some seconds: the machine may be busy.
#[track_caller]
pub fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a check in each layout of the node, with and without the fast path.
macro_rules! in_every_layout {
    ($check:ident) => {
        in_every_layout!($check, beside_others);
    };
    ($check:ident, $company:ident) => {
        #[test]
        fn with_ptp_and_fast_path() {
            let _company = crate::company::$company();
            $check(Cni::Ptp, FastPath::Auto);
        }
        #[test]
        fn with_ptp_through_the_stack() {
            let _company = crate::company::$company();
            $check(Cni::Ptp, FastPath::Off);
        }
        #[test]
        fn with_a_bridge_and_fast_path() {
            let _company = crate::company::$company();
            $check(Cni::Bridge, FastPath::Auto);
        }
        #[test]
        fn with_a_bridge_through_the_stack() {
            let _company = crate::company::$company();
            $check(Cni::Bridge, FastPath::Off);
        }
    };
}
pub(crate) use in_every_layout;

/// Runs a check in the two layouts that differ most, where four would take long.
macro_rules! in_two_layouts {
    ($check:ident) => {
        #[test]
        fn with_ptp_and_fast_path() {
            let _company = crate::company::beside_others();
            $check(Cni::Ptp, FastPath::Auto);
        }
        #[test]
        fn with_a_bridge_through_the_stack() {
            let _company = crate::company::beside_others();
            $check(Cni::Bridge, FastPath::Off);
        }
    };
}
pub(crate) use in_two_layouts;
