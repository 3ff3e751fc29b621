// SPDX-License-Identifier: Apache-2.0
//! Which interface is which pod's.

use std::{collections::BTreeMap, net::IpAddr};

use super::tables::EndpointRecord;
use crate::{
    model::name::ObjectName,
    node::{IfIndex, Snapshot},
    policy::{Endpoint, RulesetId},
};

/// The node's network, as far as pods' interfaces go.
pub trait Interfaces {
    /// The interface behind which an address is, if that is known just now.
    fn behind(&self, ip: IpAddr) -> Option<IfIndex>;
    /// The name of a pod's interface; `None` if there is no such interface.
    fn name(&self, index: IfIndex) -> Option<&str>;
}

impl Interfaces for Snapshot {
    fn behind(&self, ip: IpAddr) -> Option<IfIndex> {
        self.resolve(ip)
    }

    fn name(&self, index: IfIndex) -> Option<&str> {
        self.interfaces.get(&index).map(|interface| interface.name.as_str())
    }
}

/// When an interface gets its rulesets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timing {
    /// Before addresses get other classes.
    Early,
    /// After that.
    Late,
}

/// How it is known that an interface is a pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Evidence {
    /// It was, and nothing says otherwise: a bridge forgets where a silent pod is.
    Past,
    /// The way to the pod's address leads there.
    Present,
}

#[derive(Clone, Debug)]
struct Binding {
    index: IfIndex,
    /// Tells an interface from a later one with the same number.
    name: String,
    evidence: Evidence,
}

#[derive(Debug)]
struct LocalPod {
    endpoint: Endpoint,
    timing: Timing,
    binding: Option<Binding>,
}

/// The pods of this node.
#[derive(Debug, Default)]
pub(super) struct Pods {
    known: BTreeMap<ObjectName, LocalPod>,
}

impl Pods {
    /// A pod is new, or something of it is.
    pub fn put(&mut self, name: ObjectName, endpoint: Endpoint, timing: Timing) {
        let old = self.known.remove(&name);
        let is_same = |old: &LocalPod| old.endpoint.ips.iter().any(|ip| endpoint.ips.contains(ip));
        let binding = old.filter(is_same).and_then(|old| old.binding);
        self.known.insert(name, LocalPod { endpoint, timing, binding });
    }

    /// A pod is gone.
    pub fn remove(&mut self, name: &ObjectName) {
        self.known.remove(name);
    }

    /// Looks for the interface of a pod. Where the way to it is not known just now, it is the one that
    /// it was, or that an earlier agent has written as the pod's, as long as that exists.
    pub fn bind(
        &mut self,
        name: &ObjectName,
        interfaces: &impl Interfaces,
        real: &BTreeMap<IfIndex, EndpointRecord>,
    ) {
        let Some(pod) = self.known.get_mut(name) else { return };
        let present = pod.endpoint.ips.iter().find_map(|ip| interfaces.behind(*ip));
        let new = |index: IfIndex, evidence| {
            let name = interfaces.name(index)?.to_owned();
            Some(Binding { index, name, evidence })
        };
        pod.binding = match (present, pod.binding.take()) {
            (Some(index), _) => new(index, Evidence::Present),
            (None, Some(old)) if interfaces.name(old.index) == Some(&old.name) => {
                Some(Binding { evidence: Evidence::Past, ..old })
            }
            (None, Some(_)) => None,
            (None, None) => {
                let is_own =
                    |record: &EndpointRecord| pod.endpoint.ips.iter().any(|ip| record.has(*ip));
                let written = real.iter().find(|(_, record)| is_own(record));
                written.and_then(|(index, _)| new(*index, Evidence::Past))
            }
        };
    }

    /// The same for all pods.
    pub fn bind_all(
        &mut self,
        interfaces: &impl Interfaces,
        real: &BTreeMap<IfIndex, EndpointRecord>,
    ) {
        let names: Vec<ObjectName> = self.known.keys().cloned().collect();
        names.iter().for_each(|name| self.bind(name, interfaces, real));
    }

    /// What should be known of interfaces. Of pods that claim the same one, the first that the way
    /// leads to has it.
    pub fn records(&self) -> BTreeMap<IfIndex, (&ObjectName, EndpointRecord, Timing)> {
        let mut found = BTreeMap::new();
        for wanted in [Evidence::Present, Evidence::Past] {
            for (name, pod) in &self.known {
                let Some(binding) = &pod.binding else { continue };
                if binding.evidence == wanted {
                    let entry = || (name, record(&pod.endpoint), pod.timing);
                    found.entry(binding.index).or_insert_with(entry);
                }
            }
        }
        found
    }

    /// The rulesets that its pods should have.
    pub fn rulesets(&self) -> impl Iterator<Item = RulesetId> {
        self.known.values().flat_map(|pod| pod.endpoint.rulesets())
    }

    /// Pods of which no interface is known, with what they should have.
    pub fn unbound(&self) -> impl Iterator<Item = &ObjectName> {
        self.known.iter().filter(|(_, pod)| pod.binding.is_none()).map(|(name, _)| name)
    }

    /// An address of each pod to which no way leads just now.
    pub fn unresolved(&self) -> impl Iterator<Item = IpAddr> {
        let is_present = |binding: &Binding| binding.evidence == Evidence::Present;
        let lost =
            self.known.values().filter(move |pod| !pod.binding.as_ref().is_some_and(is_present));
        lost.filter_map(|pod| pod.endpoint.ips.first().copied())
    }

    /// The pods that should have a ruleset.
    pub fn of(&self, id: RulesetId) -> impl Iterator<Item = &ObjectName> {
        let known = self.known.iter();
        known.filter(move |(_, pod)| pod.endpoint.rulesets().contains(&id)).map(|(name, _)| name)
    }
}

/// What is to be written of a pod.
pub(super) fn record(endpoint: &Endpoint) -> EndpointRecord {
    let v4 = |ip: &IpAddr| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None };
    let v6 = |ip: &IpAddr| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None };
    EndpointRecord {
        v4: endpoint.ips.iter().find_map(v4),
        v6: endpoint.ips.iter().find_map(v6),
        rulesets: endpoint.rulesets(),
    }
}
