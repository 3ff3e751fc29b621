// SPDX-License-Identifier: Apache-2.0
//! A small cluster from the lines of its manifests, and who can reach whom in it.
//!
//! All pods but those of namespace `far` are on this node, so both sides of a connection are
//! judged. Every verdict of the tables is also asked of the evaluator.

use std::{cell::RefCell, net::IpAddr};

use super::{
    evaluator::{Evaluator, Wanted, Way},
    programs::{Looked, port_class},
    world::{HERE, UNLIMITED, World},
};
use crate::{
    model::{
        addr::Protocol,
        cidr::Cidr,
        event::Event,
        ip::Family,
        name::{Kind, ObjectName, ObjectRef},
        policy::{Direction, Enforcement},
    },
    policy::{Changes, Explanation, Judgement, Options, Planner, Reading, Room, RulesetId, Tables},
    source::convert::{Converter, DocumentKind},
};

/// The cluster of most facts: two pods in each of two namespaces, a pod of another node, two nodes.
const CLUSTER: &[(DocumentKind, &str)] = &[
    (DocumentKind::Namespace, "metadata: {name: x, labels: {team: red}}"),
    (DocumentKind::Namespace, "metadata: {name: y, labels: {team: blue}}"),
    (DocumentKind::Namespace, "metadata: {name: far}"),
    (
        DocumentKind::Node,
        "metadata: {name: here, labels: {zone: a}}\nspec: {podCIDRs: [10.0.1.0/24, 'fd00:1::/64']}\n\
         status: {addresses: [{type: InternalIP, address: 172.18.0.2}]}",
    ),
    (
        DocumentKind::Node,
        "metadata: {name: there, labels: {zone: b}}\nspec: {podCIDRs: [10.0.2.0/24]}\n\
         status: {addresses: [{type: InternalIP, address: 172.18.0.3}]}",
    ),
];

/// Pods: name, labels, addresses, ports of the container.
const PODS: &[[&str; 4]] = &[
    ["x/a", "app: a", "10.0.1.1 fd00:1::1", "{name: web, containerPort: 80}"],
    ["x/b", "app: b", "10.0.1.2 fd00:1::2", "{name: web, containerPort: 8080}"],
    ["y/a", "app: a", "10.0.1.3 fd00:1::3", "{name: web, containerPort: 81, protocol: UDP}"],
    ["y/b", "app: b, tier: db", "10.0.1.4 fd00:1::4", "{containerPort: 80}"],
    ["far/a", "app: a", "10.0.2.1 fd00:2::1", "{name: web, containerPort: 80}"],
];

/// A cluster, its tables and its text.
pub struct Scene {
    pub planner: Planner,
    pub tables: Tables,
    pub world: World,
    converter: Converter,
    told: RefCell<Vec<String>>,
}

impl Scene {
    /// The cluster without policies.
    pub fn new() -> Self {
        Self::with(Enforcement::Enforced)
    }

    /// The same, with or without policies that decide.
    pub fn with(enforcement: Enforcement) -> Self {
        Self::of(enforcement, UNLIMITED)
    }

    /// The same in tables of a size.
    pub fn with_room(room: Room) -> Self {
        Self::of(Enforcement::Enforced, room)
    }

    fn of(enforcement: Enforcement, room: Room) -> Self {
        let options = Options { node: HERE.into(), pod_cidrs: [].into(), enforcement, room };
        let mut scene = Self {
            planner: Planner::new(options),
            tables: Tables::default(),
            world: World::default(),
            converter: Converter::default(),
            told: RefCell::default(),
        };
        scene.apply([Event::Synced]);
        for (kind, yaml) in CLUSTER {
            scene.put(*kind, yaml);
        }
        for [name, labels, ips, ports] in PODS {
            scene.pod(name, labels, ips, &format!("ports: [{ports}]"), "");
        }
        scene
    }

    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Changes {
        let events: Vec<Event> = events.into_iter().collect();
        events.iter().for_each(|event| self.world.take(event));
        let changes = self.planner.apply(events);
        self.tables.write(&changes, Tables::assert_whole);
        assert_eq!(self.planner.tables(), self.tables);
        changes
    }

