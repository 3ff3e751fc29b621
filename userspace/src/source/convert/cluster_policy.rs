// SPDX-License-Identifier: Apache-2.0
//! policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy → model.
//!
//! What is not known fails closed, and is named.

use super::{
    api::{
        self, ClusterNetworkPolicySpec as Spec, ClusterPeer, ClusterPods, ClusterProtocol,
        ClusterSubject, ClusterTransport, Fields, LabelSelector, List, Unknown,
    },
    metadata::{Converted, NameError, cluster_scoped, port_number, range},
    selector::{closed, enforcement, selector},
};
use crate::model::{
    addr::Protocol,
    intern::Interner,
    object::Object,
    policy::{
        Action, ClusterNetworkPolicy as Policy, ClusterRule, Direction, IpBlock, Namespaces, Peer,
        PortMatch, Ports, Selector, Subject, Tier,
    },
    rejection::{ClosedEffect, RejectReason},
};

/// The highest value of `priority`.
const MAX_PRIORITY: i64 = 1000;

/// Converts a ClusterNetworkPolicy.
pub fn cluster_policy(
    object: &api::ClusterNetworkPolicy<'_>,
    interner: &Interner,
) -> Result<Converted, NameError> {
    let name = cluster_scoped(&object.metadata)?;
    let empty = Spec::default();
    let spec = object.spec.as_deref().unwrap_or(&empty);
    let mut reading = Reading { interner, reasons: Vec::new() };
    let ingress = reading.rules(Direction::Ingress, &spec.ingress);
    let egress = reading.rules(Direction::Egress, &spec.egress);
    let tier = tier(spec);
    let priority = priority(spec);
    let subject = reading.subject(&spec.subject);
    // A policy that we cannot place must not allow anything, nor let anything pass by others.
    let is_known = tier.is_ok() && priority.is_ok() && subject.is_ok();
    let rules = |rules: Vec<ClusterRule>| match is_known {
        true => rules.into(),
        false => rules.into_iter().filter_map(only_denying).collect(),
    };
    let (ingress, egress) = (rules(ingress), rules(egress));
    let mut told = |field: &str, message| {
        reading.reasons.push(closed(field.to_owned(), message, ClosedEffect::AllowsNothing));
    };
    let tier = tier.unwrap_or_else(|message| {
        told("spec.tier", message);
        Tier::Admin
    });
    let priority = priority.unwrap_or_else(|message| {
        told("spec.priority", message);
        0
    });
    let subject = subject.unwrap_or_else(|message| {
        told("spec.subject", message);
        Subject { namespaces: Selector::any(), pods: Selector::any() }
    });
    let enforcement = enforcement(&object.metadata, &mut reading.reasons);
    let policy = Policy { name, tier, priority, subject, ingress, egress, enforcement };
    Ok(Converted::present(Object::ClusterNetworkPolicy(policy.into()), reading.reasons))
}

fn only_denying(rule: ClusterRule) -> Option<ClusterRule> {
    match rule.action {
        Action::Accept => None,
        Action::Deny | Action::Pass => Some(ClusterRule { action: Action::Deny, ..rule }),
    }
}

fn tier(spec: &Spec<'_>) -> Result<Tier, String> {
    match spec.tier.as_deref() {
        Some("Admin") => Ok(Tier::Admin),
        Some("Baseline") => Ok(Tier::Baseline),
        Some(other) => Err(format!("'{other}' is unknown")),
        None => Err("it is not said".to_owned()),
    }
}

fn priority(spec: &Spec<'_>) -> Result<u16, String> {
    match spec.priority {
        Some(number @ 0..=MAX_PRIORITY) => u16::try_from(number).map_err(|error| error.to_string()),
        Some(other) => Err(format!("{other} is not between 0 and {MAX_PRIORITY}")),
        None => Err("it is not said".to_owned()),
    }
}

