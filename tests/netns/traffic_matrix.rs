// SPDX-License-Identifier: Apache-2.0
//! A sample of the traffic matrix over real sockets: who dials what, under which policies, with the
//! endpoints where, and which of them answer, whom they see, or whether anybody says anything.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use pintle_lab::agent::FastPath;
use pintle_lab::cgroup::Cgroup;
use pintle_lab::client::{Answer, DEADLINE, http_get_from, udp_get_from};
use pintle_lab::topology::{Cni, Family};

use crate::scene::{HTTP, in_two_layouts};
use crate::three_nodes::{NODE_PORT, Policy, ThreeNodes, balancer, external};

/// Who dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A pod of node 1.
    Pod,
    /// Node 1 itself; its packets are translated.
    Host,
    /// Node 1 itself; its sockets are translated when they dial.
    HostSocket,
    /// A client outside the cluster.
    Outside,
    /// A pod of node 2 that dials node 1.
    OtherNode,
}

/// What is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalIp,
}

/// Over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

const SOURCES: [Source; 5] =
    [Source::Pod, Source::Host, Source::HostSocket, Source::Outside, Source::OtherNode];
const TARGETS: [Target; 4] =
    [Target::ClusterIp, Target::NodePort, Target::LoadBalancer, Target::ExternalIp];
/// The nodes that have an endpoint.
const PLACES: [&[usize]; 4] = [&[1], &[2, 3], &[1, 2, 3], &[]];
/// Both values of both, outside and inside.
const POLICIES: [[Policy; 2]; 2] =
    [[Policy::Cluster, Policy::Local], [Policy::Local, Policy::Cluster]];

/// The next source port of a socket that is translated when it dials: none that the kernel gives out.
static SOCKET_PORT: AtomicU16 = AtomicU16::new(61_000);

/// How long nobody may say anything before that counts as silence.
const SILENCE: Duration = Duration::from_millis(300);
/// So many requests meet each of three endpoints but once in 10,000,000,000 runs.
const REQUESTS: usize = 60;

/// What the client meets: the endpoints, and the address that each of them sees.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Answers(BTreeSet<(String, IpAddr)>),
    Refused,
    Silent,
    /// Something else.
    Failed(String),
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug)]
struct Cell {
    source: Source,
    target: Target,
    family: Family,
    protocol: Protocol,
}

impl Cell {
    fn all() -> Vec<Cell> {
        let mut cells = Vec::new();
        for source in SOURCES {
            for target in TARGETS {
                // What a pod dials otherwise is translated on its own node.
                if source == Source::OtherNode && target != Target::NodePort {
                    continue;
                }
                for family in Family::BOTH {
                    for protocol in [Protocol::Tcp, Protocol::Udp] {
                        cells.push(Cell { source, target, family, protocol });
                    }
                }
            }
        }
        cells
    }

    /// A translated socket talks to the backend itself; from a port that the host has just used through
    /// the service, its answers would be taken for that connection's.
    fn source_port(&self) -> u16 {
        match self.source {
            Source::HostSocket => SOCKET_PORT.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        }
    }

    fn address(&self, scene: &ThreeNodes) -> SocketAddr {
        match self.target {
            Target::ClusterIp => scene.cluster(self.family, HTTP.port),
            Target::NodePort => scene.node(self.family, NODE_PORT),
            Target::LoadBalancer => SocketAddr::new(balancer(self.family), HTTP.port),
            Target::ExternalIp => SocketAddr::new(external(self.family), HTTP.port),
        }
    }
}

/// Three nodes and the cgroup whose sockets are translated on node 1.
struct Matrix {
    scene: ThreeNodes,
    cgroup: Cgroup,
    cni: Cni,
    fast_path: FastPath,
}

impl Matrix {
    fn new(cni: Cni, fast_path: FastPath) -> Matrix {
        let cgroup = Cgroup::new().expect("a cgroup");
        let world = ThreeNodes::world(cni);
        let scene = ThreeNodes::on(world, fast_path, |agents| {
            agents[0].translate_sockets("host", cgroup.path());
        });
        Matrix { scene, cgroup, cni, fast_path }
    }

    /// What the specification says of a cell.
    fn expected(&self, cell: &Cell, policies: [Policy; 2], nodes: &[usize]) -> Outcome {
        let inside = matches!(cell.source, Source::Pod | Source::Host | Source::HostSocket);
        let [external, internal] = policies;
        let is_local = match cell.target {
            Target::ClusterIp => internal == Policy::Local,
            // Pods and the host are not outside, and get every endpoint.
            _ => external == Policy::Local && !inside,
        };
        let usable = |node: &&usize| !is_local || **node == 1;
        let answers: BTreeSet<_> =
            nodes.iter().filter(usable).map(|node| self.seen(cell, external, *node)).collect();
        match (answers.is_empty(), nodes.is_empty()) {
            (false, _) => Outcome::Answers(answers),
            (true, true) => Outcome::Refused,
            (true, false) => Outcome::Silent,
        }
    }