    pub fn put(&mut self, kind: DocumentKind, yaml: &str) -> Changes {
        let document = serde_yaml_ng::Deserializer::from_str(yaml);
        let converted = self.converter.decode(kind, document).unwrap().unwrap();
        let reasons = converted.reasons.iter().map(ToString::to_string);
        self.told.borrow_mut().extend(reasons);
        self.apply(converted.value.map(Event::Apply))
    }

    /// A pod: labels, addresses, fields of its container and of itself.
    pub fn pod(
        &mut self,
        name: &str,
        labels: &str,
        ips: &str,
        container: &str,
        rest: &str,
    ) -> Changes {
        let (namespace, short) = name.split_once('/').unwrap();
        let node = if namespace == "far" { "there" } else { HERE };
        let ips: Vec<String> = ips.split_whitespace().map(|ip| format!("{{ip: '{ip}'}}")).collect();
        let (spec, phase) = match rest {
            "Succeeded" | "Failed" => ("", rest),
            spec => (spec, "Running"),
        };
        self.put(
            DocumentKind::Pod,
            &format!(
                "metadata: {{name: {short}, namespace: {namespace}, labels: {{{labels}}}}}\n\
                 spec: {{nodeName: {node}, containers: [{{name: c, {container}}}], {spec}}}\n\
                 status: {{phase: {phase}, podIPs: [{}]}}",
                ips.join(", ")
            ),
        )
    }

    /// A NetworkPolicy by the lines of its spec.
    pub fn network(&mut self, name: &str, spec: &str) -> Changes {
        let (namespace, short) = name.split_once('/').unwrap();
        let yaml = format!("metadata: {{name: {short}, namespace: {namespace}}}\nspec: {{{spec}}}");
        self.put(DocumentKind::NetworkPolicy, &yaml)
    }

    /// A ClusterNetworkPolicy of all pods of namespace `x`, by tier and priority and by its rules.
    pub fn cluster(&mut self, name: &str, place: &str, rules: &str) -> Changes {
        let (tier, priority) = place.split_once(' ').unwrap();
        let subject = "{namespaces: {matchLabels: {kubernetes.io/metadata.name: x}}}";
        self.put(
            DocumentKind::ClusterNetworkPolicy,
            &format!(
                "metadata: {{name: {name}}}\n\
                 spec: {{tier: {tier}, priority: {priority}, subject: {subject}, {rules}}}"
            ),
        )
    }

    pub fn delete(&mut self, kind: Kind, name: &str) -> Changes {
        let name = match name.split_once('/') {
            Some((namespace, short)) => ObjectName::namespaced(namespace, short),
            None => ObjectName::cluster(name),
        };
        self.apply([Event::Delete(ObjectRef::new(kind, name))])
    }

    /// An address, or that of a pod; `x/a@6` is its IPv6 address.
    fn ip(&self, party: &str) -> IpAddr {
        if let Ok(ip) = party.parse() {
            return ip;
        }
        let (name, family) = match party.split_once('@') {
            Some((name, _)) => (name, Family::V6),
            None => (party, Family::V4),
        };
        let pod = self.world.pods.values().find(|pod| pod.name.as_str() == name).unwrap();
        pod.ips.iter().copied().find(|ip| Family::of(*ip) == family).unwrap()
    }

