// SPDX-License-Identifier: Apache-2.0
//! Which endpoints of a service port take new connections on this node (`pkg/proxy/topology.go`).

use std::sync::Arc;

use super::desired::{DesiredBackend, NoBackend};
use crate::model::{
    addr::BackendAddr,
    ip::Family,
    service::{ServicePort, TrafficPolicy},
    slice::{Endpoint, EndpointSlice, Hints, SlicePort},
};

/// Where we are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Name of our node; empty if nothing is local.
    pub node: Arc<str>,
    /// Our zone, if the node has one.
    pub zone: Option<Arc<str>>,
}

/// An endpoint with the port that its slice gives it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub addr: BackendAddr,
    pub endpoint: &'a Endpoint,
    pub weight: u8,
}

/// What becomes of the endpoints of a service port.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub backends: Vec<DesiredBackend>,
    pub draining: Vec<DesiredBackend>,
    pub no_backend: NoBackend,
}

/// The union of a service port's endpoints over its slices, sorted by address, each address once.
///
/// An address may stand in several slices when a pod's address is reused: what is not terminating
/// goes before what is. Among equals kube-proxy leaves the choice to chance; we take the ready one,
/// then the one that serves, then the first slice by name (`slices` is in that order).
pub(super) fn candidates<'a>(
    slices: &'a [Arc<EndpointSlice>],
    port: &ServicePort,
    family: Family,
) -> Vec<Candidate<'a>> {
    let mut found = Vec::new();
    for slice in slices.iter().filter(|slice| slice.family == family) {
        let same = |other: &&_| is_same_port(port, other);
        for number in slice.ports.iter().filter(same).map(|port| port.port) {
            found.extend(slice.endpoints.iter().map(|endpoint| Candidate {
                addr: BackendAddr { ip: endpoint.ip, port: number },
                endpoint,
                weight: slice.weight,
            }));
        }
    }
    // Stable, so that equals stay in the order of the slices.
    found.sort_by_key(|candidate| {
        let conditions = candidate.endpoint.conditions;
        (candidate.addr, conditions.terminating, !conditions.ready, !conditions.serving)
    });
    found.dedup_by_key(|candidate| candidate.addr);
    found
}

/// The name and the protocol tie them; the numbers are independent.
fn is_same_port(port: &ServicePort, other: &SlicePort) -> bool {
    other.name == port.name && other.protocol == port.protocol
}

/// Splits the candidates of a service port into those that take new connections and the others.
pub(super) fn select(
    candidates: &[Candidate<'_>],
    policy: TrafficPolicy,
    place: &Place,
) -> Selection {
    let is_usable = match policy {
        TrafficPolicy::Cluster => usable_in_cluster(candidates, place),
        TrafficPolicy::Local => usable_here(candidates, place),
    };
    let mut selection = Selection::default();
    for candidate in candidates {
        let local = place.is_local(candidate.endpoint);
        let backend = DesiredBackend { addr: candidate.addr, local, weight: candidate.weight };
        if is_usable.accepts(candidate.endpoint, place) {
            selection.backends.push(backend);
        } else if candidate.endpoint.conditions.serving {
            // Who no longer serves keeps nothing: its UDP clients are to choose again. Its TCP
            // connections go on without it being known.
            selection.draining.push(backend);
        }
    }
    // Refused if there is nobody to answer at all; dropped if only the policy excludes them.
    let is_excluded =
        || candidates.iter().any(|c| is_ready(c.endpoint) || is_last_resort(c.endpoint));
    if selection.backends.is_empty() && is_excluded() {
        selection.no_backend = NoBackend::Drop;
    }
    selection
}

/// The rule that the endpoints of a service port are measured by, decided once for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The ready ones.
    Ready,
    /// The ready ones that are hinted to our node.
    ReadyForNode,
    /// The ready ones that are hinted to our zone.
    ReadyForZone,
    /// Nobody is ready: those that terminate and still serve (KEP-1669).
    Terminating,
    /// The ready ones on our node.
    ReadyHere,
    /// Nobody is ready on our node: those that terminate and still serve on it.
    TerminatingHere,
}

fn usable_in_cluster(candidates: &[Candidate<'_>], place: &Place) -> Rule {
    let ready = candidates.iter().map(|candidate| candidate.endpoint).filter(|e| is_ready(e));
    if ready.clone().next().is_none() {
        return Rule::Terminating;
    }
    // One ready endpoint without a hint switches off hints of that type for all.
    let hints = |rule: Rule, of: fn(&Hints) -> &[Arc<str>]| {
        let is_hinted = |endpoint: &Endpoint| {
            endpoint.hints.as_ref().is_some_and(|hints| !of(hints).is_empty())
        };
        ready.clone().all(is_hinted) && ready.clone().any(|endpoint| rule.accepts(endpoint, place))
    };
    if hints(Rule::ReadyForNode, |hints| &hints.nodes) {
        Rule::ReadyForNode
    } else if hints(Rule::ReadyForZone, |hints| &hints.zones) {
        Rule::ReadyForZone
    } else {
        Rule::Ready
    }
}

fn usable_here(candidates: &[Candidate<'_>], place: &Place) -> Rule {
    if candidates.iter().any(|candidate| Rule::ReadyHere.accepts(candidate.endpoint, place)) {
        Rule::ReadyHere
    } else {
        Rule::TerminatingHere
    }
}

impl Rule {
    fn accepts(self, endpoint: &Endpoint, place: &Place) -> bool {
        match self {
            Self::Ready => is_ready(endpoint),
            Self::ReadyForNode => is_ready(endpoint) && place.is_hinted_node(endpoint),
            Self::ReadyForZone => is_ready(endpoint) && place.is_hinted_zone(endpoint),
            Self::Terminating => is_last_resort(endpoint),
            Self::ReadyHere => is_ready(endpoint) && place.is_local(endpoint),
            Self::TerminatingHere => is_last_resort(endpoint) && place.is_local(endpoint),
        }
    }
}

impl Place {
    pub fn is_local(&self, endpoint: &Endpoint) -> bool {
        !self.node.is_empty() && endpoint.node.as_deref() == Some(&*self.node)
    }

    fn is_hinted_node(&self, endpoint: &Endpoint) -> bool {
        let hints = endpoint.hints.as_ref();
        hints.is_some_and(|hints| hints.nodes.contains(&self.node))
    }

    fn is_hinted_zone(&self, endpoint: &Endpoint) -> bool {
        let hints = endpoint.hints.as_ref();
        hints.zip(self.zone.as_ref()).is_some_and(|(hints, zone)| hints.zones.contains(zone))
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.ready
}

fn is_last_resort(endpoint: &Endpoint) -> bool {
    endpoint.conditions.serving && endpoint.conditions.terminating
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
