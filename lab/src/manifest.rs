// SPDX-License-Identifier: Apache-2.0
//! Kubernetes YAML for tests: Services and EndpointSlices, written atomically into a directory.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::topology::{Family, Pod};

/// One port of a Service.
#[derive(Clone, Debug)]
pub struct Port {
    /// Name, equal in Service and slices.
    pub name: &'static str,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// Port of the Service.
    pub port: u16,
    /// Port of the endpoints.
    pub target: u16,
}

/// A Service with any number of addresses and ports.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ClusterIPs, the primary first.
    pub cluster_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its type, if not `ClusterIP`.
    pub kind: &'static str,
    /// Node ports, by the names of its ports.
    pub node_ports: Vec<(&'static str, u16)>,
    /// Further lines of `spec`, already indented by two.
    pub extra_spec: String,
}

impl Service {
    /// Service `number` of the tests: 10.96.0.NUMBER and fd00:10:96::NUMBER.
    pub fn dual_stack(name: &str, number: u8, ports: &[Port]) -> Service {
        let v4 = IpAddr::from([10, 96, 0, number]);
        let v6 = IpAddr::from([0xfd00, 0x10, 0x96, 0, 0, 0, 0, u16::from(number)]);
        Service {
            namespace: "shop".into(),
            name: name.into(),
            cluster_ips: vec![v4, v6],
            ports: ports.to_vec(),
            kind: "ClusterIP",
            node_ports: Vec::new(),
            extra_spec: String::new(),
        }
    }

    /// Its ClusterIP of one family.
    pub fn ip(&self, family: Family) -> IpAddr {
        let of_family = |ip: &&IpAddr| ip.is_ipv4() == (family == Family::V4);
        *self.cluster_ips.iter().find(of_family).expect("an address of the family")
    }

    /// The object as YAML.
    pub fn yaml(&self) -> String {
        let Service { namespace, name, cluster_ips, ports, kind, node_ports, extra_spec } = self;
        let families: Vec<&str> =
            cluster_ips.iter().map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
        let ips: Vec<String> = cluster_ips.iter().map(|ip| format!("\"{ip}\"")).collect();
        let policy = if ips.len() > 1 { "PreferDualStack" } else { "SingleStack" };
        let mut out = format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             spec:\n  type: {kind}\n  clusterIP: {}\n  clusterIPs: [{}]\n  \
             ipFamilyPolicy: {policy}\n  ipFamilies: [{}]\n  ports:\n",
            ips[0],
            ips.join(", "),
            families.join(", ")
        );
        for Port { name, protocol, port, target } in ports {
            let _ = write!(
                out,
                "    - name: {name}\n      protocol: {protocol}\n      port: {port}\n      \
                 targetPort: {target}\n"
            );
            if let Some((_, number)) = node_ports.iter().find(|(port, _)| port == name) {
                let _ = writeln!(out, "      nodePort: {number}");
            }
        }
        out + extra_spec
    }
}

/// Conditions of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Takes new connections.
    Ready,
    /// Shutting down, still answers.
    ServingTerminating,
    /// Shutting down, no longer answers.
    Terminating,
    /// Not ready.
    NotReady,
    /// Not ready, and published all the same (`publishNotReadyAddresses`).
    PublishedNotReady,
    /// Shutting down, no longer answers, and published all the same.
    PublishedTerminating,
}

/// One pod as an endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its addresses of both families, IPv4 first.
    pub ips: [IpAddr; 2],
    /// Name of its node.
    pub node: String,
    /// Its conditions.
    pub condition: Condition,
}

impl Endpoint {
    /// A pod that takes new connections.
    pub fn ready(pod: &Pod) -> Endpoint {
        Endpoint::with(pod, Condition::Ready)
    }

    /// A pod in a given condition.
    pub fn with(pod: &Pod, condition: Condition) -> Endpoint {
        Endpoint { ips: [pod.v4.into(), pod.v6.into()], node: pod.node.clone(), condition }
    }

