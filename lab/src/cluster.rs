// SPDX-License-Identifier: Apache-2.0
//! A large cluster as manifests: services with their slices, written in several layouts.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::Result;

use crate::kube_proxy::ServiceRules;
use crate::manifest::ManifestDir;

const PORT: u16 = 80;
const TARGET_PORT: u16 = 8080;
const NODES: u32 = 100;

/// Services numbered from 0, each with as many endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// Number of services.
    pub services: u32,
    /// Number of endpoints of each.
    pub endpoints: u32,
}

/// How manifests are spread over files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A YAML file for each object.
    YamlFiles,
    /// A JSON file for each object.
    JsonFiles,
    /// One YAML file with all objects.
    OneYamlFile,
    /// One JSON file with all objects, as a List.
    OneJsonFile,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 4] =
        [Layout::YamlFiles, Layout::JsonFiles, Layout::OneYamlFile, Layout::OneJsonFile];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Layout::YamlFiles => "YAML, a file per object",
            Layout::JsonFiles => "JSON, a file per object",
            Layout::OneYamlFile => "YAML, one file",
            Layout::OneJsonFile => "JSON, one file",
        }
    }
}

impl Cluster {
    /// Address and port that clients of a service dial.
    pub fn frontend(&self, service: u32) -> (Ipv4Addr, u16) {
        (address(10, 96, service + 1), PORT)
    }

    /// A service as rules of kube-proxy.
    pub fn rules(&self, service: u32) -> ServiceRules {
        let numbers = service * self.endpoints..(service + 1) * self.endpoints;
        ServiceRules {
            name: format!("shop/web-{service}:http"),
            protocol: "tcp",
            frontend: self.frontend(service).into(),
            endpoints: numbers
                .map(|number| (address(10, 128, number), TARGET_PORT).into())
                .collect(),
            node_port: None,
        }
    }

    /// Writes everything.
    pub fn write(&self, dir: &ManifestDir, layout: Layout) -> Result<()> {
        if layout == Layout::OneYamlFile {
            let mut text = String::new();
            for service in 0..self.services {
                let _ = writeln!(text, "{}---", service_yaml(*self, service));
                let _ = writeln!(text, "{}---", self.slice_yaml(service, 0));
            }
            return dir.write("cluster.yaml", &text);
        }
        if layout == Layout::OneJsonFile {
            let all = (0..self.services)
                .flat_map(|service| [service_json(*self, service), self.slice_json(service, 0)]);
            let all: Vec<String> = all.collect();
            let items = all.join(",");
            let list = format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{items}]}}");
            return dir.write("cluster.json", &list);
        }
        for service in 0..self.services {
            let (extension, texts) = match layout {
                Layout::JsonFiles => {
                    ("json", [service_json(*self, service), self.slice_json(service, 0)])
                }
                Layout::YamlFiles | Layout::OneYamlFile | Layout::OneJsonFile => {
                    ("yaml", [service_yaml(*self, service), self.slice_yaml(service, 0)])
                }
            };
            dir.write(&format!("service-{service}.{extension}"), &texts[0])?;
            dir.write(&format!("slice-{service}.{extension}"), &texts[1])?;
        }
        Ok(())
    }

    /// The YAML texts of all objects, without further order.
    pub fn texts(self) -> impl Iterator<Item = String> {
        (0..self.services)
            .flat_map(move |service| [service_yaml(self, service), self.slice_yaml(service, 0)])
    }

    /// Writes the slice of a service; an odd version has another address for its first endpoint.
    pub fn write_slice(&self, dir: &ManifestDir, service: u32, version: u32) -> Result<()> {
        dir.write(&format!("slice-{service}.yaml"), &self.slice_yaml(service, version))
    }

    /// The same as JSON.
    pub fn write_slice_json(&self, dir: &ManifestDir, service: u32, version: u32) -> Result<()> {
        dir.write(&format!("slice-{service}.json"), &self.slice_json(service, version))
    }

    /// The slice of a service as [`Cluster::write_slice`] writes it.
    pub fn slice_yaml(&self, service: u32, version: u32) -> String {
        let mut text = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  \
             name: web-{service}-x7k2p\n  namespace: shop\n  labels:\n    \
             kubernetes.io/service-name: web-{service}\naddressType: IPv4\nports:\n- name: http\n  \
             port: {TARGET_PORT}\n  protocol: TCP\nendpoints:\n"
        );
        for endpoint in 0..self.endpoints {
            let number = service * self.endpoints + endpoint;
            let _ = write!(
                text,
                "- addresses:\n  - {ip}\n  conditions:\n    ready: true\n    serving: true\n    \
                 terminating: false\n  nodeName: node-{node}\n  targetRef:\n    kind: Pod\n    \
                 name: web-{service}-5d8f9c7b6-{endpoint:05}\n    namespace: shop\n    \
                 uid: 7e0b1c52-93ab-4f6e-8d17-{number:012}\n  zone: zone-{zone}\n",
                ip = address(10, 128, number + moved(endpoint, version)),
                node = 1 + number % NODES,
                zone = number % 3,
            );
        }
        text
    }

    fn slice_json(&self, service: u32, version: u32) -> String {
        let endpoint = |endpoint: u32| {
            let number = service * self.endpoints + endpoint;
            serde_json::json!({
                "addresses": [address(10, 128, number + moved(endpoint, version))],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node-{}", 1 + number % NODES),
                "targetRef": {
                    "kind": "Pod",
                    "name": format!("web-{service}-5d8f9c7b6-{endpoint:05}"),
                    "namespace": "shop",
                    "uid": format!("7e0b1c52-93ab-4f6e-8d17-{number:012}"),
                },
                "zone": format!("zone-{}", number % 3),
            })
        };
        let slice = serde_json::json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("web-{service}-x7k2p"),
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": format!("web-{service}")},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": TARGET_PORT, "protocol": "TCP"}],
            "endpoints": (0..self.endpoints).map(endpoint).collect::<Vec<_>>(),
        });
        slice.to_string()
    }
}

/// How far an endpoint is from its first address.
fn moved(endpoint: u32, version: u32) -> u32 {
    if endpoint == 0 && version % 2 == 1 { 0x40_0000 } else { 0 }
}

fn service_yaml(cluster: Cluster, service: u32) -> String {
    let (ip, port) = cluster.frontend(service);
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web-{service}\n  namespace: shop\nspec:\n  \
         type: ClusterIP\n  clusterIP: {ip}\n  clusterIPs: [{ip}]\n  ipFamilies: [IPv4]\n  ports:\n  \
         - name: http\n    port: {port}\n    protocol: TCP\n    targetPort: {TARGET_PORT}\n"
    )
}

fn service_json(cluster: Cluster, service: u32) -> String {
    let (ip, port) = cluster.frontend(service);
    let object = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": format!("web-{service}"), "namespace": "shop"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ipFamilies": ["IPv4"],
            "ports": [{
                "name": "http", "port": port, "protocol": "TCP", "targetPort": TARGET_PORT,
            }],
        },
    });
    object.to_string()
}

fn address(a: u8, b: u8, number: u32) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(a) << 24 | u32::from(b) << 16) + number)
}
