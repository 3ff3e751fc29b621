// SPDX-License-Identifier: Apache-2.0
//! What applies to a pod in one direction, in the words of predicates and port numbers.
//!
//! Here unknown variants fail closed: in a rule that allows they match nothing, and a rule that
//! denies or passes becomes one that denies whatever the rest of it could match.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    content::{hash_of, mixed},
    predicate::{PredicateId, Predicates},
    resolution::NameUse,
};
use crate::model::{
    addr::Protocol,
    name::ObjectName,
    policy::{
        Action, ClusterRule, Direction, Enforcement, NamedPort, Namespaces, Peer, Peers, PortMatch,
        Ports, Rule,
    },
};

/// Everything that applies. Equal content is one ruleset, whosoever it applies to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub direction: Direction,
    /// Rules of the Admin tier, in order.
    pub admin: Vec<LoweredRule>,
    /// NetworkPolicies that isolate the pod, by name; none if the peer is the pod itself.
    pub isolating: Vec<(ObjectName, Enforcement)>,
    /// What they allow.
    pub namespace: NamespaceRules,
    /// Rules of the Baseline tier, in order.
    pub baseline: Vec<LoweredRule>,
    /// The names that were asked for, also by rules that match nothing as things are. Sorted.
    pub names: Vec<NameUse>,
}

