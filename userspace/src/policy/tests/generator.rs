// SPDX-License-Identifier: Apache-2.0
//! Clusters, policies and changes, drawn from a seed: small worlds in which everything meets.

use std::{net::IpAddr, sync::Arc};

use super::world::HERE;
use crate::model::{
    addr::Protocol,
    cidr::Cidr,
    cluster::{Namespace, Node, Pod, PodPhase},
    event::Event,
    name::{Kind, ObjectName, ObjectRef},
    object::Object,
    policy::{
        Action, ClusterNetworkPolicy, ClusterRule, Enforcement, IpBlock, Isolation, Labels,
        NamedPort, Namespaces, NetworkPolicy, Peer, Peers, PortMatch, Ports, Requirement, Rule,
        Selector, Subject, Tier,
    },
};

pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
pub const PODS: [&str; 4] = ["a", "b", "c", "d"];
pub const POD_IPS: [&str; 8] = [
    "10.0.1.1",
    "10.0.1.2",
    "10.0.1.3",
    "10.0.2.1",
    "10.0.2.2",
    "fd00:1::1",
    "fd00:1::2",
    "fd00:2::1",
];
/// Nodes, hosts outside the cluster, and addresses for pods that no pod has.
pub const OTHER_IPS: [&str; 8] = [
    "172.18.0.2",
    "172.18.0.3",
    "192.0.2.1",
    "192.0.2.200",
    "10.0.1.99",
    "10.0.2.99",
    "fd00:1::99",
    "2001:db8::1",
];
pub const PORT_NUMBERS: [u16; 8] = [0, 53, 79, 80, 81, 90, 8080, u16::MAX];

