// SPDX-License-Identifier: Apache-2.0
//! Taking objects in: what each change makes it necessary to look at again.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{KnownNode, KnownPod, Planner, ProfileId};
use crate::{
    model::{
        cluster::{Namespace, Node, Pod},
        event::Event,
        name::{Kind, ObjectName, ObjectRef},
        object::Object,
        policy::{ClusterNetworkPolicy, Labels, NetworkPolicy},
    },
    policy::{
        predicate::{Predicate, PredicateId},
        profile::ProfileKey,
    },
};

impl Planner {
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Apply(Object::Pod(pod)) => self.put_pod(pod),
            Event::Apply(Object::Namespace(namespace)) => self.put_namespace(&namespace),
            Event::Apply(Object::Node(node)) => self.put_node(node),
            Event::Apply(Object::NetworkPolicy(policy)) => self.put_network_policy(policy),
            Event::Apply(Object::ClusterNetworkPolicy(policy)) => self.put_cluster_policy(policy),
            Event::Apply(
                Object::Service(_) | Object::EndpointSlice(_) | Object::ServiceCidr(_),
            )
            | Event::Rejected(..) => {}
            Event::Delete(object) => self.delete(&object),
            Event::Synced => self.is_synced = true,
        }
    }

    fn delete(&mut self, object: &ObjectRef) {
        let name = &object.name;
        match object.kind {
            Kind::Pod => self.remove_pod(name),
            Kind::Namespace => {
                self.namespaces.remove(name.name());
                self.relabel(name.name());
            }
            Kind::Node => self.remove_node(name),
            Kind::NetworkPolicy => {
                if let Some(siblings) = self.network_policies.get_mut(name.namespace()) {
                    siblings.remove(name);
                    self.mark_namespace(name.namespace());
                }
            }
            Kind::ClusterNetworkPolicy => {
                if self.cluster_policies.remove(name).is_some() {
                    self.mark_everywhere();
                }
            }
            Kind::Service
            | Kind::EndpointSlice
            | Kind::ServiceCidr
            | Kind::File
            | Kind::Directory
            | Kind::Watch
            | Kind::Other(_) => {}
        }
    }

    /// The labels of a namespace. One that we have not been told of has its name.
    pub(super) fn namespace_labels(&self, name: &str) -> Labels {
        let known = self.namespaces.get(name);
        known.cloned().unwrap_or_else(|| Labels::of_namespace(name, []))
    }

    fn put_pod(&mut self, pod: Arc<Pod>) {
        // Who shares the node's network is the node, and who has ended has given its addresses up.
        if pod.host_network || pod.is_finished() {
            return self.remove_pod(&pod.name);
        }
        if self.pods.get(&pod.name).is_some_and(|known| known.pod == pod) {
            return;
        }
        let name = pod.name.clone();
        let (profile, is_new) = self.profiles.intern(ProfileKey::of(&pod));
        if is_new {
            self.evaluate(profile);
        }
        let is_local = pod.node.as_ref() == Some(&self.options.node);
        // The new profile has its pod before the old one may go: they can be the same.
        if let Some(known) = self.profiles.get_mut(profile) {
            known.pods.insert(name.clone());
        }
        let old = self.pods.insert(name.clone(), KnownPod { pod: pod.clone(), profile });
        if let Some(old) = old {
            self.unclaim(&old.pod);
            if old.profile != profile {
                self.leave(&name, old.profile);
            } else if !is_local {
                self.leave_node(&name, profile);
            }
        }
        if is_local && let Some(known) = self.profiles.get_mut(profile) {
            known.local.insert(name.clone());
            if known.rulesets.is_none() {
                self.dirty.profiles.insert(profile);
            }
        }
        for ip in &pod.ips {
            self.addresses.entry(*ip).or_default().pods.insert(name.clone());
            self.mark_address(*ip);
        }
        self.dirty.endpoints.insert(name);
    }

    fn remove_pod(&mut self, name: &ObjectName) {
        let Some(old) = self.pods.remove(name) else { return };
        self.unclaim(&old.pod);
        self.leave(name, old.profile);
        self.dirty.endpoints.insert(name.clone());
    }

    fn unclaim(&mut self, pod: &Pod) {
        for ip in &pod.ips {
            self.mark_address(*ip);
            if let Some(address) = self.addresses.get_mut(ip) {
                address.pods.remove(&pod.name);
            }
        }
    }

    /// The address may be somebody else's now.
    fn mark_address(&mut self, ip: IpAddr) {
        self.dirty.addresses.insert(ip);
        let claims = self.addresses.get(&ip).into_iter().flat_map(|address| &address.pods);
        self.dirty.endpoints.extend(claims.cloned());
    }

    fn leave(&mut self, name: &ObjectName, profile: ProfileId) {
        self.leave_node(name, profile);
        let Some(known) = self.profiles.get_mut(profile) else { return };
        known.pods.remove(name);
        if known.pods.is_empty() {
            let known = self.profiles.remove(profile);
            self.dirty.profiles.remove(&profile);
            if let Some(known) = known {
                let of = known.truth.iter().copied().map(Some).chain([None]);
                self.resolutions.remove(&known.key.ports, of);
            }
        }
    }

    fn leave_node(&mut self, name: &ObjectName, profile: ProfileId) {
        let Some(known) = self.profiles.get_mut(profile) else { return };
        known.local.remove(name);
        if known.local.is_empty() {
            let applied = known.rulesets.take();
            self.give_up(applied);
        }
    }

    fn put_namespace(&mut self, namespace: &Namespace) {
        let name = namespace.name.name();
        if self.namespace_labels(name) == namespace.labels {
            return;
        }
        self.namespaces.insert(name.into(), namespace.labels.clone());
        self.relabel(name);
    }

    fn relabel(&mut self, namespace: &str) {
        let profiles: Vec<_> = self.profiles.of_namespace(namespace).collect();
        for profile in profiles {
            self.evaluate(profile);
        }
        self.mark_namespace(namespace);
    }

    /// Asks all predicates about a profile that is new, or whose namespace has other labels.
    fn evaluate(&mut self, id: ProfileId) {
        let Some(key) = self.profiles.get(id).map(|profile| profile.key.clone()) else { return };
        let labels = self.namespace_labels(&key.namespace);
        let holds = |predicate: &Predicate| match predicate {
            Predicate::Pods(namespaces, pods) => {
                namespaces.contains(&key.namespace, &labels) && pods.matches(&key.labels)
            }
            Predicate::Nodes(_) | Predicate::Block(_) => false,
        };
        let known = self.predicates.iter().filter(|(_, predicate)| holds(predicate));
        let truth: Vec<PredicateId> = known.map(|(id, _)| id).collect();
        let Some(profile) = self.profiles.get_mut(id) else { return };
        let is_new = profile.pods.is_empty();
        let old = std::mem::replace(&mut profile.truth, truth.clone());
        if is_new {
            self.resolutions.add(&key.ports, truth.into_iter().map(Some).chain([None]));
        } else if old != truth {
            self.resolutions.remove(&key.ports, old.into_iter().map(Some));
            self.resolutions.add(&key.ports, truth.into_iter().map(Some));
            self.mark_addresses_of(id);
        }
    }

    /// The addresses of a profile's pods have another class, maybe.
    pub(super) fn mark_addresses_of(&mut self, profile: ProfileId) {
        let Some(profile) = self.profiles.get(profile) else { return };
        let pods = profile.pods.iter().filter_map(|name| self.pods.get(name));
        self.dirty.addresses.extend(pods.flat_map(|known| known.pod.ips.iter().copied()));
    }

    fn put_node(&mut self, node: Arc<Node>) {
        let labels = &node.labels;
        let holds = |predicate: &Predicate| match predicate {
            Predicate::Nodes(selector) => selector.matches(labels),
            Predicate::Pods(..) | Predicate::Block(_) => false,
        };
        let known = self.predicates.iter().filter(|(_, predicate)| holds(predicate));
        let truth = known.map(|(id, _)| id).collect();
        let name = node.name.clone();
        let old = self.nodes.insert(name.clone(), KnownNode { node: node.clone(), truth });
        let old_cidrs = old.as_ref().map(|old| &*old.node.pod_cidrs).unwrap_or_default();
        self.dirty.ranges |= old_cidrs != &*node.pod_cidrs;
        if let Some(old) = old {
            self.unclaim_node(&old.node);
        }
        for ip in node.ips() {
            self.addresses.entry(ip).or_default().nodes.insert(name.clone());
            self.mark_address(ip);
        }
    }

    fn remove_node(&mut self, name: &ObjectName) {
        let Some(old) = self.nodes.remove(name) else { return };
        self.dirty.ranges |= !old.node.pod_cidrs.is_empty();
        self.unclaim_node(&old.node);
    }

    fn unclaim_node(&mut self, node: &Node) {
        for ip in node.ips() {
            self.mark_address(ip);
            if let Some(address) = self.addresses.get_mut(&ip) {
                address.nodes.remove(&node.name);
            }
        }
    }

    fn put_network_policy(&mut self, policy: Arc<NetworkPolicy>) {
        let namespace: Arc<str> = policy.name.namespace().into();
        let siblings: &mut BTreeMap<_, _> =
            self.network_policies.entry(namespace.clone()).or_default();
        siblings.insert(policy.name.clone(), policy);
        self.mark_namespace(&namespace);
    }

    fn put_cluster_policy(&mut self, policy: Arc<ClusterNetworkPolicy>) {
        self.cluster_policies.insert(policy.name.clone(), policy);
        self.mark_everywhere();
    }

    /// Something else may apply to this node's pods of a namespace.
    fn mark_namespace(&mut self, namespace: &str) {
        let profiles = self.profiles.of_namespace(namespace);
        let is_local = |id: &ProfileId| {
            self.profiles.get(*id).is_some_and(|profile| !profile.local.is_empty())
        };
        self.dirty.profiles.extend(profiles.filter(is_local));
    }

    fn mark_everywhere(&mut self) {
        let local = self.profiles.iter().filter(|(_, profile)| !profile.local.is_empty());
        self.dirty.profiles.extend(local.map(|(id, _)| id));
    }
}
