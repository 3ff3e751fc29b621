// SPDX-License-Identifier: Apache-2.0
//! A large cluster under policies, as manifests: pods with labels, nodes, namespaces, policies.
//!
//! Everything is computed from a number, so that a benchmark measures the same cluster every time.
//! The first pods are those of the node that is looked at, which is node 1 of a world.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pintle::{
    model::event::Event,
    source::convert::{Converter, DocumentKind},
};
use serde_json::{Value, json};

/// What the cluster is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A hundred namespaces with ten applications each.
    Typical,
    /// Twenty namespaces with ten applications each, of fifty pods.
    FewApplications,
    /// As [`Shape::Typical`], and each pod has a label that no other has.
    UniqueLabels,
    /// Four namespaces with six hundred applications each; all pods of the node are in one.
    BigNamespaces,
    /// No two pods are alike in what policies ask of them, and no two pods of the node in what
    /// applies to them.
    Adversary,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 5] = [
        Self::Typical,
        Self::FewApplications,
        Self::UniqueLabels,
        Self::BigNamespaces,
        Self::Adversary,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Typical => "typical",
            Self::FewApplications => "few apps, many replicas",
            Self::UniqueLabels => "every pod unique labels",
            Self::BigNamespaces => "few big namespaces",
            Self::Adversary => "adversary",
        }
    }

    fn namespaces(self) -> u32 {
        match self {
            Self::Typical | Self::UniqueLabels | Self::Adversary => 100,
            Self::FewApplications => 20,
            Self::BigNamespaces => 4,
        }
    }

    /// Of a namespace.
    fn applications(self) -> u32 {
        match self {
            Self::Typical | Self::UniqueLabels | Self::FewApplications | Self::Adversary => 10,
            Self::BigNamespaces => 600,
        }
    }
}

/// Pods, nodes, namespaces and policies, numbered from 0.
#[derive(Clone, Debug)]
pub struct PolicedCluster {
    /// What they are like.
    pub shape: Shape,
    /// The name of the node that has the first pods.
    pub node: String,
    /// Number of pods.
    pub pods: u32,
    /// Number of pods of a node.
    pub pods_of_a_node: u32,
    /// Number of NetworkPolicies.
    pub policies: u32,
}

/// How an object differs from what it is at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version(pub u32);

/// Values of a namespace's label `tier`.
const TIERS: u32 = 5;
/// Bits of a number that tells all pods apart.
const BITS: u32 = 14;

impl PolicedCluster {
    /// 10,000 pods and 1,000 policies, 110 pods of them on `node`.
    pub fn new(shape: Shape, node: &str) -> Self {
        Self { shape, node: node.into(), pods: 10_000, pods_of_a_node: 110, policies: 1_000 }
    }

    /// Everything, each with a name for its file.
    pub fn objects(&self) -> impl Iterator<Item = (String, Value)> {
        let nodes = self.pods.div_ceil(self.pods_of_a_node);
        let first = Version::default();
        let nodes = (0..nodes).map(|one| (format!("node-{one}"), self.node(one)));
        let namespaces = 0..self.shape.namespaces();
        let namespaces =
            namespaces.map(move |one| (format!("namespace-{one}"), self.namespace(one, first)));
        let pods = (0..self.pods).map(move |one| (format!("pod-{one}"), self.pod(one, first)));
        let policies = 0..self.policies;
        let policies = policies.map(move |one| (format!("policy-{one}"), self.policy(one, first)));
        nodes.chain(namespaces).chain(pods).chain(policies)
    }

    /// The addresses of a pod.
    pub fn ips(&self, pod: u32) -> [IpAddr; 2] {
        let (node, index) = (pod / self.pods_of_a_node, pod % self.pods_of_a_node);
        let (node, host) = (node + 1, index + 10);
        let v4 = Ipv4Addr::from_bits(0x0af4_0000 + (node << 8) + host);
        let v6 = (0xfd00_0010_0244 << 80) | u128::from(node) << 64 | u128::from(host);
        [v4.into(), Ipv6Addr::from_bits(v6).into()]
    }

    /// The namespace of a pod.
    pub fn namespace_of(&self, pod: u32) -> u32 {
        let is_local = pod < self.pods_of_a_node;
        match self.shape {
            Shape::BigNamespaces if is_local => 0,
            Shape::Adversary => pod % self.shape.namespaces(),
            _ => spread(pod) % self.shape.namespaces(),
        }
    }

