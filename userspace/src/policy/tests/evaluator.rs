// SPDX-License-Identifier: Apache-2.0
//! The rules as the API's text has them, walked one by one.

use std::net::IpAddr;

use super::world::World;
use crate::{
    model::{
        addr::Protocol,
        cidr::Cidr,
        cluster::{Node, Pod, PodPhase},
        policy::{
            Action, ClusterRule, Direction, Enforcement, Isolation, Namespaces, Peer, Peers,
            PortMatch, Ports, Tier,
        },
    },
    policy::Reading,
};

/// What a connection asks for at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A port of a protocol that has ports.
    Port(Protocol, u16),
    /// Something without ports: ICMP, GRE.
    Portless,
}

/// The other side of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    pub ip: IpAddr,
    pub who: Who<'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum Who<'a> {
    Node(&'a Node),
    Pod(&'a Pod),
    /// An address for pods that no pod has, as far as we know.
    UnknownPod,
    Outside,
}

/// Whether the other side is the pod itself, by way of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Direct,
    Hairpin,
}

/// Evaluates policies for one pod.
pub struct Evaluator<'a> {
    pub world: &'a World,
    pub subject: &'a Pod,
    pub direction: Direction,
    pub reading: Reading,
}

impl World {
    /// Who has an address.
    pub fn party(&self, ip: IpAddr, pod_cidrs: &[Cidr]) -> Party<'_> {
        let node = self.nodes.values().find(|node| node.ips().any(|own| own == ip));
        let mut pods: Vec<&Pod> = self.pods.values().map(|pod| &**pod).collect();
        pods.retain(|pod| {
            let is_over = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
            !is_over && !pod.host_network && pod.ips.contains(&ip)
        });
        pods.sort_by_key(|pod| (!pod.is_terminating, pod.created, &pod.name));
        let is_for_pods = pod_cidrs.iter().any(|cidr| cidr.contains(ip))
            || self.nodes.values().any(|node| node.pod_cidrs.iter().any(|one| one.contains(ip)));
        let who = match (node, pods.last()) {
            (Some(node), _) => Who::Node(node),
            (None, Some(pod)) => Who::Pod(pod),
            (None, None) if is_for_pods => Who::UnknownPod,
            (None, None) => Who::Outside,
        };
        Party { ip, who }
    }
}

