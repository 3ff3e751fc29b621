// SPDX-License-Identifier: Apache-2.0
//! What a v1 Service says of clients outside the cluster: external addresses, load balancer, who may
//! use it, node ports.
//!
//! An address of a family that the Service has no cluster address of is kept here and used by
//! nobody: kube-proxy ignores the whole Service in such a family, and so does the planner.

use std::net::IpAddr;

use super::{
    api::{LoadBalancerIngress, ServicePort as ApiPort, ServiceSpec, ServiceStatus},
    metadata::{address, all_good, port_number, range, texts},
    service::unknown,
};
use crate::model::{
    cidr::Cidr,
    ip::Family,
    rejection::RejectReason,
    service::{ServicePort, ServiceType, SourceRanges, Sources},
};

const RANGES_FIELD: &str = "spec.loadBalancerSourceRanges";

pub(super) fn external_ips(
    spec: &ServiceSpec<'_>,
    reasons: &mut Vec<RejectReason>,
) -> Box<[IpAddr]> {
    all_good("spec.externalIPs", texts(&spec.external_ips), address, reasons)
}

/// The addresses that packets arrive with. One of mode `Proxy` is not: the balancer sends to node
/// ports or pods, and pods that dial it are to reach it.
pub(super) fn load_balancer_ips(
    status: Option<&ServiceStatus<'_>>,
    reasons: &mut Vec<RejectReason>,
) -> Box<[IpAddr]> {
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let mut texts = Vec::new();
    for ingress in ingress {
        if is_vip(ingress, reasons) {
            texts.extend(ingress.ip.as_deref());
        }
    }
    all_good("status.loadBalancer.ingress", texts.into_iter(), address, reasons)
}

fn is_vip(ingress: &LoadBalancerIngress<'_>, reasons: &mut Vec<RejectReason>) -> bool {
    match ingress.ip_mode.as_deref() {
        None | Some("" | "VIP") => true,
        Some("Proxy") => false,
        Some(other) => {
            reasons.push(unknown("status.loadBalancer.ingress.ipMode", other, "Proxy"));
            false
        }
    }
}

/// Ranges of one family say nothing of the other. One that is everything makes the others moot.
///
/// kube-proxy opens an address whose ranges all cannot be read; we close it and say so.
pub(super) fn source_ranges(
    spec: &ServiceSpec<'_>,
    reasons: &mut Vec<RejectReason>,
) -> SourceRanges {
    let texts = texts(&spec.load_balancer_source_ranges).map(str::trim);
    let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    let good = all_good(RANGES_FIELD, texts.iter().copied(), range, reasons);
    let mut of = |family| {
        let ranges: Box<[Cidr]> =
            good.iter().copied().filter(|range| range.family() == family).collect();
        let is_meant = || {
            let bad = texts.iter().filter(|text| Cidr::parse(text).is_none());
            bad.into_iter().any(|text| may_mean(text, family))
        };
        if ranges.is_empty() && !is_meant() || ranges.iter().any(|range| range.prefix() == 0) {
            return Sources::All;
        }
        if ranges.is_empty() {
            reasons.push(RejectReason::NoSourceRange { family });
        }
        Sources::Only(ranges)
    };
    SourceRanges { v4: of(Family::V4), v6: of(Family::V6) }
}

/// A text that cannot be read may have been meant for the family that it looks like, or for both if
/// it looks like neither.
fn may_mean(text: &str, family: Family) -> bool {
    match (text.contains(':'), text.contains('.')) {
        (true, _) => family == Family::V6,
        (false, true) => family == Family::V4,
        (false, false) => true,
    }
}

/// The node port of a port; `earlier` are the ports before it.
pub(super) fn node_port(
    port: &ApiPort<'_>,
    checked: &ServicePort,
    earlier: &[ServicePort],
    service_type: ServiceType,
) -> Result<Option<u16>, RejectReason> {
    let Some(number) = port.node_port.filter(|number| *number != 0) else { return Ok(None) };
    let (name, protocol) = (checked.name.to_string(), checked.protocol);
    if service_type == ServiceType::ClusterIp {
        return Err(RejectReason::NodePortUnused { name, number });
    }
    let number = port_number(&name, number)?;
    let repeats =
        |other: &ServicePort| other.protocol == protocol && other.node_port == Some(number);
    match earlier.iter().any(repeats) {
        true => Err(RejectReason::DuplicateNodePort { name, number, protocol }),
        false => Ok(Some(number)),
    }
}

pub(super) fn health_check_node_port(
    spec: &ServiceSpec<'_>,
    reasons: &mut Vec<RejectReason>,
) -> Option<u16> {
    let number = spec.health_check_node_port.filter(|number| *number != 0)?;
    let port = u16::try_from(number).ok();
    if port.is_none() {
        reasons.push(RejectReason::HealthCheckOutOfRange { number });
    }
    port
}