    fn node(&self, number: u32) -> Value {
        let [v4, v6] = self.ips(number * self.pods_of_a_node);
        let (IpAddr::V4(v4), IpAddr::V6(v6)) = (v4, v6) else { unreachable!() };
        let v4 = Ipv4Addr::from_bits(v4.to_bits() & !0xff);
        let v6 = Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX));
        let name = self.node_name(number);
        let address = Ipv4Addr::from([192, 168, 77, number as u8 + 1]);
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"pool": format!("pool-{}", number % 3)}},
            "spec": {"podCIDRs": [format!("{v4}/24"), format!("{v6}/64")]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        })
    }

    fn node_name(&self, number: u32) -> String {
        match number {
            0 => self.node.clone(),
            _ => format!("node-{}", number + 1),
        }
    }

    /// A namespace; its tier goes with the version.
    pub fn namespace(&self, number: u32, version: Version) -> Value {
        let tier = (number + version.0) % TIERS;
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": namespace_name(number),
                "labels": {"tier": format!("tier-{tier}")},
            },
        })
    }

    /// A pod; its application goes with the version. There may be more pods than there are at first.
    pub fn pod(&self, number: u32, version: Version) -> Value {
        let application = (spread(number) / 100 + version.0) % self.shape.applications();
        let mut labels = json!({
            "app": format!("app-{application}"),
            "half": format!("half-{}", number % 2),
        });
        match self.shape {
            Shape::UniqueLabels => labels["pod"] = format!("pod-{number}").into(),
            Shape::Adversary => {
                labels["pod"] = format!("pod-{number}").into();
                for bit in 0..BITS {
                    labels[format!("bit-{bit}")] = (number >> bit & 1).to_string().into();
                }
            }
            Shape::Typical | Shape::FewApplications | Shape::BigNamespaces => {}
        }
        let ips = self.ips(number);
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": format!("pod-{number}"),
                "namespace": namespace_name(self.namespace_of(number)),
                "labels": labels,
            },
            "spec": {
                "nodeName": self.node_name(number / self.pods_of_a_node),
                "containers": [{
                    "name": "main",
                    "ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}],
                }],
            },
            "status": {
                "phase": "Running",
                "podIP": ips[0],
                "podIPs": [{"ip": ips[0]}, {"ip": ips[1]}],
            },
        })
    }

    /// A NetworkPolicy; a later version allows one address more.
    pub fn policy(&self, number: u32, version: Version) -> Value {
        let (namespace, mut spec) = match self.shape {
            Shape::Adversary => self.hostile(number),
            _ => (number % self.shape.namespaces(), self.common(number)),
        };
        if version.0 > 0 {
            let extra = Ipv4Addr::from_bits(0xc633_6400 + version.0);
            let rule = json!({"from": [{"ipBlock": {"cidr": format!("{extra}/32")}}]});
            match spec["ingress"].as_array_mut() {
                Some(rules) => rules.push(rule),
                None => spec["ingress"] = json!([rule]),
            }
        }
        network_policy(namespace, &format!("policy-{number}"), spec)
    }

    /// A namespace is closed, opened to itself, to its ingress controller, to the world without the
    /// cluster, to a shared service by the name of its port, and each application to another one.
    fn common(&self, number: u32) -> Value {
        let kind = number / self.shape.namespaces();
        let applications = self.shape.applications();
        let app = |number: u32| select("app", format!("app-{}", number % applications));
        let tier = |number: u32| select("tier", format!("tier-{}", number % TIERS));
        let any = || json!({});
        match kind {
            0 => isolate(any(), "Ingress", json!([])),
            1 => isolate(any(), "Ingress", json!([{"from": [{"podSelector": {}}]}])),
            2 => {
                let peer = json!({"namespaceSelector": tier(number), "podSelector": app(1)});
                isolate(any(), "Ingress", json!([{"from": [peer], "ports": tcp(8080)}]))
            }
            3 => {
                let except = ["10.0.0.0/8", "172.16.0.0/12"];
                let block = json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": except}});
                isolate(any(), "Egress", json!([{"to": [block]}]))
            }
            4 => {
                let rule = json!({
                    "to": [{"namespaceSelector": tier(0)}],
                    "ports": [{"protocol": "TCP", "port": "web"}],
                });
                isolate(app(2), "Egress", json!([rule]))
            }
            _ => {
                let mut peer = json!({"podSelector": app(kind * 7 + 3)});
                if kind.is_multiple_of(3) {
                    peer["namespaceSelector"] = tier(kind);
                }
                let rule = json!({"from": [peer], "ports": tcp(8000 + kind)});
                isolate(app(kind), "Ingress", json!([rule]))
            }
        }
    }

    /// Each selects one pod of the node, asks for one bit of its peers' numbers, and for a range of
    /// ports that takes as many prefixes as a range can.
    fn hostile(&self, number: u32) -> (u32, Value) {
        let pod = number % self.pods_of_a_node;
        let bit = spread(number) % BITS;
        let peer = json!({
            "namespaceSelector": {},
            "podSelector": select(&format!("bit-{bit}"), (spread(number) >> 8 & 1).to_string()),
        });
        let ports = json!([{"protocol": "TCP", "port": 1 + number % 7, "endPort": 65_534}]);
        let subject = select("pod", format!("pod-{pod}"));
        let spec = json!({
            "podSelector": subject,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [peer.clone()], "ports": ports.clone()}],
            "egress": [{"to": [peer], "ports": ports}],
        });
        (self.namespace_of(pod), spec)
    }

    /// A namespace is closed in both directions.
    pub fn default_deny(&self, namespace: u32) -> Value {
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
        network_policy(namespace, "default-deny", spec)
    }

    /// Selects all pods; its rule is about the pods of an application in namespaces of a tier.
    pub fn cluster_policy(&self, version: Version) -> Value {
        let peer = json!({"pods": {
            "namespaceSelector": select("tier", format!("tier-{}", version.0 % TIERS)),
            "podSelector": select("app", format!("app-{}", version.0)),
        }});
        cluster_policy("guard", peer)
    }

    /// Selects all pods; its rule is about every other pod there is.
    pub fn halving_policy(&self, version: Version) -> Value {
        let peer = json!({"pods": {"namespaceSelector": {}, "podSelector": half(version)}});
        cluster_policy("halves", peer)
    }

    /// The same of a NetworkPolicy, which selects the pods of a namespace.
    pub fn halving_network_policy(&self, namespace: u32, version: Version) -> Value {
        let peer = json!({"namespaceSelector": {}, "podSelector": half(version)});
        let spec = isolate(json!({}), "Ingress", json!([{"from": [peer]}]));
        network_policy(namespace, "halves", spec)
    }
}

