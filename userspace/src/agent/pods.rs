// SPDX-License-Identifier: Apache-2.0
//! Names of this node's pods by address, for people: the source of a flow is always one of them.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use crate::model::{
    cluster::{Pod, PodPhase},
    event::Event,
    name::{Kind, ObjectName},
    object::Object,
};

/// Pods of this node that have an address of their own.
#[derive(Debug)]
pub struct Pods {
    node: String,
    by_name: HashMap<ObjectName, Arc<Pod>>,
}

impl Pods {
    /// No pods yet of a node.
    pub fn new(node: &str) -> Self {
        Self { node: node.to_owned(), by_name: HashMap::new() }
    }

    /// Takes in what the source tells of pods.
    pub fn note(&mut self, batch: &[Event]) {
        for event in batch {
            match event {
                Event::Apply(Object::Pod(pod)) if self.is_ours(pod) => {
                    self.by_name.insert(pod.name.clone(), pod.clone());
                }
                Event::Apply(Object::Pod(pod)) => {
                    self.by_name.remove(&pod.name);
                }
                Event::Delete(object) if object.kind == Kind::Pod => {
                    self.by_name.remove(&object.name);
                }
                _ => {}
            }
        }
    }

    /// Every address with the name of its pod, `namespace/name`.
    pub fn names(&self) -> impl Iterator<Item = (IpAddr, String)> {
        let addresses = |pod: &Arc<Pod>| {
            let name = pod.name.to_string();
            pod.ips.iter().map(move |ip| (*ip, name.clone())).collect::<Vec<_>>()
        };
        self.by_name.values().flat_map(addresses)
    }

    /// The address of a pod that has ended may be another's by now.
    fn is_ours(&self, pod: &Pod) -> bool {
        let ended = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
        pod.node.as_deref() == Some(self.node.as_str()) && !pod.host_network && !ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::ObjectRef;

    fn pod(name: &str, node: &str, phase: PodPhase) -> Event {
        let name = ObjectName::namespaced("shop", name);
        let ips = Box::new(["10.0.0.1".parse().unwrap()]);
        let node = Some(node.into());
        let pod = Pod {
            name,
            ips,
            node,
            host_network: false,
            phase,
            labels: Default::default(),
            ports: Default::default(),
            created: None,
            is_terminating: false,
        };
        Event::Apply(Object::Pod(Arc::new(pod)))
    }

    fn names(pods: &Pods) -> Vec<String> {
        pods.names().map(|(ip, name)| format!("{ip} {name}")).collect()
    }

    #[test]
    fn pods_of_this_node_have_names_until_they_end() {
        let mut pods = Pods::new("n1");
        pods.note(&[pod("a", "n1", PodPhase::Running), pod("b", "n2", PodPhase::Running)]);
        assert_eq!(names(&pods), ["10.0.0.1 shop/a"]);
        pods.note(&[pod("a", "n1", PodPhase::Succeeded), pod("c", "n1", PodPhase::Pending)]);
        assert_eq!(names(&pods), ["10.0.0.1 shop/c"]);
        let name = ObjectName::namespaced("shop", "c");
        pods.note(&[Event::Delete(ObjectRef::new(Kind::Pod, name))]);
        assert_eq!(names(&pods), [""; 0]);
    }
}
