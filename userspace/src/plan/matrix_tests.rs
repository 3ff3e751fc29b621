// SPDX-License-Identifier: Apache-2.0
//! The matrix of destinations, policies and places of endpoints, and the addresses of a service.

use super::*;
use crate::{
    model::{
        addr::{BackendAddr, Protocol},
        name::ObjectName,
        service::{ClusterIps, ServiceType, SourceRanges},
        slice::{Conditions, Endpoint},
    },
    plan::desired::NoBackend,
};

const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };
const LEAVING: Conditions = Conditions { ready: false, serving: true, terminating: true };
const UNREADY: Conditions = Conditions { ready: false, serving: true, terminating: false };
const DEAD: Conditions = Conditions { ready: false, serving: false, terminating: true };

fn service(internal: TrafficPolicy, external: TrafficPolicy) -> Service {
    let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
    let mut cluster_ips = ClusterIps::default();
    cluster_ips.add("10.96.0.1".parse().unwrap());
    Service {
        backend_selection: None,
        name: ObjectName::namespaced("shop", "web"),
        created: None,
        service_type: ServiceType::LoadBalancer,
        cluster_ips,
        external_ips: ips(&["192.0.2.1"]),
        load_balancer_ips: ips(&["203.0.113.1"]),
        source_ranges: SourceRanges::default(),
        ports: [ServicePort {
            name: "http".into(),
            port: 80,
            protocol: Protocol::Tcp,
            node_port: Some(30080),
        }]
        .into(),
        internal_traffic_policy: internal,
        external_traffic_policy: external,
        health_check_node_port: None,
        affinity: None,
    }
}

fn place() -> Place {
    Place { node: "here".into(), zone: None }
}

/// Endpoints in words: `here`, `away`; with `-leaving`, `-unready` or `-dead` they are not ready.
fn endpoints(words: &str) -> Vec<Endpoint> {
    let endpoint = |(index, word): (usize, &str)| {
        let (node, condition) = word.split_once('-').unwrap_or((word, ""));
        Endpoint {
            ip: [10, 1, 0, index as u8 + 1].into(),
            conditions: match condition {
                "" => READY,
                "leaving" => LEAVING,
                "unready" => UNREADY,
                "dead" => DEAD,
                _ => panic!("{word}"),
            },
            node: Some(node.into()),
            pod: None,
            hints: None,
        }
    };
    words.split_whitespace().enumerate().map(endpoint).collect()
}