/// An event that tells of an object.
pub fn event(converter: &Converter, object: &Value) -> Event {
    let [api_version, kind] =
        ["apiVersion", "kind"].map(|field| object[field].as_str().unwrap_or_default());
    let kind = DocumentKind::of(api_version, kind).expect("a kind that is accepted");
    let converted = converter.decode(kind, object).expect("an object").expect("a name");
    Event::Apply(converted.value.expect("something to do with policies"))
}

fn namespace_name(number: u32) -> String {
    format!("team-{number}")
}

fn select(key: &str, value: impl Into<String>) -> Value {
    json!({"matchLabels": {key: value.into()}})
}

fn half(version: Version) -> Value {
    let halves = [format!("half-{}", version.0 % 2), format!("version-{}", version.0)];
    json!({"matchExpressions": [{"key": "half", "operator": "In", "values": halves}]})
}

fn tcp(port: u32) -> Value {
    json!([{"protocol": "TCP", "port": port}])
}

fn isolate(subject: Value, direction: &str, rules: Value) -> Value {
    let mut spec = json!({"podSelector": subject, "policyTypes": [direction]});
    spec[direction.to_lowercase()] = rules;
    spec
}

fn network_policy(namespace: u32, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace_name(namespace)},
        "spec": spec,
    })
}

fn cluster_policy(name: &str, peer: Value) -> Value {
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": {
            "tier": "Admin",
            "priority": 1,
            "subject": {"namespaces": {}},
            "ingress": [{"action": "Deny", "from": [peer]}],
        },
    })
}

/// Numbers that follow each other become numbers that do not.
fn spread(number: u32) -> u32 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9);
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x85eb_ca6b);
    bits ^ (bits >> 13)
}
