// SPDX-License-Identifier: Apache-2.0
//! v1 Service → model, with kube-proxy's rules of what to skip (`pkg/proxy/util/utils.go`).

use std::{net::IpAddr, time::Duration};

use super::{
    api::{self, ObjectMeta, ServiceSpec},
    external,
    metadata::{Converted, NameError, address, label, namespaced, port_number, texts},
};
use crate::model::{
    addr::Protocol,
    intern::Interner,
    ip::Family,
    name::Kind,
    object::Object,
    rejection::RejectReason,
    service::{BackendSelection, ClusterIps, Service, ServicePort, ServiceType, TrafficPolicy},
};

/// A Service with this label, whatever its value, belongs to another proxy.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// How a Service's backends are chosen for connections from outside.
pub const BACKEND_SELECTION_ANNOTATION: &str = "pintle.dev/backend-selection";

/// The API's default for `sessionAffinityConfig.clientIP.timeoutSeconds`.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;
/// The API's maximum for it.
const MAX_AFFINITY_SECONDS: i32 = 86_400;

/// Converts a Service; absent if it is headless, an ExternalName or another proxy's.
pub fn service(object: &api::Service<'_>, interner: &Interner) -> Result<Converted, NameError> {
    let name = namespaced(&object.metadata)?;
    let empty = ServiceSpec::default();
    let spec = object.spec.as_deref().unwrap_or(&empty);
    if label(&object.metadata, PROXY_NAME_LABEL).is_some() || is_skipped(spec) {
        return Ok(Converted::absent(Kind::Service, name));
    }

    let mut reasons = Vec::new();
    let service_type = service_type(spec, &mut reasons);
    let external_policy = spec.external_traffic_policy.as_deref();
    let external_policy = policy("spec.externalTrafficPolicy", external_policy, &mut reasons);
    let internal_policy = spec.internal_traffic_policy.as_deref();
    let service = Service {
        name,
        created: object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
        service_type,
        cluster_ips: cluster_ips(spec, &mut reasons),
        external_ips: external::external_ips(spec, &mut reasons),
        load_balancer_ips: external::load_balancer_ips(object.status.as_deref(), &mut reasons),
        source_ranges: external::source_ranges(spec, &mut reasons),
        ports: ports(spec, service_type, interner, &mut reasons),
        internal_traffic_policy: policy(
            "spec.internalTrafficPolicy",
            internal_policy,
            &mut reasons,
        ),
        external_traffic_policy: external_policy,
        health_check_node_port: match (service_type, external_policy) {
            (ServiceType::LoadBalancer, TrafficPolicy::Local) => {
                external::health_check_node_port(spec, &mut reasons)
            }
            _ => None,
        },
        affinity: affinity(spec, &mut reasons),
        backend_selection: backend_selection(&object.metadata, &mut reasons),
    };
    Ok(Converted::present(Object::Service(service.into()), reasons))
}

fn is_skipped(spec: &ServiceSpec<'_>) -> bool {
    spec.type_.as_deref() == Some("ExternalName") || first_cluster_ip(spec) == Some("None")
}

fn first_cluster_ip<'a>(spec: &'a ServiceSpec<'_>) -> Option<&'a str> {
    let first = texts(&spec.cluster_ips).next();
    spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty()).or(first)
}

fn service_type(spec: &ServiceSpec<'_>, reasons: &mut Vec<RejectReason>) -> ServiceType {
    match spec.type_.as_deref() {
        None | Some("" | "ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some(other) => {
            reasons.push(unknown("spec.type", other, ServiceType::ClusterIp.as_str()));
            ServiceType::ClusterIp
        }
    }
}

/// `clusterIPs[i]` is of the family `ipFamilies[i]`. The API server fills in both lists; in a file
/// written by hand they may be absent, and then an address is of the family that it looks like.
fn cluster_ips(spec: &ServiceSpec<'_>, reasons: &mut Vec<RejectReason>) -> ClusterIps {
    let listed: Vec<&str> = texts(&spec.cluster_ips).collect();
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let addresses: Vec<&str> = match first_cluster_ip(spec) {
        None => {
            reasons.push(RejectReason::NoClusterIp);
            return ClusterIps::default();
        }
        Some(first) if listed.is_empty() => vec![first],
        Some(_) => listed,
    };

    let mut result = ClusterIps::default();
    for (index, text) in addresses.into_iter().enumerate() {
        let family = match families.get(index) {
            // An address beyond the list of families is of a family the Service does not have.
            None if !families.is_empty() => continue,
            family => family.and_then(|word| Family::from_word(word)),
        };
        match cluster_ip(text, family) {
            Ok(ip) => result.add(ip),
            Err(reason) => reasons.push(reason),
        }
    }
    result
}