/// What clients in a scope meet: last octets of the endpoints they reach, or what happens to them.
fn meets(
    service: &Service,
    kind: AddressKind,
    scope: Scope,
    options: &Options,
    words: &str,
) -> String {
    let endpoints = endpoints(words);
    let candidates: Vec<_> = endpoints
        .iter()
        .map(|endpoint| Candidate {
            addr: BackendAddr { ip: endpoint.ip, port: 8080 },
            endpoint,
            weight: 1,
        })
        .collect();
    let place = place();
    let outlook = Outlook { options, place: &place, node_ips: &[] };
    let found =
        outlook.frontend(service, (kind, &service.ports[0]), (Family::V4, scope), &candidates);
    let Some(found) = found else { return String::new() };
    assert_eq!(found.is_split, is_split(service, kind) && scope == Scope::Internal);
    match (found.backends.is_empty(), found.no_backend) {
        (true, NoBackend::Reject) => "reject".into(),
        (true, NoBackend::Drop) => "drop".into(),
        (false, _) => {
            let octet = |backend: &crate::plan::desired::DesiredBackend| {
                backend.addr.ip.to_string().rsplit_once('.').unwrap().1.to_owned()
            };
            found.backends.iter().map(octet).collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn every_class_of_traffic_reaches_the_endpoints_that_its_policy_names() {
    use TrafficPolicy::{Cluster, Local};
    // Endpoints; then what clients of the cluster address meet, those inside and those outside at
    // the other addresses.
    let table: [(TrafficPolicy, TrafficPolicy, &[[&str; 4]]); 4] = [
        (
            Cluster,
            Cluster,
            &[
                ["here away", "1 2", "1 2", ""],
                ["away", "1", "1", ""],
                ["", "reject", "reject", ""],
                ["here-unready", "reject", "reject", ""],
                ["here-dead away-dead", "reject", "reject", ""],
                // The fallback is for the whole service: no terminating one while any is ready.
                ["here-leaving away", "2", "2", ""],
                ["here-leaving away-leaving", "1 2", "1 2", ""],
            ],
        ),
        (
            Local,
            Cluster,
            &[
                ["here away", "1", "1 2", ""],
                ["away", "drop", "1", ""],
                ["", "reject", "reject", ""],
                ["away-unready", "reject", "reject", ""],
                // The fallback of the local set does not ask what is ready elsewhere.
                ["here-leaving away", "1", "2", ""],
                ["away-leaving", "drop", "1", ""],
            ],
        ),
        (
            Cluster,
            Local,
            &[
                ["here away", "1 2", "1 2", "1"],
                // Pods and the host are short-circuited, also without a local endpoint.
                ["away", "1", "1", "drop"],
                ["", "reject", "reject", "reject"],
                ["away-dead", "reject", "reject", "reject"],
                ["here-leaving away", "2", "2", "1"],
                ["away-leaving", "1", "1", "drop"],
            ],
        ),
        (
            Local,
            Local,
            &[
                ["here away", "1", "1 2", "1"],
                ["away", "drop", "1", "drop"],
                ["", "reject", "reject", "reject"],
            ],
        ),
    ];
    for (internal, external, rows) in table {
        let service = service(internal, external);
        for [words, cluster, inside, outside] in rows {
            let meets = |kind, scope| meets(&service, kind, scope, &Options::default(), words);
            let what = format!("internal {internal:?}, external {external:?}: {words}");
            assert_eq!(meets(AddressKind::ClusterIp, Scope::Internal), *cluster, "{what}");
            assert_eq!(meets(AddressKind::ClusterIp, Scope::External), "", "{what}");
            for kind in [AddressKind::NodePort, AddressKind::ExternalIp, AddressKind::LoadBalancer]
            {
                assert_eq!(meets(kind, Scope::Internal), *inside, "{kind:?}, {what}");
                assert_eq!(meets(kind, Scope::External), *outside, "{kind:?}, {what}");
            }
        }
    }
}

#[test]
fn clients_are_masqueraded_as_their_destination_and_the_operator_say() {
    use Masquerade::{Always, Nobody, Others, Remote};
    let plain = Options::default();
    let blind = Options { has_detector: false, ..Options::default() };
    let all = Options { masquerade_all: true, ..Options::default() };
    for (external, scope, expected) in [
        // Of the cluster address, and of the others: by default, without a detector, with
        // masqueradeAll.
        (
            TrafficPolicy::Cluster,
            Scope::Internal,
            [[Others, Nobody, Always], [Remote, Remote, Always]],
        ),
        (TrafficPolicy::Local, Scope::Internal, [[Others, Nobody, Always], [Others; 3]]),
        // The client's address is preserved, whatever the operator wants for others.
        (TrafficPolicy::Local, Scope::External, [[Others, Nobody, Always], [Nobody; 3]]),
    ] {
        let service = service(TrafficPolicy::Local, external);
        for (options, index) in [(&plain, 0), (&blind, 1), (&all, 2)] {
            let of = |kind| masquerade(&service, kind, scope, options);
            assert_eq!(of(AddressKind::ClusterIp), expected[0][index]);
            for kind in [AddressKind::NodePort, AddressKind::ExternalIp, AddressKind::LoadBalancer]
            {
                assert_eq!(of(kind), expected[1][index], "{external:?} {scope:?} {index}");
            }
        }
    }
}

fn listed(service: &Service, options: &Options) -> Vec<String> {
    frontends(service, options).map(|(addr, kind, _)| format!("{addr} {}", kind.as_str())).collect()
}

#[test]
fn a_service_is_dialled_at_all_its_addresses_of_the_families_that_it_has() {
    let mut service = service(TrafficPolicy::Cluster, TrafficPolicy::Cluster);
    service.external_ips = ["192.0.2.1", "2001:db8::1", "203.0.113.1", "10.96.0.1"]
        .map(|ip| ip.parse().unwrap())
        .into();
    let expected = [
        "10.96.0.1:80/TCP ClusterIP",
        "203.0.113.1:80/TCP LoadBalancer",
        "192.0.2.1:80/TCP ExternalIP",
        "*:30080/TCP NodePort",
    ];
    assert_eq!(listed(&service, &Options::default()), expected);

    let off = Options { external_ips: false, ..Options::default() };
    assert_eq!(listed(&service, &off), [expected[0], expected[1], expected[3]]);

    service.cluster_ips.add("fd00::1".parse().unwrap());
    let dual = listed(&service, &Options::default());
    for addr in ["[2001:db8::1]:80/TCP ExternalIP", "[*]:30080/TCP NodePort"] {
        assert!(dual.iter().any(|other| other == addr), "{dual:?}");
    }

    service.cluster_ips = ClusterIps { v4: None, ..service.cluster_ips };
    let v6 =
        ["[fd00::1]:80/TCP ClusterIP", "[2001:db8::1]:80/TCP ExternalIP", "[*]:30080/TCP NodePort"];
    assert_eq!(listed(&service, &Options::default()), v6);
}

#[test]
fn clients_outside_get_a_table_where_the_service_or_else_the_node_says_so() {
    use BackendSelection::{Maglev, Random};
    for (node, annotation, is_maglev) in [
        (Random, None, false),
        (Maglev, None, true),
        (Maglev, Some(Random), false),
        (Random, Some(Maglev), true),
    ] {
        let options = Options { backend_selection: node, ..Options::default() };
        let mut service = service(TrafficPolicy::Cluster, TrafficPolicy::Cluster);
        service.backend_selection = annotation;
        let of = |kind| table(&service, kind, &options);
        assert_eq!(of(AddressKind::ClusterIp), None);
        for kind in [AddressKind::NodePort, AddressKind::ExternalIp, AddressKind::LoadBalancer] {
            assert_eq!(
                of(kind),
                is_maglev.then_some(options.table_size),
                "{node:?} {annotation:?}"
            );
        }
    }
}

fn ranges_of(service: &Service, kind: AddressKind, node_ips: &[IpAddr]) -> Option<Vec<String>> {
    let (options, place) = (Options::default(), place());
    let outlook = Outlook { options: &options, place: &place, node_ips };
    let scope = (Family::V4, Scope::Internal);
    let found = outlook.frontend(service, (kind, &service.ports[0]), scope, &[]).unwrap();
    Some(found.source_ranges?.iter().map(Cidr::to_string).collect())
}

#[test]
fn source_ranges_restrict_the_balancer_s_addresses_only() {
    let mut service = service(TrafficPolicy::Cluster, TrafficPolicy::Cluster);
    assert_eq!(ranges_of(&service, AddressKind::LoadBalancer, &[]), None);
    let range = |text| Cidr::parse(text).unwrap();
    let v4 = Sources::Only([range("198.51.100.0/24"), range("10.0.0.0/8")].into());
    service.source_ranges = SourceRanges { v4, v6: Sources::All };
    for kind in [AddressKind::ClusterIp, AddressKind::NodePort, AddressKind::ExternalIp] {
        assert_eq!(ranges_of(&service, kind, &[]), None, "{kind:?}");
    }
    let of = |node_ips: &[IpAddr]| ranges_of(&service, AddressKind::LoadBalancer, node_ips);
    let plain = vec!["10.0.0.0/8".to_owned(), "198.51.100.0/24".to_owned()];
    assert_eq!(of(&[]), Some(plain.clone()));
    assert_eq!(of(&["172.18.0.2".parse().unwrap()]), Some(plain));
    // The host may dial from the balancer's address if one of its own may.
    let own = of(&["10.9.9.9".parse().unwrap()]).unwrap();
    assert_eq!(own, ["10.0.0.0/8", "198.51.100.0/24", "203.0.113.1/32"]);

    service.source_ranges.v4 = Sources::Only([].into());
    assert_eq!(ranges_of(&service, AddressKind::LoadBalancer, &[]), Some(vec![]));
}