    /// The endpoint of a node, and the client's address as that sees it.
    fn seen(&self, cell: &Cell, external: Policy, node: usize) -> (String, IpAddr) {
        let family = cell.family;
        let own = self.scene.world.nodes[0].ip_of(family);
        let is_remote = node != 1;
        let client = match cell.source {
            Source::Pod => {
                let is_outer = cell.target != Target::ClusterIp;
                // Through the stack a pod keeps its address: policies in netfilter go by it.
                let masqueraded = is_remote
                    && is_outer
                    && external == Policy::Cluster
                    && self.fast_path == FastPath::Auto;
                if masqueraded { own } else { self.scene.clients[0].ip(family) }
            }
            // The socket dials the pod itself, and the bridge has an address beside it.
            Source::HostSocket if !is_remote && self.cni == Cni::Bridge => gateway(family),
            Source::Host | Source::HostSocket => own,
            Source::Outside | Source::OtherNode if is_remote => own,
            Source::Outside => self.scene.outside.ip(family),
            Source::OtherNode => self.scene.clients[1].ip(family),
        };
        (format!("web-{node}"), client)
    }

    /// What a cell's client meets.
    fn meet(&self, cell: &Cell, expected: &Outcome) -> Outcome {
        let target = cell.address(&self.scene);
        let work = || dial(target, cell, expected);
        let node = &self.scene.world.nodes[0];
        match cell.source {
            Source::Pod => self.scene.clients[0].run(work),
            Source::Host => node.run(work),
            Source::HostSocket => self.cgroup.run(|| node.run(work)),
            Source::Outside => self.scene.outside.run(work),
            Source::OtherNode => self.scene.clients[1].run(work),
        }
    }

    /// Every cell in one state of the objects; returns what differs.
    fn differences(&self, policies: [Policy; 2], nodes: &[usize]) -> Vec<String> {
        let check = |cell: Cell| {
            let expected = self.expected(&cell, policies, nodes);
            let met = self.meet(&cell, &expected);
            let text = || format!("{policies:?} {nodes:?} {cell:?}:\n  {met:?}, not {expected:?}");
            (met != expected).then(text)
        };
        thread::scope(|scope| {
            let cells = Cell::all();
            let running: Vec<_> =
                cells.into_iter().map(|cell| scope.spawn(move || check(cell))).collect();
            running.into_iter().filter_map(|cell| cell.join().expect("a cell")).collect()
        })
    }
}

/// The address of a bridge on node 1.
fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 244, 1, 1]),
        Family::V6 => IpAddr::from([0xfd00, 0x10, 0x244, 1, 0, 0, 0, 1]),
    }
}

/// Asks until every endpoint that should answer has, and a few times more.
fn dial(target: SocketAddr, cell: &Cell, expected: &Outcome) -> Outcome {
    let (patience, enough) = match expected {
        Outcome::Answers(wanted) => (DEADLINE, wanted.len()),
        Outcome::Silent => (SILENCE, 1),
        _ => (DEADLINE, 1),
    };
    let mut answers = BTreeSet::new();
    for request in 0..REQUESTS {
        let asked = match cell.protocol {
            Protocol::Tcp => http_get_from(cell.source_port(), target, patience),
            Protocol::Udp => udp_get_from(cell.source_port(), target, patience),
        };
        match asked {
            Ok(Answer { pod, peer }) => answers.insert((pod, peer.ip())),
            Err(error) => return failure(&error, &answers),
        };
        if answers.len() >= enough && request >= 5 {
            break;
        }
    }
    Outcome::Answers(answers)
}

fn failure(error: &io::Error, answers: &BTreeSet<(String, IpAddr)>) -> Outcome {
    match error.kind() {
        _ if !answers.is_empty() => Outcome::Failed(format!("{error} after {answers:?}")),
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Outcome::Silent,
        _ => Outcome::Failed(error.to_string()),
    }
}

in_two_layouts!(clients_everywhere_meet_what_the_policies_say);

fn clients_everywhere_meet_what_the_policies_say(cni: Cni, fast_path: FastPath) {
    let mut matrix = Matrix::new(cni, fast_path);
    let mut differences = Vec::new();
    for policies in POLICIES {
        for nodes in PLACES {
            let endpoints = matrix.scene.ready(nodes);
            matrix.scene.set(policies, &endpoints);
            differences.extend(matrix.differences(policies, nodes));
        }
    }
    assert!(
        differences.is_empty(),
        "{} cells differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