fn cluster_ip(text: &str, family: Option<Family>) -> Result<IpAddr, RejectReason> {
    let ip = address("clusterIP", text)?;
    match family {
        Some(expected) if expected != Family::of(ip) => {
            Err(RejectReason::WrongFamily { field: "clusterIP", text: text.to_owned(), expected })
        }
        _ => Ok(ip),
    }
}

fn ports(
    spec: &ServiceSpec<'_>,
    service_type: ServiceType,
    interner: &Interner,
    reasons: &mut Vec<RejectReason>,
) -> Box<[ServicePort]> {
    let mut ports: Vec<ServicePort> = Vec::new();
    for port in spec.ports.iter().flatten() {
        match checked_port(port, &ports, interner) {
            Ok(mut checked) => {
                checked.node_port = external::node_port(port, &checked, &ports, service_type)
                    .unwrap_or_else(|reason| {
                        reasons.push(reason);
                        None
                    });
                ports.push(checked);
            }
            Err(reason) => reasons.push(reason),
        }
    }
    ports.into()
}

fn checked_port(
    port: &api::ServicePort<'_>,
    earlier: &[ServicePort],
    interner: &Interner,
) -> Result<ServicePort, RejectReason> {
    let name = port.name.as_deref().unwrap_or_default();
    let protocol = protocol(name, port.protocol.as_deref())?;
    let number = port_number(name, port.port.unwrap_or_default())?;
    let repeats = |other: &ServicePort| {
        other.protocol == protocol && (other.port == number || &*other.name == name)
    };
    if earlier.iter().any(repeats) {
        return Err(RejectReason::DuplicatePort { name: name.to_owned(), number, protocol });
    }
    Ok(ServicePort { name: interner.name(name), port: number, protocol, node_port: None })
}

/// The protocol of a port; TCP if the API's default was not filled in.
pub(super) fn protocol(port: &str, word: Option<&str>) -> Result<Protocol, RejectReason> {
    match word {
        None | Some("" | "TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(RejectReason::UnsupportedProtocol {
            name: port.to_owned(),
            protocol: other.to_owned(),
        }),
    }
}

fn policy(
    field: &'static str,
    word: Option<&str>,
    reasons: &mut Vec<RejectReason>,
) -> TrafficPolicy {
    match word {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            reasons.push(unknown(field, other, "Cluster"));
            TrafficPolicy::Cluster
        }
    }
}

fn backend_selection(
    meta: &ObjectMeta<'_>,
    reasons: &mut Vec<RejectReason>,
) -> Option<BackendSelection> {
    let annotations = meta.annotations.as_ref()?;
    let word = annotations.get(BACKEND_SELECTION_ANNOTATION)?;
    let selection = BackendSelection::from_word(word);
    if selection.is_none() {
        reasons.push(RejectReason::UnknownValue {
            field: BACKEND_SELECTION_ANNOTATION,
            value: (**word).to_owned(),
            used: "what the node has",
        });
    }
    selection
}

fn affinity(spec: &ServiceSpec<'_>, reasons: &mut Vec<RejectReason>) -> Option<Duration> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return None,
        Some("ClientIP") => {}
        Some(other) => {
            reasons.push(unknown("spec.sessionAffinity", other, "None"));
            return None;
        }
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = match config.and_then(|client| client.timeout_seconds) {
        None => DEFAULT_AFFINITY_SECONDS,
        Some(seconds) if (1..=MAX_AFFINITY_SECONDS).contains(&seconds) => seconds,
        Some(seconds) => {
            reasons.push(RejectReason::AffinityOutOfRange { seconds });
            DEFAULT_AFFINITY_SECONDS
        }
    };
    Some(Duration::from_secs(u64::from(seconds.unsigned_abs())))
}

pub(super) fn unknown(field: &'static str, value: &str, used: &'static str) -> RejectReason {
    RejectReason::UnknownValue { field, value: value.to_owned(), used }
}
