// SPDX-License-Identifier: Apache-2.0
//! A cluster's objects as they are, for the evaluator to walk.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{
        cluster::{Namespace, Node, Pod},
        event::Event,
        name::{Kind, ObjectName},
        object::Object,
        policy::{ClusterNetworkPolicy, Labels, NetworkPolicy},
    },
    policy::Room,
};

/// The name of the node whose tables are looked at.
pub const HERE: &str = "here";

/// No table is ever full.
pub const UNLIMITED: Room =
    Room { ports: usize::MAX, rows: usize::MAX, ranges: usize::MAX, peers: usize::MAX };

/// All objects that exist.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub namespaces: BTreeMap<String, Labels>,
    pub pods: BTreeMap<ObjectName, Arc<Pod>>,
    pub nodes: BTreeMap<ObjectName, Arc<Node>>,
    pub network_policies: BTreeMap<ObjectName, Arc<NetworkPolicy>>,
    pub cluster_policies: BTreeMap<ObjectName, Arc<ClusterNetworkPolicy>>,
}

impl World {
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Apply(Object::Pod(pod)) => {
                self.pods.insert(pod.name.clone(), pod.clone());
            }
            Event::Apply(Object::Namespace(namespace)) => {
                let name = namespace.name.name().to_owned();
                self.namespaces.insert(name, namespace.labels.clone());
            }
            Event::Apply(Object::Node(node)) => {
                self.nodes.insert(node.name.clone(), node.clone());
            }
            Event::Apply(Object::NetworkPolicy(policy)) => {
                self.network_policies.insert(policy.name.clone(), policy.clone());
            }
            Event::Apply(Object::ClusterNetworkPolicy(policy)) => {
                self.cluster_policies.insert(policy.name.clone(), policy.clone());
            }
            Event::Delete(object) => match object.kind {
                Kind::Pod => drop(self.pods.remove(&object.name)),
                Kind::Namespace => drop(self.namespaces.remove(object.name.name())),
                Kind::Node => drop(self.nodes.remove(&object.name)),
                Kind::NetworkPolicy => drop(self.network_policies.remove(&object.name)),
                Kind::ClusterNetworkPolicy => drop(self.cluster_policies.remove(&object.name)),
                _ => {}
            },
            _ => {}
        }
    }

    /// Events that tell a planner all of it.
    pub fn events(&self) -> Vec<Event> {
        let namespaces = self.namespaces.iter().map(|(name, labels)| {
            let name = ObjectName::cluster(name);
            Object::Namespace(Namespace { name, labels: labels.clone() }.into())
        });
        let pods = self.pods.values().cloned().map(Object::Pod);
        let nodes = self.nodes.values().cloned().map(Object::Node);
        let network = self.network_policies.values().cloned().map(Object::NetworkPolicy);
        let cluster = self.cluster_policies.values().cloned().map(Object::ClusterNetworkPolicy);
        let all = cluster.chain(network).chain(nodes).chain(pods).chain(namespaces);
        all.map(Event::Apply).chain([Event::Synced]).collect()
    }

    pub fn namespace(&self, name: &str) -> Labels {
        self.namespaces.get(name).cloned().unwrap_or_else(|| Labels::of_namespace(name, []))
    }
}