    fn yaml(&self, family: Family) -> String {
        let ip = match family {
            Family::V4 => self.ips[0],
            Family::V6 => self.ips[1],
        };
        let (ready, serving, terminating) = match self.condition {
            Condition::Ready => (true, true, false),
            Condition::ServingTerminating => (false, true, true),
            Condition::Terminating => (false, false, true),
            Condition::NotReady => (false, false, false),
            Condition::PublishedNotReady => (true, false, false),
            Condition::PublishedTerminating => (true, false, true),
        };
        format!(
            "  - addresses: [\"{ip}\"]\n    conditions:\n      ready: {ready}\n      \
             serving: {serving}\n      terminating: {terminating}\n    nodeName: {}\n",
            self.node
        )
    }
}

/// One EndpointSlice of `service` for one family, as YAML.
pub fn slice_yaml(service: &Service, endpoints: &[Endpoint], family: Family) -> String {
    let Service { namespace, name, ports, .. } = service;
    let (kind, suffix) = match family {
        Family::V4 => ("IPv4", "v4"),
        Family::V6 => ("IPv6", "v6"),
    };
    let mut out = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  \
         name: {name}-{suffix}\n  namespace: {namespace}\n  labels:\n    \
         kubernetes.io/service-name: {name}\naddressType: {kind}\nports:\n"
    );
    for Port { name, protocol, target, .. } in ports {
        let _ = write!(out, "  - name: {name}\n    protocol: {protocol}\n    port: {target}\n");
    }
    if endpoints.is_empty() {
        return out + "endpoints: []\n";
    }
    out.push_str("endpoints:\n");
    out.extend(endpoints.iter().map(|endpoint| endpoint.yaml(family)));
    out
}

/// What follows the files of a directory.
pub trait Mirror: Send + Sync {
    /// A file has this text now.
    fn written(&self, file: &str, text: &str) -> Result<()>;
    /// A file is gone.
    fn removed(&self, file: &str) -> Result<()>;
}

/// A directory that an agent watches.
pub struct ManifestDir {
    path: PathBuf,
    mirror: OnceLock<Box<dyn Mirror>>,
}

impl ManifestDir {
    /// Makes the directory if it is missing.
    pub fn new(path: impl Into<PathBuf>) -> Result<ManifestDir> {
        let path = path.into();
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(ManifestDir { path, mirror: OnceLock::new() })
    }

    /// From now on another place has the objects of this directory, those that are there included.
    pub fn mirror(&self, mirror: impl Mirror + 'static) -> Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            mirror.written(&name, &std::fs::read_to_string(entry.path())?)?;
        }
        ensure!(self.mirror.set(Box::new(mirror)).is_ok(), "the directory has a mirror");
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one file whole: a reader sees the old text or the new one.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let part = self.path.join(format!(".{file}.part"));
        std::fs::write(&part, text).with_context(|| part.display().to_string())?;
        std::fs::rename(&part, self.path.join(file)).with_context(|| file.to_owned())?;
        self.mirror.get().map_or(Ok(()), |mirror| mirror.written(file, text))
    }

    /// Removes one file.
    pub fn remove(&self, file: &str) -> Result<()> {
        std::fs::remove_file(self.path.join(file)).with_context(|| file.to_owned())?;
        self.mirror.get().map_or(Ok(()), |mirror| mirror.removed(file))
    }

    /// Writes a Service to `NAME-service.yaml`.
    pub fn service(&self, service: &Service) -> Result<()> {
        self.write(&format!("{}-service.yaml", service.name), &service.yaml())
    }

    /// Writes the slices of a Service, one for each family, to `NAME-endpoints.yaml`.
    pub fn endpoints(&self, service: &Service, endpoints: &[Endpoint]) -> Result<()> {
        let slices = Family::BOTH.map(|family| slice_yaml(service, endpoints, family));
        self.write(&format!("{}-endpoints.yaml", service.name), &slices.join("---\n"))
    }

    /// Removes both files of a Service.
    pub fn delete(&self, service: &Service) -> Result<()> {
        self.remove(&format!("{}-service.yaml", service.name))?;
        self.remove(&format!("{}-endpoints.yaml", service.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_endpoints_is_still_valid_yaml() {
        let port = Port { name: "http", protocol: "TCP", port: 80, target: 8080 };
        let service = Service::dual_stack("web", 10, &[port]);
        let slice = slice_yaml(&service, &[], Family::V6);
        assert!(slice.contains("addressType: IPv6"), "{slice}");
        assert!(slice.ends_with("endpoints: []\n"), "{slice}");
        assert!(service.yaml().contains("clusterIP: \"10.96.0.10\""), "{}", service.yaml());
    }
}
