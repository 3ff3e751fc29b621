// SPDX-License-Identifier: Apache-2.0
//! networking.k8s.io/v1 NetworkPolicy → model, with the defaults of the API server
//! (`pkg/apis/networking/v1/defaults.go`).
//!
//! What its validation would have refused, and files can hold nevertheless, allows nothing.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    api::{self, Fields, LabelSelector, List, NetworkPolicySpec},
    metadata::{Converted, NameError, namespaced, port_number, range, texts},
    selector::{closed, enforcement, selector},
    service::protocol,
};
use crate::model::{
    intern::Interner,
    name::ObjectName,
    object::Object,
    policy::{
        IpBlock, Isolation, Namespaces, NetworkPolicy, Peer, Peers, PortMatch, Ports, Rule,
        Selector,
    },
    rejection::{ClosedEffect, RejectReason},
};

/// Converts a NetworkPolicy.
pub fn network_policy(
    object: &api::NetworkPolicy<'_>,
    interner: &Interner,
) -> Result<Converted, NameError> {
    let name = namespaced(&object.metadata)?;
    let empty = NetworkPolicySpec::default();
    let spec = object.spec.as_deref().unwrap_or(&empty);
    let namespace = interner.name(name.namespace());
    let mut reading = Reading { namespace, interner, reasons: Vec::new() };
    let [ingress, egress] = reading.types(spec);
    let ingress = ingress.then(|| {
        let rules = spec.ingress.iter().flatten().map(|rule| (&rule.from, &rule.ports));
        reading.rules("spec.ingress", "from", rules)
    });
    let egress = egress.then(|| {
        let rules = spec.egress.iter().flatten().map(|rule| (&rule.to, &rule.ports));
        reading.rules("spec.egress", "to", rules)
    });
    let policy = reading.policy(name, spec, ingress, egress);
    let enforcement = enforcement(&object.metadata, &mut reading.reasons);
    let policy = NetworkPolicy { enforcement, ..policy };
    Ok(Converted::present(Object::NetworkPolicy(policy.into()), reading.reasons))
}

struct Reading<'a> {
    namespace: Arc<str>,
    interner: &'a Interner,
    reasons: Vec<RejectReason>,
}

type Rules = Box<[Rule]>;