/// The only name among unknown ones, or all of them.
fn named(unknown: &Unknown<'_>) -> String {
    let names: Vec<&str> = unknown.keys().map(|name| &**name).collect();
    match names.is_empty() {
        true => "none of the known kinds".to_owned(),
        false => format!("'{}' is not known", names.join("', '")),
    }
}

struct Reading<'a> {
    interner: &'a Interner,
    reasons: Vec<RejectReason>,
}

impl Reading<'_> {
    fn subject(&self, subject: &ClusterSubject<'_>) -> Result<Subject, String> {
        match (&subject.namespaces, &subject.pods, subject.unknown.is_empty()) {
            (Some(namespaces), None, true) => Ok(Subject {
                namespaces: selector(namespaces, self.interner)?,
                pods: Selector::any(),
            }),
            (None, Some(pods), true) => {
                let (namespaces, pods) = self.pods(pods)?;
                Ok(Subject { namespaces, pods })
            }
            (Some(_), Some(_), true) => Err("both namespaces and pods".to_owned()),
            (_, _, _) => Err(named(&subject.unknown)),
        }
    }

    fn pods(&self, pods: &ClusterPods<'_>) -> Result<(Selector, Selector), String> {
        let read = |one: &Option<Fields<LabelSelector<'_>>>, name: &str| match one {
            Some(one) => selector(one, self.interner),
            None => Err(format!("pods without {name}")),
        };
        let namespaces = read(&pods.namespace_selector, "namespaceSelector")?;
        Ok((namespaces, read(&pods.pod_selector, "podSelector")?))
    }

    fn rules(&mut self, way: Direction, rules: &List<api::ClusterRule<'_>>) -> Vec<ClusterRule> {
        let rules = rules.iter().flatten().enumerate();
        let field = way.as_str();
        rules.map(|(index, rule)| self.rule(&format!("spec.{field}[{index}]"), way, rule)).collect()
    }

    fn rule(&mut self, field: &str, way: Direction, rule: &api::ClusterRule<'_>) -> ClusterRule {
        let action = match rule.action.as_deref() {
            Some("Accept") => Action::Accept,
            Some("Deny") => Action::Deny,
            Some("Pass") => Action::Pass,
            other => {
                let message = format!("action '{}' is unknown", other.unwrap_or_default());
                self.reasons.push(closed(field.to_owned(), message, ClosedEffect::Denies));
                Action::Deny
            }
        };
        let effect = match action {
            Action::Accept => ClosedEffect::MatchesNothing,
            Action::Deny | Action::Pass => ClosedEffect::Denies,
        };
        let listed = match way {
            Direction::Ingress => &rule.from,
            Direction::Egress => &rule.to,
        };
        let peers = self.peers(field, way, listed.as_deref().unwrap_or_default(), effect);
        let ports = self.ports(field, &rule.protocols, effect);
        let name = rule.name.as_deref().filter(|name| !name.is_empty());
        ClusterRule { name: name.map(|name| self.interner.name(name)), action, peers, ports }
    }

    fn peers(
        &mut self,
        field: &str,
        way: Direction,
        listed: &[Fields<ClusterPeer<'_>>],
        effect: ClosedEffect,
    ) -> Box<[Peer]> {
        if listed.is_empty() {
            // Somebody must be there; what it was may be a field that we do not know.
            self.reasons.push(closed(field.to_owned(), "no peers".to_owned(), effect));
            return [Peer::Unknown].into();
        }
        let mut peers = Vec::new();
        for (index, peer) in listed.iter().enumerate() {
            match self.peer(way, peer) {
                Ok(read) => peers.extend(read),
                Err(message) => {
                    self.reasons.push(closed(format!("{field}, peer {index}"), message, effect));
                    peers.push(Peer::Unknown);
                }
            }
        }
        peers.into()
    }

    fn peer(&self, way: Direction, peer: &ClusterPeer<'_>) -> Result<Vec<Peer>, String> {
        if way == Direction::Ingress && (peer.nodes.is_some() || peer.networks.is_some()) {
            return Err("only pods and namespaces can be the source".to_owned());
        }
        if !peer.unknown.is_empty() {
            return Err(named(&peer.unknown));
        }
        match (&peer.namespaces, &peer.pods, &peer.nodes, &peer.networks) {
            (Some(namespaces), None, None, None) => {
                let namespaces = Namespaces::Matching(selector(namespaces, self.interner)?);
                Ok(vec![Peer::Pods { namespaces, pods: Selector::any() }])
            }
            (None, Some(pods), None, None) => {
                let (namespaces, pods) = self.pods(pods)?;
                let namespaces = Namespaces::Matching(namespaces);
                Ok(vec![Peer::Pods { namespaces, pods }])
            }
            (None, None, Some(nodes), None) => {
                Ok(vec![Peer::Nodes(selector(nodes, self.interner)?)])
            }
            (None, None, None, Some(networks)) if !networks.is_empty() => networks
                .iter()
                .map(|text| {
                    let cidr = range("networks", text).map_err(|reason| reason.to_string())?;
                    Ok(Peer::Block(IpBlock::new(cidr, [])))
                })
                .collect(),
            (None, None, None, _) => Err(named(&peer.unknown)),
            (_, _, _, _) => Err("more than one kind of peer".to_owned()),
        }
    }

    fn ports(
        &mut self,
        field: &str,
        protocols: &List<ClusterProtocol<'_>>,
        effect: ClosedEffect,
    ) -> Ports {
        let Some(protocols) = protocols.as_deref().filter(|listed| !listed.is_empty()) else {
            return Ports::Any;
        };
        let read = |(index, item): (usize, &Fields<_>)| {
            self.port(item).unwrap_or_else(|message| {
                let field = format!("{field}.protocols[{index}]");
                self.reasons.push(closed(field, message, effect));
                PortMatch::Unknown
            })
        };
        Ports::Only(protocols.iter().enumerate().map(read).collect())
    }

    fn port(&self, item: &ClusterProtocol<'_>) -> Result<PortMatch, String> {
        if !item.unknown.is_empty() {
            return Err(named(&item.unknown));
        }
        match (&item.tcp, &item.udp, &item.sctp, item.named.as_deref()) {
            (Some(tcp), None, None, None) => transport(Protocol::Tcp, tcp),
            (None, Some(udp), None, None) => transport(Protocol::Udp, udp),
            (None, None, Some(sctp), None) => transport(Protocol::Sctp, sctp),
            (None, None, None, Some(name)) if !name.is_empty() => {
                Ok(PortMatch::Named { protocol: None, name: self.interner.name(name) })
            }
            (None, None, None, _) => Err(named(&item.unknown)),
            (_, _, _, _) => Err("more than one kind of protocol".to_owned()),
        }
    }
}

fn transport(protocol: Protocol, transport: &ClusterTransport<'_>) -> Result<PortMatch, String> {
    let Some(port) = &transport.port else {
        return match transport.unknown.is_empty() {
            true => Ok(PortMatch::Protocol(protocol)),
            false => Err(named(&transport.unknown)),
        };
    };
    if let Some(unknown) = [&transport.unknown, &port.unknown].into_iter().find(|u| !u.is_empty()) {
        return Err(named(unknown));
    }
    let checked = |number| port_number("", number).map_err(|reason| reason.to_string());
    let (first, last) = match (port.number, &port.range) {
        (Some(number), None) => (number, number),
        (None, Some(range)) if range.start < range.end => (range.start, range.end),
        (None, Some(range)) => return Err(format!("range {}-{}", range.start, range.end)),
        (None, None) => return Err("destinationPort is empty".to_owned()),
        (Some(_), Some(_)) => return Err("both number and range".to_owned()),
    };
    Ok(PortMatch::Range { protocol, first: checked(first)?, last: checked(last)? })
}
