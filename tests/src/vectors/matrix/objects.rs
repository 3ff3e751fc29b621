// SPDX-License-Identifier: Apache-2.0
//! The objects of the matrix: a service with every kind of address, and its endpoints.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use pintle::{
    model::{
        addr::Protocol,
        event::Event,
        ip::Family,
        name::ObjectName,
        object::Object,
        service::{ClusterIps, Service, ServicePort, ServiceType, SourceRanges, TrafficPolicy},
        slice::{Conditions, Endpoint, EndpointSlice, SlicePort},
    },
    plan::options::{NodeAddresses, Options},
};
use pintle_abi::{
    settings::{Settings, detect},
    source_range::Prefix,
};

use super::super::Ip;
use crate::{
    planned::{NODE, Planned},
    world::{Range, World, settings},
};

/// How local pods are told from others (`detectLocalMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detector {
    Address,
    Interface,
    Nothing,
}

pub(super) fn service(ip: Ip, internal: TrafficPolicy, external: TrafficPolicy) -> Arc<Service> {
    let mut cluster_ips = ClusterIps::default();
    cluster_ips.add(ip.service(0).ip());
    let port = |(name, protocol): (&str, Protocol)| ServicePort {
        name: name.into(),
        port: 80,
        protocol,
        node_port: Some(30_080),
    };
    Arc::new(Service {
        backend_selection: None,
        name: ObjectName::namespaced("shop", "web"),
        created: None,
        service_type: ServiceType::LoadBalancer,
        cluster_ips,
        external_ips: [ip.external(0).ip()].into(),
        load_balancer_ips: [ip.load_balancer(0).ip()].into(),
        source_ranges: SourceRanges::default(),
        ports: PORTS.map(port).into(),
        internal_traffic_policy: internal,
        external_traffic_policy: external,
        health_check_node_port: None,
        affinity: None,
    })
}

pub(super) const PORTS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

pub(super) fn backends(ip: Ip) -> [(&'static str, SocketAddr); 2] {
    [(NODE, ip.backend(5, 8080)), ("away", ip.backend(6, 8080))]
}

pub(super) fn slice(ip: Ip, endpoints: &str) -> Arc<EndpointSlice> {
    let endpoint = |node: &str| {
        let (_, addr) = backends(ip).into_iter().find(|(name, _)| *name == node)?;
        let (conditions, node) = (Conditions::default(), Some(node.into()));
        Some(Endpoint { ip: addr.ip(), conditions, node, pod: None, hints: None })
    };
    let port =
        |(name, protocol): (&str, Protocol)| SlicePort { name: name.into(), port: 8080, protocol };
    Arc::new(EndpointSlice {
        weight: 1,
        name: ObjectName::namespaced("shop", "web-1"),
        service: ObjectName::namespaced("shop", "web"),
        family: if ip.is_v6() { Family::V6 } else { Family::V4 },
        ports: PORTS.map(port).into(),
        endpoints: endpoints.split_whitespace().filter_map(endpoint).collect(),
        trigger_time: None,
    })
}

/// Writes what the agent would: settings, and through the planner everything else.
pub(super) fn plan<'a>(
    world: &'a mut dyn World,
    ip: Ip,
    options: Options,
    detector: Detector,
) -> Planned<'a> {
    world.clear();
    let mut settings = settings();
    if detector == Detector::Address {
        settings = Settings { detect: detect::ADDRESS, ..settings };
        let (pods, bits) = ip.pods();
        match (pods, Range { ip: pods, bits: bits.into() }.mask()) {
            (IpAddr::V4(addr), IpAddr::V4(mask)) => {
                settings.pods_v4 = Prefix { addr: addr.into(), mask: mask.into() };
            }
            (IpAddr::V6(addr), IpAddr::V6(mask)) => {
                settings.pods_v6 = Prefix { addr: addr.into(), mask: mask.into() };
            }
            _ => unreachable!("a mask has the family of its address"),
        }
    }
    world.put_settings(&settings);
    let has_detector = detector != Detector::Nothing;
    let own = [ip.node(0).ip(), ip.node_b(0).ip()].into();
    let node_ports = [ip.node(0).ip()].into();
    Planned::new(world, Options { has_detector, ..options }, NodeAddresses { node_ports, own })
}

pub(super) fn apply(
    planned: &mut Planned<'_>,
    ip: Ip,
    policies: [TrafficPolicy; 2],
    endpoints: &str,
) {
    let [internal, external] = policies;
    planned.apply([
        Event::Apply(Object::Service(service(ip, internal, external))),
        Event::Apply(Object::EndpointSlice(slice(ip, endpoints))),
    ]);
}

pub(super) fn cluster_ip_only(ip: Ip) -> Arc<Service> {
    let whole = service(ip, TrafficPolicy::Cluster, TrafficPolicy::Cluster);
    let port =
        |port: &ServicePort| ServicePort { name: port.name.clone(), node_port: None, ..*port };
    Arc::new(Service {
        name: whole.name.clone(),
        service_type: ServiceType::ClusterIp,
        external_ips: [].into(),
        load_balancer_ips: [].into(),
        source_ranges: whole.source_ranges.clone(),
        ports: whole.ports.iter().map(port).collect(),
        ..*whole
    })
}