    /// The verdict of one side; `None` if it is no pod of this node.
    pub fn side(
        &self,
        subject: IpAddr,
        direction: Direction,
        peer: IpAddr,
        wanted: &str,
        reading: Reading,
    ) -> Option<bool> {
        let (name, _) =
            self.tables.endpoints.iter().find(|(_, endpoint)| endpoint.ips.contains(&subject))?;
        let way = if subject == peer { Way::Hairpin } else { Way::Direct };
        let wanted = wanted_of(wanted);
        let ruleset = self.tables.ruleset(name, direction, way);
        let port_class = port_class(&self.tables.port_classes(ruleset), wanted);
        let looked = self.tables.look(ruleset, self.tables.class(peer), port_class, reading);
        let world = &self.world;
        let evaluator = Evaluator { world, subject: &world.pods[name], direction, reading };
        let cidrs: [Cidr; 0] = [];
        let expected = evaluator.is_allowed(&world.party(peer, &cidrs), wanted, way);
        assert_eq!(looked.is_allowed, expected, "{name} {direction:?} {peer} {wanted:?}");
        self.assert_named(name, direction, peer, wanted, (looked, reading));
        Some(looked.is_allowed)
    }

    /// The planner, asked about the connection, says what the tables say.
    fn assert_named(
        &self,
        pod: &ObjectName,
        direction: Direction,
        peer: IpAddr,
        wanted: Wanted,
        (looked, reading): (Looked, Reading),
    ) {
        let port = match wanted {
            Wanted::Port(protocol, port) => Some((protocol, port)),
            Wanted::Portless => None,
        };
        let verdict = self.planner.verdict(pod, direction, peer, port).unwrap();
        assert_eq!(verdict.ruleset, looked.ruleset);
        if looked.ruleset != RulesetId::OPEN && looked.ruleset != RulesetId::CLOSED {
            assert_eq!((verdict.class, verdict.port_class), (looked.class, looked.port_class));
        }
        let is_allowed = match (verdict.judgement, reading) {
            (Judgement::Explained { enforced, .. }, Reading::Enforced) => enforced.is_allowed,
            (Judgement::Explained { staged, .. }, Reading::Staged) => staged.is_allowed,
            (Judgement::Closed(_), _) => false,
        };
        assert_eq!(is_allowed, looked.is_allowed, "{pod} {direction:?} {peer} {wanted:?}");
    }

    /// A connection passes on both sides.
    pub fn passes(&self, from: &str, to: &str, wanted: &str) -> bool {
        let (from, to) = (self.ip(from), self.ip(to));
        let one = self.side(from, Direction::Egress, to, wanted, Reading::Enforced);
        let other = self.side(to, Direction::Ingress, from, wanted, Reading::Enforced);
        one.unwrap_or(true) && other.unwrap_or(true)
    }

    /// What decides on one side.
    pub fn explained(
        &self,
        subject: &str,
        direction: Direction,
        peer: &str,
        wanted: &str,
    ) -> Option<Explanation> {
        let name = ObjectName::namespaced(
            subject.split_once('/').unwrap().0,
            subject.split_once('/').unwrap().1,
        );
        let ruleset = self.tables.ruleset(&name, direction, Way::Direct);
        let port_class = port_class(&self.tables.port_classes(ruleset), wanted_of(wanted));
        let class = self.tables.class(self.ip(peer));
        self.planner.explain(ruleset, class, port_class, Reading::Enforced)
    }

    /// Lines of `from > to port port ...`, where a port behind `!` does not pass.
    #[track_caller]
    pub fn expect(&self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            let (from, arrow, to) = (words.next(), words.next(), words.next());
            assert_eq!(arrow, Some(">"), "{line}");
            for word in words {
                let (wanted, expected) = match word.strip_prefix('!') {
                    Some(wanted) => (wanted, false),
                    None => (word, true),
                };
                let passes = self.passes(from.unwrap(), to.unwrap(), wanted);
                assert_eq!(passes, expected, "{line}: {wanted}");
            }
        }
    }

    /// What conversions have complained of.
    pub fn told(&self) -> Vec<String> {
        self.told.borrow().clone()
    }
}

fn wanted_of(word: &str) -> Wanted {
    let Some((protocol, port)) = word.split_once('/') else {
        assert_eq!(word, "icmp");
        return Wanted::Portless;
    };
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => panic!("{other}"),
    };
    Wanted::Port(protocol, port.parse().unwrap())
}
