// SPDX-License-Identifier: Apache-2.0
//! At which addresses a service can be dialled, by whom, and under which policy: the matrix of
//! destinations and traffic classes.
//!
//! | address | scope | endpoints | masqueraded |
//! |---|---|---|---|
//! | cluster | all | internal policy | who is no local pod, if that can be told |
//! | other, external policy Cluster | all | Cluster | everybody |
//! | other, external policy Local | pods and host | Cluster | who is no local pod |
//! | other, external policy Local | outside | Local | nobody |

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{
    desired::{DesiredFrontend, Masquerade},
    maglev::TableSize,
    options::Options,
    selection::{self, Candidate, Place},
};
use crate::model::{
    addr::{FrontendAddr, Scope},
    cidr::Cidr,
    ip::Family,
    service::{AddressKind, BackendSelection, Service, ServicePort, Sources, TrafficPolicy},
};

/// The addresses of a service, without node ports; each once, for whatever it is first.
///
/// Who lists an address as external and as the balancer's gets it with the balancer's source ranges.
pub(super) fn addresses(
    service: &Service,
    options: &Options,
) -> impl Iterator<Item = (IpAddr, AddressKind)> {
    let externals = if options.external_ips { &service.external_ips[..] } else { &[] };
    let of = |ips: &[IpAddr], kind| ips.iter().map(|ip| (*ip, kind)).collect::<Vec<_>>();
    let mut all: Vec<_> =
        service.cluster_ips.iter().map(|ip| (ip, AddressKind::ClusterIp)).collect();
    all.extend(of(&service.load_balancer_ips, AddressKind::LoadBalancer));
    all.extend(of(externals, AddressKind::ExternalIp));
    let mut seen = HashSet::new();
    // "None of our family: the whole Service is ignored in this family."
    all.retain(|(ip, _)| service.cluster_ips.get(Family::of(*ip)).is_some() && seen.insert(*ip));
    all.into_iter()
}

/// Every frontend of a service, in both families.
pub(super) fn frontends<'a>(
    service: &'a Service,
    options: &Options,
) -> impl Iterator<Item = (FrontendAddr, AddressKind, &'a ServicePort)> + use<'a> {
    let at = move |ip, kind| {
        service.ports.iter().map(move |port| {
            (FrontendAddr { ip, port: port.port, protocol: port.protocol }, kind, port)
        })
    };
    let node_ports = service.cluster_ips.iter().flat_map(move |ip| {
        let ip = unspecified(Family::of(ip));
        service.ports.iter().filter_map(move |port| {
            let addr = FrontendAddr { ip, port: port.node_port?, protocol: port.protocol };
            Some((addr, AddressKind::NodePort, port))
        })
    });
    let addresses: Vec<_> = addresses(service, options).collect();
    addresses.into_iter().flat_map(move |(ip, kind)| at(ip, kind)).chain(node_ports)
}

/// What an address is to a service, and the port that it leads to.
pub(super) fn find<'a>(
    service: &'a Service,
    options: &Options,
    addr: &FrontendAddr,
) -> Option<(AddressKind, &'a ServicePort)> {
    let found = frontends(service, options).find(|(other, ..)| other == addr);
    found.map(|(_, kind, port)| (kind, port))
}

/// The address that stands for all of the node's own.
pub(super) fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Which endpoints clients in a scope reach; `None` if the address has no such scope.
pub(super) fn policy(service: &Service, kind: AddressKind, scope: Scope) -> Option<TrafficPolicy> {
    match (is_split(service, kind), scope) {
        // Pods and the host are short-circuited to all endpoints, also if none is on this node.
        (true, Scope::Internal) => Some(TrafficPolicy::Cluster),
        (true, Scope::External) => Some(TrafficPolicy::Local),
        (false, Scope::Internal) if kind == AddressKind::ClusterIp => {
            Some(service.internal_traffic_policy)
        }
        (false, Scope::Internal) => Some(TrafficPolicy::Cluster),
        (false, Scope::External) => None,
    }
}

fn is_split(service: &Service, kind: AddressKind) -> bool {
    kind != AddressKind::ClusterIp && service.external_traffic_policy == TrafficPolicy::Local
}

fn masquerade(service: &Service, kind: AddressKind, scope: Scope, options: &Options) -> Masquerade {
    match (is_split(service, kind), scope) {
        (true, Scope::External) => Masquerade::Nobody,
        (true, Scope::Internal) => Masquerade::Others,
        (false, _) if options.masquerade_all => Masquerade::Always,
        (false, _) if kind != AddressKind::ClusterIp => Masquerade::Remote,
        (false, _) if options.has_detector => Masquerade::Others,
        (false, _) => Masquerade::Nobody,
    }
}

/// Connections from inside the cluster come to one node: there is nothing to agree on.
fn table(service: &Service, kind: AddressKind, options: &Options) -> Option<TableSize> {
    let selection = service.backend_selection.unwrap_or(options.backend_selection);
    let is_agreed = kind != AddressKind::ClusterIp && selection == BackendSelection::Maglev;
    is_agreed.then_some(options.table_size)
}

/// What the plan of one frontend is made of.
pub(super) struct Outlook<'a> {
    pub options: &'a Options,
    pub place: &'a Place,
    /// Addresses that stand for the node.
    pub node_ips: &'a [IpAddr],
}

impl Outlook<'_> {
    /// The frontend of an address in a scope; `None` if there is no such scope.
    pub fn frontend(
        &self,
        service: &Service,
        (kind, port): (AddressKind, &ServicePort),
        (family, scope): (Family, Scope),
        candidates: &[Candidate<'_>],
    ) -> Option<DesiredFrontend> {
        let policy = policy(service, kind, scope)?;
        let selected = selection::select(candidates, policy, self.place);
        Some(DesiredFrontend {
            service: port_name(service, port),
            backends: selected.backends,
            draining: selected.draining,
            no_backend: selected.no_backend,
            table: table(service, kind, self.options),
            affinity: service.affinity,
            is_split: scope == Scope::Internal && is_split(service, kind),
            masquerade: masquerade(service, kind, scope, self.options),
            source_ranges: match kind {
                AddressKind::LoadBalancer => self.source_ranges(service, family),
                _ => None,
            },
        })
    }

    /// "If any range contains this node's IP, the LB VIPs themselves are also allowed as sources":
    /// a host whose own address is the balancer's may dial from it.
    fn source_ranges(&self, service: &Service, family: Family) -> Option<Arc<[Cidr]>> {
        let Sources::Only(ranges) = service.source_ranges.get(family) else { return None };
        let mut all = ranges.to_vec();
        if self.node_ips.iter().any(|ip| ranges.iter().any(|range| range.contains(*ip))) {
            let ips = service.load_balancer_ips.iter().filter(|ip| Family::of(**ip) == family);
            all.extend(ips.filter_map(|ip| Cidr::new(*ip, if ip.is_ipv4() { 32 } else { 128 })));
        }
        all.sort_unstable();
        all.dedup();
        Some(all.into())
    }
}

/// `namespace/name:port`, or `namespace/name` for a port without name.
fn port_name(service: &Service, port: &ServicePort) -> Arc<str> {
    if port.name.is_empty() {
        return service.name.as_str().into();
    }
    format!("{}:{}", service.name, port.name).into()
}

#[cfg(test)]
#[path = "matrix_tests.rs"]
mod tests;
