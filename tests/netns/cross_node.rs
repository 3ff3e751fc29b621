// SPDX-License-Identifier: Apache-2.0
//! Two nodes with an agent each: clients on either reach backends on both.

use anyhow::Result;
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::client::http_get;
use pintle_lab::manifest::Service;
use pintle_lab::topology::{Cni, Family, Pod, World};
use pintle_tests::load::{repeat, short_http, short_udp};

use crate::scene::{Backend, DNS, HTTP, endpoints, in_every_layout, web};

/// Two nodes; each has a client and a backend, and node 1 a second backend.
pub struct TwoNodes {
    pub agents: Vec<Agent>,
    pub web: Service,
    pub clients: Vec<Pod>,
    _backends: Vec<Backend>,
    pub world: World,
}

impl TwoNodes {
    /// Builds the nodes; `on_node` says on which node each backend is.
    pub fn new(cni: Cni, fast_path: FastPath, on_node: &[usize]) -> Result<TwoNodes> {
        let mut world = World::new(2, cni)?;
        let clients = world.nodes.iter_mut().map(|node| node.add_pod("client"));
        let clients = clients.collect::<Result<Vec<_>>>()?;
        let backends = on_node.iter().zip(1..);
        let backends = backends.map(|(node, n)| Backend::new(&mut world.nodes[*node], n));
        let backends = backends.collect::<Result<Vec<_>>>()?;
        let web = web(10);
        let mut agents = Vec::new();
        for node in &world.nodes {
            let mut agent = Agent::new(node, fast_path)?;
            agent.manifests.service(&web)?;
            agent.manifests.endpoints(&web, &endpoints(&backends))?;
            agent.start()?;
            agents.push(agent);
        }
        Ok(TwoNodes { agents, web, clients, _backends: backends, world })
    }
}

in_every_layout!(clients_on_both_nodes_reach_backends_on_both);

fn clients_on_both_nodes_reach_backends_on_both(cni: Cni, fast_path: FastPath) {
    let scene = TwoNodes::new(cni, fast_path, &[0, 0, 1]).expect("two nodes");
    for client in &scene.clients {
        for family in Family::BOTH {
            let at = |port| std::net::SocketAddr::new(scene.web.ip(family), port);
            let tcp = client.run(|| repeat(600, || short_http(at(HTTP.port))));
            tcp.expect_no_failure(&format!("TCP {family:?} from {}", client.node));
            tcp.expect_even(3);
            let udp = client.run(|| repeat(300, || short_udp(at(DNS.port))));
            udp.expect_no_failure(&format!("UDP {family:?} from {}", client.node));
            udp.expect_even(3);
            let answer = client.run(|| http_get(at(HTTP.port))).expect("one request");
            assert_eq!(answer.peer.ip(), client.ip(family), "the client's own address is seen");
        }
    }
}

#[test]
fn packets_to_and_from_another_node_are_never_redirected() {
    let _company = crate::company::beside_others();
    for cni in [Cni::Ptp, Cni::Bridge] {
        let scene = TwoNodes::new(cni, FastPath::Auto, &[1]).expect("two nodes");
        let http = std::net::SocketAddr::new(scene.web.ip(Family::V4), HTTP.port);
        let redirected = |node: usize| scene.agents[node].counter("redirected").expect("counters");
        scene.clients[0].run(|| repeat(50, || short_http(http))).expect_no_failure("remote");
        assert_eq!((redirected(0), redirected(1)), (0, 0), "{cni:?}");
        // Each agent keeps to its own maps: only node 1 has seen a service.
        let forwarded = |node: usize| scene.agents[node].counter("to a service").expect("counters");
        assert!(forwarded(0) >= 300 && forwarded(1) == 0, "{} {}", forwarded(0), forwarded(1));
        scene.clients[1].run(|| repeat(50, || short_http(http))).expect_no_failure("local");
        assert!(redirected(0) == 0 && redirected(1) >= 200, "{cni:?}: {}", redirected(1));
    }
}