impl Evaluator<'_> {
    pub fn is_allowed(&self, party: &Party<'_>, wanted: Wanted, way: Way) -> bool {
        if let Some(decided) = self.cluster_tier(Tier::Admin, party, wanted) {
            return decided;
        }
        if let Some(decided) = self.network_tier(party, wanted, way) {
            return decided;
        }
        self.cluster_tier(Tier::Baseline, party, wanted).unwrap_or(true)
    }

    fn counts(&self, enforcement: Enforcement) -> bool {
        enforcement == Enforcement::Enforced || self.reading == Reading::Staged
    }

    fn cluster_tier(&self, tier: Tier, party: &Party<'_>, wanted: Wanted) -> Option<bool> {
        let namespace = self.world.namespace(self.subject.name.namespace());
        let mut policies: Vec<_> = self.world.cluster_policies.values().collect();
        policies.sort_by_key(|policy| (policy.priority, policy.name.clone()));
        for policy in policies {
            if policy.tier != tier
                || !self.counts(policy.enforcement)
                || !policy.subject.namespaces.matches(&namespace)
                || !policy.subject.pods.matches(&self.subject.labels)
            {
                continue;
            }
            for rule in policy.rules(self.direction) {
                match self.cluster_rule(rule, party, wanted) {
                    Some(Action::Accept) => return Some(true),
                    Some(Action::Deny) => return Some(false),
                    Some(Action::Pass) => return None,
                    None => {}
                }
            }
        }
        None
    }

    /// What a rule says to a connection, if anything.
    fn cluster_rule(
        &self,
        rule: &ClusterRule,
        party: &Party<'_>,
        wanted: Wanted,
    ) -> Option<Action> {
        let has_unknown_port =
            matches!(&rule.ports, Ports::Only(items) if items.contains(&PortMatch::Unknown));
        let has_unknown_peer = rule.peers.contains(&Peer::Unknown);
        let is_unknown = has_unknown_port || has_unknown_peer;
        let action = match rule.action {
            Action::Accept if is_unknown => return None,
            Action::Accept => Action::Accept,
            Action::Deny => Action::Deny,
            Action::Pass if is_unknown => Action::Deny,
            Action::Pass => Action::Pass,
        };
        let denies_any_pod = action == Action::Deny
            && matches!(party.who, Who::UnknownPod)
            && rule.peers.iter().any(|peer| match peer {
                Peer::Pods { namespaces: Namespaces::Matching(namespaces), pods } => {
                    namespaces.is_any() && pods.is_any()
                }
                _ => false,
            });
        let is_peer = has_unknown_peer
            || denies_any_pod
            || rule.peers.iter().any(|peer| self.is_peer(peer, party));
        let is_port = has_unknown_port || self.is_port(&rule.ports, party, wanted);
        (is_peer && is_port).then_some(action)
    }

    fn network_tier(&self, party: &Party<'_>, wanted: Wanted, way: Way) -> Option<bool> {
        let mut is_isolated = false;
        let mut is_allowed = false;
        for policy in self.world.network_policies.values() {
            if policy.name.namespace() != self.subject.name.namespace()
                || !self.counts(policy.enforcement)
                || !policy.subject.matches(&self.subject.labels)
            {
                continue;
            }
            let Isolation::Except(rules) = policy.isolation(self.direction) else { continue };
            is_isolated = true;
            for rule in rules {
                let is_peer = match &rule.peers {
                    Peers::Any => true,
                    Peers::Only(peers) => peers.iter().any(|peer| self.is_peer(peer, party)),
                };
                is_allowed |= is_peer && self.is_port(&rule.ports, party, wanted);
            }
        }
        is_isolated.then_some(is_allowed || way == Way::Hairpin)
    }

    fn is_peer(&self, peer: &Peer, party: &Party<'_>) -> bool {
        match (peer, party.who) {
            (Peer::Pods { namespaces, pods }, Who::Pod(pod)) => {
                let namespace = pod.name.namespace();
                let is_namespace = match namespaces {
                    Namespaces::Named(name) => **name == *namespace,
                    Namespaces::Matching(by) => by.matches(&self.world.namespace(namespace)),
                };
                is_namespace && pods.matches(&pod.labels)
            }
            (Peer::Nodes(selector), Who::Node(node)) => selector.matches(&node.labels),
            (Peer::Block(block), _) => {
                let is_in_hole = block.except().iter().any(|hole| hole.contains(party.ip));
                block.cidr().contains(party.ip) && !is_in_hole
            }
            _ => false,
        }
    }

    fn is_port(&self, ports: &Ports, party: &Party<'_>, wanted: Wanted) -> bool {
        let (items, (protocol, port)) = match (ports, wanted) {
            (Ports::Any, _) => return true,
            (Ports::Only(_), Wanted::Portless) => return false,
            (Ports::Only(items), Wanted::Port(protocol, port)) => (items, (protocol, port)),
        };
        let destination = match (self.direction, party.who) {
            (Direction::Ingress, _) => Some(self.subject),
            (Direction::Egress, Who::Pod(pod)) => Some(pod),
            (Direction::Egress, Who::Node(_) | Who::UnknownPod | Who::Outside) => None,
        };
        items.iter().any(|item| match item {
            PortMatch::Protocol(own) => *own == protocol,
            PortMatch::Range { protocol: own, first, last } => {
                *own == protocol && (*first..=*last).contains(&port)
            }
            PortMatch::Named { protocol: own, name } => destination.is_some_and(|pod| {
                own.is_none_or(|own| own == protocol)
                    && pod.ports.iter().any(|known| {
                        known.name == *name && known.protocol == protocol && known.number == port
                    })
            }),
            PortMatch::Unknown => false,
        })
    }
}
