// SPDX-License-Identifier: Apache-2.0
//! v1 Node, Namespace, Pod and networking.k8s.io/v1 ServiceCIDR → model.

use std::{net::IpAddr, sync::Arc};

use super::{
    api,
    metadata::{
        Converted, NameError, address, all_good, cluster_scoped, label, label_pairs, labels,
        namespaced, port_number, range, texts,
    },
    service::protocol,
};
use crate::model::{
    cidr::Cidr,
    cluster::{Namespace, Node, Pod, PodPhase, ServiceCidr},
    intern::Interner,
    object::Object,
    policy::{Labels, NamedPort},
    rejection::RejectReason,
};

/// The zone of a node.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Key of the taint of a node that the cluster's autoscaler is about to delete.
const LEAVING_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// Converts a Node.
pub fn node(object: &api::Node<'_>, interner: &Interner) -> Result<Converted, NameError> {
    let mut reasons = Vec::new();
    let (spec, status) = (object.spec.as_ref(), object.status.as_ref());
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let mut of_type = |word| {
        let found = addresses.iter().filter(|address| address.type_.as_deref() == Some(word));
        let found = found.filter_map(|found| found.address.as_deref());
        all_good("status.addresses", found, address, &mut reasons)
    };
    let (internal_ips, external_ips) = (of_type("InternalIP"), of_type("ExternalIP"));
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let is_leaving = object.metadata.deletion_timestamp.is_some()
        || taints.iter().any(|taint| taint.key.as_deref() == Some(LEAVING_TAINT));
    let zone = label(&object.metadata, ZONE_LABEL).filter(|zone| !zone.is_empty());
    let node = Node {
        name: cluster_scoped(&object.metadata)?,
        zone: zone.map(|zone| interner.name(zone)),
        internal_ips,
        external_ips,
        pod_cidrs: spec.map(|spec| pod_cidrs(spec, &mut reasons)).unwrap_or_default(),
        is_leaving,
        labels: labels(&object.metadata, interner),
    };
    Ok(Converted::present(Object::Node(node.into()), reasons))
}

/// `podCIDRs`, or `podCIDR` where only that was written.
fn pod_cidrs(spec: &api::NodeSpec<'_>, reasons: &mut Vec<RejectReason>) -> Box<[Cidr]> {
    let mut listed = texts(&spec.pod_cidrs).peekable();
    if listed.peek().is_none() {
        return all_good("spec.podCIDR", spec.pod_cidr.as_deref().into_iter(), range, reasons);
    }
    all_good("spec.podCIDRs", listed, range, reasons)
}

/// Converts a ServiceCIDR.
pub fn service_cidr(object: &api::ServiceCidr<'_>) -> Result<Converted, NameError> {
    let mut reasons = Vec::new();
    let listed = object.spec.iter().flat_map(|spec| texts(&spec.cidrs));
    let cidr = ServiceCidr {
        name: cluster_scoped(&object.metadata)?,
        cidrs: all_good("spec.cidrs", listed, service_range, &mut reasons),
    };
    Ok(Converted::present(Object::ServiceCidr(cidr.into()), reasons))
}

/// Every address there is cannot be the cluster's.
fn service_range(field: &'static str, text: &str) -> Result<Cidr, RejectReason> {
    let bad = || RejectReason::BadRange { field, text: text.to_owned() };
    range(field, text).and_then(|cidr| Some(cidr).filter(|cidr| cidr.prefix() > 0).ok_or_else(bad))
}

/// Converts a Namespace.
pub fn namespace(object: &api::Namespace<'_>, interner: &Interner) -> Result<Converted, NameError> {
    let name = cluster_scoped(&object.metadata)?;
    let labels = Labels::of_namespace(name.name(), label_pairs(&object.metadata, interner));
    let namespace = Namespace { name, labels };
    Ok(Converted::present(Object::Namespace(namespace.into()), Vec::new()))
}

/// Converts a Pod.
pub fn pod(object: &api::Pod<'_>, interner: &Interner) -> Result<Converted, NameError> {
    let mut reasons = Vec::new();
    let (spec, status) = (object.spec.as_ref(), object.status.as_ref());
    let node = spec.and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty());
    let pod = Pod {
        name: namespaced(&object.metadata)?,
        ips: status.map(|status| pod_ips(status, &mut reasons)).unwrap_or_default(),
        node: node.map(|node| interner.name(node)),
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
        phase: phase(status.and_then(|status| status.phase.as_deref()), &mut reasons),
        labels: labels(&object.metadata, interner),
        ports: spec.map(|spec| named_ports(spec, interner, &mut reasons)).unwrap_or_default(),
        created: object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
        is_terminating: object.metadata.deletion_timestamp.is_some(),
    };
    Ok(Converted::present(Object::Pod(pod.into()), reasons))
}

/// The ports that containers name; those of sidecars come last, as where Services look for them.
fn named_ports(
    spec: &api::PodSpec<'_>,
    interner: &Interner,
    reasons: &mut Vec<RejectReason>,
) -> Arc<[NamedPort]> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars =
        sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut found: Vec<NamedPort> = Vec::new();
    let containers = spec.containers.iter().flatten().chain(sidecars);
    for port in containers.flat_map(|container| container.ports.iter().flatten()) {
        let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) else { continue };
        let parsed = port_number(name, port.container_port.unwrap_or_default())
            .and_then(|number| Ok((number, protocol(name, port.protocol.as_deref())?)));
        match parsed {
            Ok((number, protocol)) => {
                let is_known = |one: &NamedPort| *one.name == *name && one.protocol == protocol;
                if !found.iter().any(is_known) {
                    found.push(NamedPort { name: interner.name(name), protocol, number });
                }
            }
            Err(reason) => reasons.push(reason),
        }
    }
    found.sort_unstable();
    found.into()
}

/// `podIPs`, or `podIP` where only that was written.
fn pod_ips(status: &api::PodStatus<'_>, reasons: &mut Vec<RejectReason>) -> Box<[IpAddr]> {
    let listed = status.pod_ips.as_deref().unwrap_or_default();
    if listed.is_empty() {
        let single = status.pod_ip.as_deref().into_iter();
        return all_good("status.podIP", single, address, reasons);
    }
    let listed = listed.iter().filter_map(|pod_ip| pod_ip.ip.as_deref());
    all_good("status.podIPs", listed, address, reasons)
}

fn phase(word: Option<&str>, reasons: &mut Vec<RejectReason>) -> PodPhase {
    match word {
        Some("Pending") => PodPhase::Pending,
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        None | Some("" | "Unknown") => PodPhase::Unknown,
        Some(other) => {
            let value = other.to_owned();
            reasons.push(RejectReason::UnknownValue {
                field: "status.phase",
                value,
                used: "Unknown",
            });
            PodPhase::Unknown
        }
    }
}