impl Reading<'_> {
    fn policy(
        &mut self,
        name: ObjectName,
        spec: &NetworkPolicySpec<'_>,
        ingress: Option<Rules>,
        egress: Option<Rules>,
    ) -> NetworkPolicy {
        let every = LabelSelector::default();
        let subject = selector(spec.pod_selector.as_deref().unwrap_or(&every), self.interner);
        // Nobody knows whom it was to isolate: all that it could, and its rules hold for none.
        let is_known = subject.is_ok();
        let subject = subject.unwrap_or_else(|message| {
            let field = "spec.podSelector".to_owned();
            self.reasons.push(closed(field, message, ClosedEffect::AllowsNothing));
            Selector::any()
        });
        let isolation = |rules: Option<Rules>| match rules {
            None => Isolation::None,
            Some(rules) if is_known => Isolation::Except(rules),
            Some(_) => Isolation::Except([].into()),
        };
        let (ingress, egress) = (isolation(ingress), isolation(egress));
        NetworkPolicy { name, subject, ingress, egress, enforcement: Default::default() }
    }

    /// Whether it is about ingress, and about egress. Without types it is about ingress, and about
    /// egress if it has egress rules.
    fn types(&mut self, spec: &NetworkPolicySpec<'_>) -> [bool; 2] {
        let listed = spec.policy_types.as_deref().unwrap_or_default();
        if listed.is_empty() {
            return [true, spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())];
        }
        let mut types = [false, false];
        for word in listed {
            match &**word {
                "Ingress" => types[0] = true,
                "Egress" => types[1] = true,
                other => {
                    self.reasons.push(RejectReason::UnknownValue {
                        field: "spec.policyTypes",
                        value: other.to_owned(),
                        used: "Ingress and Egress",
                    });
                    types = [true, true];
                }
            }
        }
        types
    }

    fn rules<'b>(
        &mut self,
        field: &str,
        peers_field: &str,
        rules: impl Iterator<
            Item = (&'b List<api::NetworkPolicyPeer<'b>>, &'b List<api::NetworkPolicyPort<'b>>),
        >,
    ) -> Rules {
        rules
            .enumerate()
            .map(|(index, (peers, ports))| Rule {
                peers: self.peers(&format!("{field}[{index}].{peers_field}"), peers),
                ports: self.ports(&format!("{field}[{index}].ports"), ports),
            })
            .collect()
    }

    /// Absent and empty are the same: anybody.
    fn peers(&mut self, field: &str, peers: &List<api::NetworkPolicyPeer<'_>>) -> Peers {
        match peers.as_deref().unwrap_or_default() {
            [] => Peers::Any,
            peers => Peers::Only(self.items(field, peers, Peer::Unknown, Self::peer)),
        }
    }

    fn peer(&self, peer: &api::NetworkPolicyPeer<'_>) -> Result<Peer, String> {
        match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
            (Some(block), None, None) => block_peer(block),
            (Some(_), _, _) => Err("ipBlock together with a selector".to_owned()),
            (None, None, None) => Err("the peer is empty or of an unknown kind".to_owned()),
            (None, None, Some(pods)) => {
                let namespaces = Namespaces::Named(self.namespace.clone());
                Ok(Peer::Pods { namespaces, pods: selector(pods, self.interner)? })
            }
            (None, Some(namespaces), pods) => {
                let namespaces = Namespaces::Matching(selector(namespaces, self.interner)?);
                let every = LabelSelector::default();
                let pods = selector(pods.as_deref().unwrap_or(&every), self.interner)?;
                Ok(Peer::Pods { namespaces, pods })
            }
        }
    }

    /// Absent and empty are the same: every port.
    fn ports(&mut self, field: &str, ports: &List<api::NetworkPolicyPort<'_>>) -> Ports {
        match ports.as_deref().unwrap_or_default() {
            [] => Ports::Any,
            ports => Ports::Only(self.items(field, ports, PortMatch::Unknown, Self::port)),
        }
    }

    fn port(&self, port: &api::NetworkPolicyPort<'_>) -> Result<PortMatch, String> {
        let protocol =
            protocol("", port.protocol.as_deref()).map_err(|reason| reason.to_string())?;
        let number = |number| port_number("", number).map_err(|reason| reason.to_string());
        match (&port.port, port.end_port) {
            (None, None) => Ok(PortMatch::Protocol(protocol)),
            (None, Some(_)) => Err("endPort without port".to_owned()),
            (Some(IntOrString::String(_)), Some(_)) => Err("endPort with a named port".to_owned()),
            (Some(IntOrString::String(name)), None) => {
                Ok(PortMatch::Named { protocol: Some(protocol), name: self.interner.name(name) })
            }
            (Some(IntOrString::Int(first)), last) => {
                let (first, last) = (number(*first)?, number(last.unwrap_or(*first))?);
                if last < first {
                    return Err(format!("endPort {last} is less than port {first}"));
                }
                Ok(PortMatch::Range { protocol, first, last })
            }
        }
    }

    /// The items of a list; `unknown` in place of each that cannot be read.
    fn items<T, M: Clone>(
        &mut self,
        field: &str,
        items: &[Fields<T>],
        unknown: M,
        read: fn(&Self, &T) -> Result<M, String>,
    ) -> Box<[M]> {
        let mut known = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            known.push(read(self, item).unwrap_or_else(|message| {
                let field = format!("{field}[{index}]");
                self.reasons.push(closed(field, message, ClosedEffect::MatchesNothing));
                unknown.clone()
            }));
        }
        known.into()
    }
}

/// A hole that cannot be read may be anywhere, so nothing of the block is left.
fn block_peer(block: &api::IpBlock<'_>) -> Result<Peer, String> {
    let parse = |field, text: &str| range(field, text).map_err(|reason| reason.to_string());
    let cidr = parse("cidr", block.cidr.as_deref().unwrap_or_default())?;
    let holes = texts(&block.except).map(|text| parse("except", text));
    Ok(Peer::Block(IpBlock::new(cidr, holes.collect::<Result<Vec<_>, _>>()?)))
}
