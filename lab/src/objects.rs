// SPDX-License-Identifier: Apache-2.0
//! What the API of a world's cluster says, shared by all of its agents: nodes, namespaces, pods,
//! and whatever a test adds. Every agent of the world reads all of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::Result;

use crate::manifest::ManifestDir;

/// The namespace of pods that do not say otherwise; the services of the tests are in it, too.
pub const NAMESPACE: &str = "shop";

/// The objects of one world, each in a file of its own.
#[derive(Default)]
pub struct Objects {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, String>,
    readers: Vec<Weak<ManifestDir>>,
}

impl Objects {
    /// Writes all files to the directory, now and when they change.
    pub fn show(&self, directory: &Arc<ManifestDir>) -> Result<()> {
        let mut inner = self.lock();
        inner.readers.push(Arc::downgrade(directory));
        inner.files.iter().try_for_each(|(file, text)| directory.write(file, text))
    }

    /// Writes a file for every agent.
    pub fn put(&self, file: &str, text: &str) -> Result<()> {
        let mut inner = self.lock();
        inner.files.insert(file.to_owned(), text.to_owned());
        inner.readers().iter().try_for_each(|directory| directory.write(file, text))
    }

    /// Removes a file from every agent.
    pub fn remove(&self, file: &str) -> Result<()> {
        let mut inner = self.lock();
        inner.files.remove(file);
        inner.readers().iter().try_for_each(|directory| directory.remove(file))
    }

    /// Writes a pod, and its namespace unless a test has done so.
    pub fn put_pod(&self, pod: &PodObject) -> Result<()> {
        let namespace = namespace_file(&pod.namespace);
        if !self.lock().files.contains_key(&namespace) {
            self.put_namespace(&pod.namespace, &[])?;
        }
        self.put(&pod.file(), &pod.yaml())
    }

    /// Writes a namespace with labels, in place of what it had.
    pub fn put_namespace(&self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        // The API server adds this one by itself.
        let own = ("kubernetes.io/metadata.name", name);
        let labels = label_lines(labels.iter().copied().chain([own]));
        let text = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n{labels}");
        self.put(&namespace_file(name), &text)
    }

    /// The name, or one that no pod of the namespace has.
    pub(crate) fn free_name(&self, namespace: &str, name: &str, node: &str) -> String {
        let is_taken = self.lock().files.contains_key(&pod_file(namespace, name));
        if is_taken { format!("{name}-{node}") } else { name.to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The directories of agents that are still there.
    fn readers(&mut self) -> Vec<Arc<ManifestDir>> {
        self.readers.retain(|reader| reader.strong_count() > 0);
        self.readers.iter().filter_map(Weak::upgrade).collect()
    }
}

/// A port that a container names.
#[derive(Clone, Copy, Debug)]
pub struct ContainerPort {
    /// Its name.
    pub name: &'static str,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// Its number.
    pub number: u16,
}

/// A Pod as the API has it.
#[derive(Clone, Debug)]
pub struct PodObject {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The node it runs on.
    pub node: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// `Running`, unless a test says otherwise.
    pub phase: &'static str,
    /// Whether its network is its node's.
    pub host_network: bool,
    /// The ports that its container names.
    pub ports: Vec<ContainerPort>,
    /// Seconds of its creation within one minute; of two owners of an address the younger has it.
    pub second: u8,
}

impl PodObject {
    /// A running pod without labels.
    pub fn new(namespace: &str, name: &str, node: &str, ips: &[IpAddr]) -> PodObject {
        PodObject {
            namespace: namespace.into(),
            name: name.into(),
            labels: BTreeMap::new(),
            node: node.into(),
            ips: ips.to_vec(),
            phase: "Running",
            host_network: false,
            ports: Vec::new(),
            second: 0,
        }
    }

    /// The file it is in.
    pub fn file(&self) -> String {
        pod_file(&self.namespace, &self.name)
    }

    /// The object as YAML.
    pub fn yaml(&self) -> String {
        let PodObject { namespace, name, node, phase, host_network, second, .. } = self;
        let labels = self.labels.iter().map(|(key, value)| (&**key, &**value));
        let ips: Vec<String> = self.ips.iter().map(|ip| format!("{{ip: \"{ip}\"}}")).collect();
        let mut text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  \
             uid: {namespace}-{name}\n  creationTimestamp: \"2026-01-01T00:00:{second:02}Z\"\n\
             {}spec:\n  nodeName: {node}\n  hostNetwork: {host_network}\n  containers:\n  \
             - name: main\n    image: none\n",
            label_lines(labels)
        );
        if !self.ports.is_empty() {
            text.push_str("    ports:\n");
        }
        for ContainerPort { name, protocol, number } in &self.ports {
            let _ = writeln!(
                text,
                "    - {{name: {name}, protocol: {protocol}, containerPort: {number}}}"
            );
        }
        let first = self.ips.first().map(|ip| format!("  podIP: \"{ip}\"\n")).unwrap_or_default();
        let _ = write!(text, "status:\n  phase: {phase}\n{first}  podIPs: [{}]\n", ips.join(", "));
        text
    }
}

/// A Node as YAML, with the ranges of its pods' addresses.
pub fn node_yaml(name: &str, labels: &[(&str, &str)], ips: &[IpAddr], ranges: &[String]) -> String {
    let addresses = ips.iter().map(|ip| format!("{{type: InternalIP, address: \"{ip}\"}}"));
    let ranges = ranges.iter().map(|range| format!("\"{range}\""));
    format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n{}spec:\n  podCIDRs: [{}]\n\
         status:\n  addresses: [{}]\n",
        label_lines(labels.iter().copied()),
        ranges.collect::<Vec<_>>().join(", "),
        addresses.collect::<Vec<_>>().join(", "),
    )
}

fn label_lines<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let lines: String = labels.map(|(key, value)| format!("    {key}: \"{value}\"\n")).collect();
    if lines.is_empty() { lines } else { format!("  labels:\n{lines}") }
}

fn pod_file(namespace: &str, name: &str) -> String {
    format!("pod-{namespace}-{name}.yaml")
}

fn namespace_file(name: &str) -> String {
    format!("namespace-{name}.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_of_a_world_sees_what_is_there_and_what_comes() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::default();
        let pod = PodObject::new("shop", "a", "node-1", &[IpAddr::from([10, 244, 1, 10])]);
        objects.put_pod(&pod).unwrap();
        let [first, second] = ["first", "second"]
            .map(|name| Arc::new(ManifestDir::new(folder.path().join(name)).unwrap()));
        objects.show(&first).unwrap();
        objects.show(&second).unwrap();
        let names = |directory: &ManifestDir| {
            let entries = std::fs::read_dir(directory.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&first), ["namespace-shop.yaml", "pod-shop-a.yaml"]);
        drop(second);
        objects.remove(&pod.file()).unwrap();
        assert_eq!(names(&first), ["namespace-shop.yaml"]);
    }

    #[test]
    fn a_second_pod_of_a_name_is_called_after_its_node() {
        let objects = Objects::default();
        assert_eq!(objects.free_name("shop", "client", "node-2"), "client");
        objects.put_pod(&PodObject::new("shop", "client", "node-1", &[])).unwrap();
        assert_eq!(objects.free_name("shop", "client", "node-2"), "client-node-2");
        assert_eq!(objects.free_name("x", "client", "node-2"), "client");
    }
}