const BLOCKS: [&str; 10] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.1.0/24",
    "10.0.1.2/31",
    "10.0.1.1/32",
    "172.18.0.0/16",
    "192.0.2.0/24",
    "::/0",
    "fd00:1::/32",
    "fd00:1::1/128",
];
const HOLES: [&str; 6] =
    ["10.0.0.0/16", "10.0.1.0/30", "10.0.1.2/32", "192.0.2.128/25", "fd00:1::2/127", "fd00::/16"];

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True in one of `cases` cases.
    pub fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn some<T>(&mut self, most: usize, mut draw: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| draw(self)).collect()
    }

    fn labels(&mut self) -> Vec<(Arc<str>, Arc<str>)> {
        let mut labels = Vec::new();
        for key in ["app", "tier"] {
            if !self.one_in(3) {
                labels.push((key.into(), self.pick(&["1", "2", "3"]).into()));
            }
        }
        labels
    }

    fn selector(&mut self) -> Selector {
        let count = self.pick(&[0, 0, 1, 1, 1, 2]);
        let draw = |random: &mut Self| {
            let key: Arc<str> = random.pick(&["app", "tier", "none"]).into();
            let values = random.pick(&[&["1"][..], &["2"], &["1", "2"], &["4"]]);
            let values = values.iter().map(|value| (*value).into()).collect();
            match random.below(6) {
                0..=2 => Requirement::In(key, values),
                3 => Requirement::NotIn(key, values),
                4 => Requirement::Exists(key),
                _ => Requirement::DoesNotExist(key),
            }
        };
        Selector::new((0..count).map(|_| draw(self)).collect::<Vec<_>>())
    }

    fn namespace_selector(&mut self) -> Selector {
        if self.one_in(3) {
            let name = self.pick(&NAMESPACES).into();
            let key = crate::model::policy::NAMESPACE_NAME.into();
            return Selector::new([Requirement::In(key, [name].into())]);
        }
        self.selector()
    }

    fn block(&mut self) -> IpBlock {
        let cidr = |text| Cidr::parse(text).unwrap();
        let holes = self.some(2, |random| cidr(random.pick(&HOLES)));
        IpBlock::new(cidr(self.pick(&BLOCKS)), holes)
    }

    fn pods_peer(&mut self, own: Option<&str>) -> Peer {
        let namespaces = match own {
            Some(own) if self.one_in(2) => Namespaces::Named(own.into()),
            _ => Namespaces::Matching(self.namespace_selector()),
        };
        Peer::Pods { namespaces, pods: self.selector() }
    }

    fn port(&mut self) -> PortMatch {
        let protocol = self.pick(&[Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
        match self.below(12) {
            0..=1 => PortMatch::Protocol(protocol),
            2..=4 => {
                let port = self.pick(&PORT_NUMBERS);
                PortMatch::Range { protocol, first: port, last: port }
            }
            5..=6 => {
                let (one, other) = (self.pick(&PORT_NUMBERS), self.pick(&PORT_NUMBERS));
                PortMatch::Range { protocol, first: one.min(other), last: one.max(other) }
            }
            7..=10 => {
                let protocol = (!self.one_in(4)).then_some(protocol);
                PortMatch::Named { protocol, name: self.pick(&["web", "dns"]).into() }
            }
            _ => PortMatch::Unknown,
        }
    }

    fn ports(&mut self) -> Ports {
        if self.one_in(3) {
            return Ports::Any;
        }
        Ports::Only(self.some(3, Self::port).into())
    }

    fn enforcement(&mut self) -> Enforcement {
        if self.one_in(6) { Enforcement::Audited } else { Enforcement::Enforced }
    }

    fn isolation(&mut self, namespace: &str) -> Isolation {
        if self.one_in(3) {
            return Isolation::None;
        }
        let rules = self.some(2, |random| {
            let peers = if random.one_in(5) {
                Peers::Any
            } else {
                let peers = random.some(2, |random| match random.below(8) {
                    0..=2 => Peer::Block(random.block()),
                    3..=6 => random.pods_peer(Some(namespace)),
                    _ => Peer::Unknown,
                });
                Peers::Only(peers.into())
            };
            Rule { peers, ports: random.ports() }
        });
        Isolation::Except(rules.into())
    }

    fn network_policy(&mut self, name: ObjectName) -> Object {
        let policy = NetworkPolicy {
            subject: self.selector(),
            ingress: self.isolation(name.namespace()),
            egress: self.isolation(name.namespace()),
            enforcement: self.enforcement(),
            name,
        };
        Object::NetworkPolicy(policy.into())
    }

    fn cluster_rules(&mut self) -> Box<[ClusterRule]> {
        let rules = self.some(3, |random| {
            let peers = random.some(2, |random| match random.below(12) {
                0..=5 => random.pods_peer(None),
                6..=8 => Peer::Block(random.block()),
                9..=10 => Peer::Nodes(random.selector()),
                _ => Peer::Unknown,
            });
            ClusterRule {
                name: None,
                action: random.pick(&[Action::Accept, Action::Deny, Action::Pass]),
                peers: peers.into(),
                ports: random.ports(),
            }
        });
        rules.into()
    }

    fn cluster_policy(&mut self, name: ObjectName) -> Object {
        let policy = ClusterNetworkPolicy {
            name,
            tier: self.pick(&[Tier::Admin, Tier::Baseline]),
            priority: self.pick(&[0, 10, 10, 20]),
            subject: Subject { namespaces: self.namespace_selector(), pods: self.selector() },
            ingress: self.cluster_rules(),
            egress: self.cluster_rules(),
            enforcement: self.enforcement(),
        };
        Object::ClusterNetworkPolicy(policy.into())
    }

    fn named_ports(&mut self) -> Arc<[NamedPort]> {
        let mut ports = Vec::new();
        for (name, protocol) in
            [("dns", Protocol::Tcp), ("dns", Protocol::Udp), ("web", Protocol::Tcp)]
        {
            if self.one_in(2) {
                let number = self.pick(&[53, 80, 8080]);
                ports.push(NamedPort { name: name.into(), protocol, number });
            }
        }
        ports.into()
    }

    fn pod(&mut self, name: ObjectName) -> Object {
        let ips: Vec<IpAddr> = self.some(2, |random| random.pick(&POD_IPS).parse().unwrap());
        let phases = [PodPhase::Running, PodPhase::Running, PodPhase::Pending, PodPhase::Running];
        let ended = [PodPhase::Succeeded, PodPhase::Failed];
        let pod = Pod {
            name,
            ips: ips.into(),
            node: Some(self.pick(&[HERE, HERE, "there"]).into()),
            host_network: self.one_in(10),
            phase: if self.one_in(6) { self.pick(&ended) } else { self.pick(&phases) },
            labels: Labels::new(self.labels()),
            ports: self.named_ports(),
            created: Some(self.below(3) as i64),
            is_terminating: self.one_in(6),
        };
        Object::Pod(pod.into())
    }

    fn node(&mut self, name: &str) -> Object {
        let (ip, cidrs) = match name {
            HERE => ("172.18.0.2", ["10.0.1.0/24", "fd00:1::/64"]),
            _ => ("172.18.0.3", ["10.0.2.0/24", "fd00:2::/64"]),
        };
        let cidrs = cidrs.map(|text| Cidr::parse(text).unwrap());
        let node = Node {
            name: ObjectName::cluster(name),
            zone: None,
            internal_ips: [ip.parse().unwrap()].into(),
            external_ips: if self.one_in(4) {
                [self.pick(&POD_IPS).parse().unwrap()].into()
            } else {
                [].into()
            },
            pod_cidrs: if self.one_in(4) { [].into() } else { cidrs.into() },
            is_leaving: false,
            labels: Labels::new(self.labels()),
        };
        Object::Node(node.into())
    }

    fn namespace(&mut self, name: &str) -> Object {
        let labels = Labels::of_namespace(name, self.labels());
        Object::Namespace(Namespace { name: ObjectName::cluster(name), labels }.into())
    }

    /// Some change.
    pub fn event(&mut self) -> Event {
        let namespace = self.pick(&NAMESPACES);
        let pod = ObjectName::namespaced(namespace, self.pick(&PODS));
        let policy = self.pick(&["p", "q", "r"]);
        let node = self.pick(&[HERE, "there"]);
        let gone = |kind, name| Event::Delete(ObjectRef::new(kind, name));
        match self.below(20) {
            0..=6 => Event::Apply(self.pod(pod)),
            7 => gone(Kind::Pod, pod),
            8..=9 => Event::Apply(self.namespace(namespace)),
            10 => gone(Kind::Namespace, ObjectName::cluster(namespace)),
            11 => Event::Apply(self.node(node)),
            12 if self.one_in(3) => gone(Kind::Node, ObjectName::cluster(node)),
            12..=14 => Event::Apply(self.network_policy(ObjectName::namespaced(namespace, policy))),
            15 => gone(Kind::NetworkPolicy, ObjectName::namespaced(namespace, policy)),
            16..=18 => Event::Apply(self.cluster_policy(ObjectName::cluster(policy))),
            _ => gone(Kind::ClusterNetworkPolicy, ObjectName::cluster(policy)),
        }
    }

    /// A whole cluster.
    pub fn cluster(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for namespace in NAMESPACES {
            events.push(Event::Apply(self.namespace(namespace)));
            for pod in PODS {
                events.push(Event::Apply(self.pod(ObjectName::namespaced(namespace, pod))));
            }
            for policy in ["p", "q"] {
                if self.one_in(2) {
                    let name = ObjectName::namespaced(namespace, policy);
                    events.push(Event::Apply(self.network_policy(name)));
                }
            }
        }
        events.extend([HERE, "there"].map(|node| Event::Apply(self.node(node))));
        for policy in ["p", "q"] {
            events.push(Event::Apply(self.cluster_policy(ObjectName::cluster(policy))));
        }
        events
    }
}