/// What NetworkPolicies allow an isolated pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum NamespaceRules {
    /// What one of these rules matches.
    Union(Vec<LoweredRule>),
    /// Everything: the peer is the pod itself, and a pod cannot be kept from itself. With the
    /// strongest of those that isolate the pod; without one, the next tier decides.
    Itself(Option<Enforcement>),
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LoweredRule {
    pub policy: ObjectName,
    /// Its place in the policy's list, from 0.
    pub index: usize,
    pub name: Option<Arc<str>>,
    pub action: Action,
    pub enforcement: Enforcement,
    pub peers: LoweredPeers,
    pub ports: LoweredPorts,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum LoweredPeers {
    Any,
    Only {
        /// One of them holds. Sorted.
        predicates: Vec<PredicateId>,
        /// Addresses for pods match, too, whoever has them.
        with_unknown_pods: bool,
        /// Some ask who has an address, not only which it is.
        asks_who: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum LoweredPorts {
    Any,
    Only {
        /// All ports of these. Sorted.
        protocols: Vec<Protocol>,
        /// From the first to the last. Sorted.
        ranges: Vec<(Protocol, u16, u16)>,
        /// Where the peer gives this port this name. Sorted.
        named: Vec<NamedPort>,
    },
}

impl Content {
    /// It allows everything, and nobody wants to know more.
    pub fn is_open(&self) -> bool {
        // A name that means nothing may mean something with the next pod.
        if !self.admin.is_empty() || !self.names.is_empty() {
            return false;
        }
        match self.namespace {
            NamespaceRules::Union(_) => self.isolating.is_empty() && self.baseline.is_empty(),
            NamespaceRules::Itself(by) => {
                self.baseline.is_empty() || by == Some(Enforcement::Enforced)
            }
        }
    }

    /// Some of it only says what it would do.
    pub fn is_audited(&self) -> bool {
        let rules = self.tiers().into_iter().flatten().map(|rule| rule.enforcement);
        let isolating = self.isolating.iter().map(|(_, enforcement)| *enforcement);
        rules
            .chain(isolating)
            .chain(self.itself().flatten())
            .any(|enforcement| enforcement == Enforcement::Audited)
    }

    /// Its rules: those of Admin, of namespaces, of Baseline.
    pub fn tiers(&self) -> [&[LoweredRule]; 3] {
        let namespace: &[_] = match &self.namespace {
            NamespaceRules::Union(rules) => rules,
            NamespaceRules::Itself(_) => &[],
        };
        [&self.admin, namespace, &self.baseline]
    }

    /// What isolates the pod, if the peer is the pod itself.
    fn itself(&self) -> Option<Option<Enforcement>> {
        match self.namespace {
            NamespaceRules::Union(_) => None,
            NamespaceRules::Itself(by) => Some(by),
        }
    }

    /// The ports of peers that its rows ask for by name.
    pub fn named_ports(&self) -> BTreeSet<&NamedPort> {
        let rules = self.tiers().into_iter().flatten();
        let ports = rules.flat_map(|rule| match &rule.ports {
            LoweredPorts::Any => &[][..],
            LoweredPorts::Only { named, .. } => named,
        });
        ports.collect()
    }

    /// The predicates that its rows and its names ask.
    pub fn predicates(&self) -> BTreeSet<PredicateId> {
        let rules = self.tiers().into_iter().flatten();
        let peers = rules.flat_map(|rule| match &rule.peers {
            LoweredPeers::Any => &[][..],
            LoweredPeers::Only { predicates, .. } => predicates,
        });
        peers.copied().chain(self.names.iter().filter_map(|name| name.of)).collect()
    }

    /// A number made of the content alone: ids of predicates are not the same in every run.
    pub fn number(&self, predicates: &Predicates) -> u64 {
        let content = |id: PredicateId| predicates.content(id);
        let rules = |rules: &[LoweredRule]| -> Vec<u64> {
            rules.iter().map(|rule| rule.number(predicates)).collect()
        };
        let name = |key: &NameUse| mixed(hash_of(&(key.of.map(content), &key.name)));
        hash_of(&(
            self.direction,
            self.tiers().map(rules),
            self.itself(),
            &self.isolating,
            self.names.iter().map(name).fold(0, u64::wrapping_add),
        ))
    }
}

impl LoweredRule {
    fn number(&self, predicates: &Predicates) -> u64 {
        let peers = match &self.peers {
            LoweredPeers::Any => None,
            // A sum, because ids tell nothing of the order of contents.
            LoweredPeers::Only { predicates: ids, with_unknown_pods, .. } => {
                let sum = ids.iter().map(|id| mixed(predicates.content(*id)));
                Some((sum.fold(0, u64::wrapping_add), *with_unknown_pods))
            }
        };
        let origin = (&self.policy, self.index, &self.name);
        hash_of(&(origin, self.action, self.enforcement, peers, &self.ports))
    }
}

/// Where peers and names get their numbers; the compiler's state, or nothing but a table in a test.
pub(super) trait Names {
    /// The id of what a peer asks; `None` of one that could not be understood.
    fn predicate(&mut self, peer: &Peer) -> Option<PredicateId>;
    /// The ports that the pods `of` give a name.
    fn resolve(&mut self, key: NameUse) -> Vec<NamedPort>;
}

/// Whose rule it is, and which.
pub(super) struct Origin<'a> {
    pub policy: &'a ObjectName,
    pub index: usize,
    pub enforcement: Enforcement,
}

/// How named ports are resolved: towards the pod by its own names, from it by those of the peers.
#[derive(Clone, Copy)]
pub(super) enum Destination<'a> {
    Own(&'a [NamedPort]),
    Peer,
}

/// A rule of a NetworkPolicy; `None` if it matches nothing.
pub(super) fn network_rule(
    rule: &Rule,
    origin: &Origin<'_>,
    destination: Destination<'_>,
    names: &mut impl Names,
) -> Option<LoweredRule> {
    let peers = match &rule.peers {
        Peers::Any => LoweredPeers::Any,
        Peers::Only(peers) => only(peers, false, names),
    };
    let ports = ports(&rule.ports, &peers, destination, names);
    finished(None, Action::Accept, origin, peers, ports)
}

/// A rule of a ClusterNetworkPolicy; `None` if it matches nothing.
pub(super) fn cluster_rule(
    rule: &ClusterRule,
    origin: &Origin<'_>,
    destination: Destination<'_>,
    names: &mut impl Names,
) -> Option<LoweredRule> {
    let has_unknown_peer = rule.peers.contains(&Peer::Unknown);
    let has_unknown_port = match &rule.ports {
        Ports::Any => false,
        Ports::Only(items) => items.contains(&PortMatch::Unknown),
    };
    let action = match (rule.action, has_unknown_peer || has_unknown_port) {
        (action, false) => action,
        (Action::Accept, true) => return None,
        (Action::Deny | Action::Pass, true) => Action::Deny,
    };
    let peers = match has_unknown_peer {
        true => LoweredPeers::Any,
        false => only(&rule.peers, action == Action::Deny && names_any_pod(&rule.peers), names),
    };
    let ports = match has_unknown_port {
        true => LoweredPorts::Any,
        false => ports(&rule.ports, &peers, destination, names),
    };
    finished(rule.name.clone(), action, origin, peers, ports)
}

fn names_any_pod(peers: &[Peer]) -> bool {
    peers.iter().any(|peer| match peer {
        Peer::Pods { namespaces: Namespaces::Matching(namespaces), pods } => {
            namespaces.is_any() && pods.is_any()
        }
        Peer::Pods { namespaces: Namespaces::Named(_), .. }
        | Peer::Nodes(_)
        | Peer::Block(_)
        | Peer::Unknown => false,
    })
}

fn finished(
    name: Option<Arc<str>>,
    action: Action,
    origin: &Origin<'_>,
    peers: LoweredPeers,
    ports: LoweredPorts,
) -> Option<LoweredRule> {
    let is_dead = match &ports {
        LoweredPorts::Any => false,
        LoweredPorts::Only { protocols, ranges, named } => {
            protocols.is_empty() && ranges.is_empty() && named.is_empty()
        }
    };
    let (policy, index, enforcement) = (origin.policy.clone(), origin.index, origin.enforcement);
    (!is_dead).then_some(LoweredRule { policy, index, name, action, enforcement, peers, ports })
}

fn only(peers: &[Peer], with_unknown_pods: bool, names: &mut impl Names) -> LoweredPeers {
    let mut predicates: Vec<_> = peers.iter().filter_map(|peer| names.predicate(peer)).collect();
    predicates.sort_unstable();
    predicates.dedup();
    let asks_who = peers.iter().any(|peer| match peer {
        Peer::Pods { .. } | Peer::Nodes(_) => true,
        Peer::Block(_) | Peer::Unknown => false,
    });
    LoweredPeers::Only { predicates, with_unknown_pods, asks_who }
}

fn ports(
    ports: &Ports,
    peers: &LoweredPeers,
    destination: Destination<'_>,
    names: &mut impl Names,
) -> LoweredPorts {
    let items = match ports {
        Ports::Any => return LoweredPorts::Any,
        Ports::Only(items) => items,
    };
    let (mut protocols, mut ranges, mut named) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        match item {
            PortMatch::Protocol(protocol) => protocols.push(*protocol),
            PortMatch::Range { protocol, first, last } => ranges.push((*protocol, *first, *last)),
            PortMatch::Named { protocol, name } => {
                let is_meant = |port: &NamedPort| protocol.is_none_or(|own| own == port.protocol);
                match destination {
                    Destination::Own(ports) => {
                        let own = ports.iter().filter(|port| port.name == *name && is_meant(port));
                        ranges.extend(own.map(|port| (port.protocol, port.number, port.number)));
                    }
                    Destination::Peer => {
                        named.extend(of_peers(name, peers, names).into_iter().filter(is_meant));
                    }
                }
            }
            PortMatch::Unknown => {}
        }
    }
    protocols.sort_unstable();
    protocols.dedup();
    ranges.sort_unstable();
    ranges.dedup();
    named.sort_unstable();
    named.dedup();
    LoweredPorts::Only { protocols, ranges, named }
}

fn of_peers(name: &Arc<str>, peers: &LoweredPeers, names: &mut impl Names) -> Vec<NamedPort> {
    let mut resolve = |of| names.resolve(NameUse { of, name: name.clone() });
    match peers {
        LoweredPeers::Any => resolve(None),
        LoweredPeers::Only { predicates, .. } => {
            predicates.iter().flat_map(|id| resolve(Some(*id))).collect()
        }
    }
}
