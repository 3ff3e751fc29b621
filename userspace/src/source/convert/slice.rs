// SPDX-License-Identifier: Apache-2.0
//! discovery.k8s.io/v1 EndpointSlice → model (`pkg/proxy/endpointslicecache.go`).

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::jiff::Timestamp;

use super::{
    api,
    metadata::{Converted, NameError, address, label, namespaced, port_number, texts},
    service::{protocol, unknown},
};
use crate::model::{
    intern::Interner,
    ip::Family,
    name::{Kind, ObjectName},
    object::Object,
    rejection::RejectReason,
    slice::{Conditions, Endpoint, EndpointSlice, Hints, SlicePort},
};

/// Names the Service of a slice.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Marks slices of headless Services, whatever its value.
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// A number for all endpoints of a slice, see [`EndpointSlice::weight`]. The API has none.
pub const WEIGHT_ANNOTATION: &str = "pintle.dev/weight";

/// When the pod or service that a slice follows changed, as the slice's controller saw it.
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Where the messages say that an address stands.
const ADDRESS_FIELD: &str = "endpoints.addresses";

/// Converts a slice; absent if it is headless, belongs to no Service or holds host names.
pub fn endpoint_slice(
    object: &api::EndpointSlice<'_>,
    interner: &Interner,
) -> Result<Converted, NameError> {
    let name = namespaced(&object.metadata)?;
    let service = label(&object.metadata, SERVICE_LABEL).filter(|service| !service.is_empty());
    let (Some(service), None) = (service, label(&object.metadata, HEADLESS_LABEL)) else {
        return Ok(Converted::absent(Kind::EndpointSlice, name));
    };
    let address_type = object.address_type.as_deref().unwrap_or_default();
    let Some(family) = Family::from_word(address_type) else {
        return Ok(without_family(name, address_type));
    };

    let mut reasons = Vec::new();
    let slice = EndpointSlice {
        service: ObjectName::namespaced(name.namespace(), service),
        name,
        family,
        ports: ports(object, interner, &mut reasons),
        endpoints: endpoints(object, family, interner, &mut reasons),
        weight: weight(object, &mut reasons),
        trigger_time: trigger_time(object, &mut reasons),
    };
    Ok(Converted::present(Object::EndpointSlice(slice.into()), reasons))
}

/// `FQDN` is a valid type that service proxies ignore; other words are mistakes.
fn without_family(name: ObjectName, address_type: &str) -> Converted {
    let mut converted = Converted::absent(Kind::EndpointSlice, name);
    if address_type != "FQDN" {
        let value = address_type.to_owned();
        converted.reasons.push(RejectReason::UnknownAddressType { value });
    }
    converted
}

fn weight(object: &api::EndpointSlice<'_>, reasons: &mut Vec<RejectReason>) -> u8 {
    let annotations = object.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|all| all.get(WEIGHT_ANNOTATION)) else { return 1 };
    let weight = text.parse().ok().filter(|weight| (1..=100).contains(weight));
    weight.unwrap_or_else(|| {
        reasons.push(unknown(WEIGHT_ANNOTATION, text, "1"));
        1
    })
}

fn trigger_time(
    object: &api::EndpointSlice<'_>,
    reasons: &mut Vec<RejectReason>,
) -> Option<SystemTime> {
    let text = object.metadata.annotations.as_ref()?.get(TRIGGER_ANNOTATION)?;
    let ns = text.parse::<Timestamp>().ok().and_then(|time| time.as_nanosecond().try_into().ok());
    if ns.is_none() {
        let text = text.to_string();
        reasons.push(RejectReason::BadTime { field: TRIGGER_ANNOTATION, text });
    }
    ns.map(|ns| SystemTime::UNIX_EPOCH + Duration::from_nanos(ns))
}

/// A port without name or number is skipped silently: the API allows both, with another meaning.
fn ports(
    object: &api::EndpointSlice<'_>,
    interner: &Interner,
    reasons: &mut Vec<RejectReason>,
) -> Box<[SlicePort]> {
    let mut ports = Vec::new();
    for port in object.ports.iter().flatten() {
        let (Some(name), Some(number)) = (port.name.as_deref(), port.port) else { continue };
        if number == 0 {
            continue;
        }
        match (port_number(name, number), protocol(name, port.protocol.as_deref())) {
            (Ok(port), Ok(protocol)) => {
                ports.push(SlicePort { name: interner.name(name), port, protocol });
            }
            (Err(reason), _) | (_, Err(reason)) => reasons.push(reason),
        }
    }
    ports.into()
}

fn endpoints(
    object: &api::EndpointSlice<'_>,
    family: Family,
    interner: &Interner,
    reasons: &mut Vec<RejectReason>,
) -> Box<[Endpoint]> {
    let listed = object.endpoints.as_deref().unwrap_or_default();
    let mut endpoints = Vec::with_capacity(listed.len());
    for endpoint in listed {
        let Some(text) = texts(&endpoint.addresses).next() else { continue };
        match endpoint_ip(text, family) {
            Ok(ip) => endpoints.push(convert(endpoint, ip, interner)),
            Err(reason) => reasons.push(reason),
        }
    }
    endpoints.into()
}

/// The API server refuses link-local endpoint addresses too (`ValidateEndpointIP`).
fn endpoint_ip(text: &str, expected: Family) -> Result<IpAddr, RejectReason> {
    let ip = address(ADDRESS_FIELD, text)?;
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let text = text.to_owned();
    if link_local {
        Err(RejectReason::UnusableAddress { field: ADDRESS_FIELD, text })
    } else if Family::of(ip) != expected {
        Err(RejectReason::WrongFamily { field: ADDRESS_FIELD, text, expected })
    } else {
        Ok(ip)
    }
}

fn convert(endpoint: &api::Endpoint<'_>, ip: IpAddr, interner: &Interner) -> Endpoint {
    let conditions = endpoint.conditions.as_ref();
    let target = endpoint.target_ref.as_ref();
    let pod = target.filter(|target| target.kind.as_deref() == Some("Pod"));
    Endpoint {
        ip,
        conditions: Conditions {
            ready: conditions.and_then(|conditions| conditions.ready).unwrap_or(true),
            serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(true),
            terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
        },
        node: endpoint.node_name.as_deref().map(|node| interner.name(node)),
        pod: pod.and_then(|pod| pod.name.as_deref()).map(Arc::from),
        hints: endpoint
            .hints
            .as_ref()
            .and_then(|hints| interner.hints(convert_hints(hints, interner))),
    }
}

fn convert_hints(hints: &api::EndpointHints<'_>, interner: &Interner) -> Hints {
    let names = |hints: &api::List<api::Hint<'_>>| {
        let names = hints.iter().flatten().filter_map(|hint| hint.name.as_deref());
        names.map(|name| interner.name(name)).collect()
    };
    Hints { zones: names(&hints.for_zones), nodes: names(&hints.for_nodes) }
}
