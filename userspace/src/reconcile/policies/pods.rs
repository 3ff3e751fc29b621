// SPDX-License-Identifier: Apache-2.0
//! Which interface is which pod's.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

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
    /// An earlier agent wrote so, and nothing says otherwise: a bridge forgets where a silent pod is.
    Past,
    /// The way to the pod's address has led there since we look.
    Present,
}

#[derive(Clone, Debug)]
struct Binding {
    index: IfIndex,
    /// Tells an interface from a later one with the same number.
    name: String,
    evidence: Evidence,
}

impl Binding {
    fn exists(&self, interfaces: &impl Interfaces) -> bool {
        interfaces.name(self.index) == Some(&self.name)
    }
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
    /// How often each ruleset is one of theirs.
    rulesets: BTreeMap<RulesetId, usize>,
}

impl Pods {
    /// A pod is new, or something of it is.
    pub fn put(&mut self, name: ObjectName, endpoint: Endpoint, timing: Timing) {
        for id in endpoint.rulesets() {
            *self.rulesets.entry(id).or_default() += 1;
        }
        let old = self.take(&name);
        let is_same = |old: &LocalPod| old.endpoint.ips.iter().any(|ip| endpoint.ips.contains(ip));
        let binding = old.filter(is_same).and_then(|old| old.binding);
        self.known.insert(name, LocalPod { endpoint, timing, binding });
    }

    /// A pod is gone.
    pub fn remove(&mut self, name: &ObjectName) {
        self.take(name);
    }

