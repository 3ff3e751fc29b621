// SPDX-License-Identifier: Apache-2.0
//! v1 Node, Namespace and Pod → model.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as api;

use super::metadata::{Converted, NameError, address, cluster_scoped, label, namespaced};
use crate::model::{
    cluster::{Namespace, Node, Pod, PodPhase},
    intern::Interner,
    object::Object,
    rejection::RejectReason,
};

/// The zone of a node.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// What the cluster autoscaler marks a node with before it deletes it.
const LEAVING_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// Converts a Node.
pub fn node(object: &api::Node, interner: &Interner) -> Result<Converted, NameError> {
    let mut reasons = Vec::new();
    let status = object.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    let zone = label(&object.metadata, ZONE_LABEL).filter(|zone| !zone.is_empty());
    let node = Node {
        name: cluster_scoped(&object.metadata)?,
        zone: zone.map(|zone| interner.name(zone)),
        internal_ips: checked("status.addresses", internal.map(|a| &*a.address), &mut reasons),
        is_leaving: is_leaving(object),
    };
    Ok(Converted::present(Object::Node(node.into()), reasons))
}

fn is_leaving(object: &api::Node) -> bool {
    let taints = object.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    object.metadata.deletion_timestamp.is_some()
        || taints.iter().any(|taint| taint.key == LEAVING_TAINT)
}

/// Converts a Namespace.
pub fn namespace(object: &api::Namespace) -> Result<Converted, NameError> {
    let namespace = Namespace { name: cluster_scoped(&object.metadata)? };
    Ok(Converted::present(Object::Namespace(namespace.into()), Vec::new()))
}

/// Converts a Pod.
pub fn pod(object: &api::Pod, interner: &Interner) -> Result<Converted, NameError> {
    let mut reasons = Vec::new();
    let (spec, status) = (object.spec.as_ref(), object.status.as_ref());
    let node = spec.and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty());
    let pod = Pod {
        name: namespaced(&object.metadata)?,
        ips: status.map(|status| pod_ips(status, &mut reasons)).unwrap_or_default(),
        node: node.map(|node| interner.name(node)),
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
        phase: phase(status.and_then(|status| status.phase.as_deref()), &mut reasons),
    };
    Ok(Converted::present(Object::Pod(pod.into()), reasons))
}

/// `podIPs`, or `podIP` where only that was written.
fn pod_ips(status: &api::PodStatus, reasons: &mut Vec<RejectReason>) -> Box<[IpAddr]> {
    let listed = status.pod_ips.as_deref().unwrap_or_default();
    if listed.is_empty() {
        return checked("status.podIP", status.pod_ip.iter().map(String::as_str), reasons);
    }
    checked("status.podIPs", listed.iter().map(|pod_ip| &*pod_ip.ip), reasons)
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

fn checked<'a>(
    field: &'static str,
    texts: impl Iterator<Item = &'a str>,
    reasons: &mut Vec<RejectReason>,
) -> Box<[IpAddr]> {
    let mut addresses = Vec::new();
    for text in texts.filter(|text| !text.is_empty()) {
        match address(field, text) {
            Ok(ip) => addresses.push(ip),
            Err(reason) => reasons.push(reason),
        }
    }
    addresses.into()
}