    fn take(&mut self, name: &ObjectName) -> Option<LocalPod> {
        let pod = self.known.remove(name)?;
        for id in pod.endpoint.rulesets() {
            if let Entry::Occupied(mut count) = self.rulesets.entry(id) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        Some(pod)
    }

    /// Looks for the interface of a pod. Where the way to it is not known just now, it is the one that
    /// an earlier agent has written as the pod's, as long as that exists.
    ///
    /// Once the way has led to an interface, that stays the pod's until it is gone, and no other pod
    /// gets it: on a bridge, a pod can pretend that another's address is behind its own interface.
    pub fn bind(
        &mut self,
        name: &ObjectName,
        interfaces: &impl Interfaces,
        real: &BTreeMap<IfIndex, EndpointRecord>,
    ) {
        let Some(pod) = self.known.get(name) else { return };
        let present = pod.endpoint.ips.iter().find_map(|ip| interfaces.behind(*ip));
        let present = present.filter(|index| {
            let written = real.get(index);
            !self.is_anothers(name, *index, interfaces)
                && !written
                    .is_some_and(|record| self.is_of_another(name, *index, record, interfaces))
        });
        let new = |index: IfIndex, evidence| {
            let name = interfaces.name(index)?.to_owned();
            Some(Binding { index, name, evidence })
        };
        let old = pod.binding.clone().filter(|old| old.exists(interfaces));
        let binding = match (present, old) {
            (_, Some(old)) if old.evidence == Evidence::Present => Some(old),
            (Some(index), _) => new(index, Evidence::Present),
            (None, Some(old)) => Some(old),
            (None, None) if pod.binding.is_some() => None,
            (None, None) => {
                let is_own =
                    |record: &EndpointRecord| pod.endpoint.ips.iter().any(|ip| record.has(*ip));
                let written = real.iter().find(|(_, record)| is_own(record));
                written.and_then(|(index, _)| new(*index, Evidence::Past))
            }
        };
        if let Some(pod) = self.known.get_mut(name) {
            pod.binding = binding;
        }
    }

    /// The way to another pod has led to this interface.
    fn is_anothers(&self, name: &ObjectName, index: IfIndex, interfaces: &impl Interfaces) -> bool {
        let others = self.known.iter().filter(|(other, _)| *other != name);
        let mut bindings = others.filter_map(|(_, pod)| pod.binding.as_ref());
        bindings.any(|binding| {
            binding.index == index
                && binding.evidence == Evidence::Present
                && binding.exists(interfaces)
        })
    }

    /// An earlier agent has written the interface as another pod's, and no way leads that one elsewhere.
    fn is_of_another(
        &self,
        name: &ObjectName,
        index: IfIndex,
        written: &EndpointRecord,
        interfaces: &impl Interfaces,
    ) -> bool {
        let others = self.known.iter().filter(|(other, _)| *other != name);
        let mut ips = others.flat_map(|(_, pod)| &pod.endpoint.ips);
        let is_there = |ip: IpAddr| interfaces.behind(ip).is_none_or(|behind| behind == index);
        ips.any(|ip| written.has(*ip) && is_there(*ip))
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

    /// The rulesets that its pods should have, each once.
    pub fn rulesets(&self) -> impl Iterator<Item = RulesetId> {
        self.rulesets.keys().copied()
    }

    /// Pods of which no interface is known, with what they should have.
    pub fn unbound(&self) -> impl Iterator<Item = &ObjectName> {
        self.known.iter().filter(|(_, pod)| pod.binding.is_none()).map(|(name, _)| name)
    }

    /// An address of each pod to which no way has led yet.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Ways to addresses, and interfaces.
    struct Bridge {
        ways: BTreeMap<IpAddr, IfIndex>,
        names: BTreeMap<IfIndex, &'static str>,
    }

    impl Interfaces for Bridge {
        fn behind(&self, ip: IpAddr) -> Option<IfIndex> {
            self.ways.get(&ip).copied()
        }
        fn name(&self, index: IfIndex) -> Option<&str> {
            self.names.get(&index).copied()
        }
    }

    const VICTIM: IfIndex = IfIndex(7);
    const THIEF: IfIndex = IfIndex(8);

    fn ip(last: u8) -> IpAddr {
        [10, 244, 1, last].into()
    }

    fn endpoint(last: u8) -> Endpoint {
        Endpoint {
            ips: [ip(last)].into(),
            egress: RulesetId(u32::from(last)),
            ingress: RulesetId::OPEN,
            hairpin_egress: RulesetId::OPEN,
            hairpin_ingress: RulesetId::OPEN,
        }
    }

    fn bridge() -> Bridge {
        Bridge {
            ways: [(ip(7), VICTIM), (ip(8), THIEF)].into(),
            names: [(VICTIM, "a"), (THIEF, "b")].into(),
        }
    }

    /// The name of the first sorts before that of the other, and the other way round.
    fn pairs() -> [[ObjectName; 2]; 2] {
        let name = |name| ObjectName::namespaced("shop", name);
        [[name("a"), name("b")], [name("b"), name("a")]]
    }

    fn pods([victim, thief]: &[ObjectName; 2]) -> Pods {
        let mut pods = Pods::default();
        pods.put(victim.clone(), endpoint(7), Timing::Late);
        pods.put(thief.clone(), endpoint(8), Timing::Late);
        pods
    }

    fn owners(pods: &Pods) -> Vec<(IfIndex, &ObjectName)> {
        pods.records().into_iter().map(|(index, (name, ..))| (index, name)).collect()
    }

    #[test]
    fn an_address_that_seems_to_move_to_another_pods_interface_does_not() {
        for names in pairs() {
            let (mut pods, mut bridge) = (pods(&names), bridge());
            pods.bind_all(&bridge, &BTreeMap::new());
            bridge.ways.insert(ip(7), THIEF);
            pods.bind_all(&bridge, &BTreeMap::new());
            assert_eq!(owners(&pods), [(VICTIM, &names[0]), (THIEF, &names[1])]);
            // Nor when its own interface is gone.
            bridge.names.remove(&VICTIM);
            pods.bind_all(&bridge, &BTreeMap::new());
            assert_eq!(owners(&pods), [(THIEF, &names[1])]);
        }
    }

    #[test]
    fn what_an_earlier_agent_has_written_is_not_given_to_who_claims_it() {
        for names in pairs() {
            let (mut pods, mut bridge) = (pods(&names), bridge());
            bridge.ways.insert(ip(7), THIEF);
            let written = [(VICTIM, record(&endpoint(7))), (THIEF, record(&endpoint(8)))].into();
            pods.bind_all(&bridge, &written);
            assert_eq!(owners(&pods), [(VICTIM, &names[0]), (THIEF, &names[1])]);
        }
    }

    #[test]
    fn a_pod_whose_interface_is_replaced_has_the_new_one() {
        let names = &pairs()[0];
        let (mut pods, mut bridge) = (pods(names), bridge());
        pods.bind_all(&bridge, &BTreeMap::new());
        let new = IfIndex(9);
        bridge.names.remove(&VICTIM);
        bridge.names.insert(new, "c");
        bridge.ways.insert(ip(7), new);
        pods.bind_all(&bridge, &BTreeMap::new());
        assert_eq!(owners(&pods), [(THIEF, &names[1]), (new, &names[0])]);
    }
}
