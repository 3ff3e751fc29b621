// SPDX-License-Identifier: Apache-2.0
//! Increments against a fresh plan, conflicts, and what people are told.

use std::time::Duration;

use super::*;
use crate::{
    model::{
        addr::Protocol,
        cidr::Cidr,
        name::ObjectName,
        service::{ClusterIps, ServicePort, ServiceType, SourceRanges, TrafficPolicy},
        slice::{Conditions, Endpoint, Hints, SlicePort},
    },
    plan::{desired::NoBackend, options::UnknownPort},
};

fn name(name: &str) -> ObjectName {
    ObjectName::namespaced("shop", name)
}

fn service(short: &str, ip: &str) -> Service {
    let mut cluster_ips = ClusterIps::default();
    cluster_ips.add(ip.parse().unwrap());
    Service {
        backend_selection: None,
        name: name(short),
        created: None,
        service_type: ServiceType::ClusterIp,
        cluster_ips,
        external_ips: [].into(),
        load_balancer_ips: [].into(),
        source_ranges: SourceRanges::default(),
        ports: [port("http", 80)].into(),
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
        affinity: None,
    }
}

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort { name: name.into(), port, protocol: Protocol::Tcp, node_port: None }
}

fn endpoint(ip: &str) -> Endpoint {
    Endpoint {
        ip: ip.parse().unwrap(),
        conditions: Conditions::default(),
        node: Some("here".into()),
        pod: Some("web-1".into()),
        hints: None,
    }
}

fn slice(short: &str, of: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        weight: 1,
        name: name(short),
        service: name(of),
        family: endpoints.first().map_or(Family::V4, |endpoint| Family::of(endpoint.ip)),
        ports: [SlicePort { name: "http".into(), port: 8080, protocol: Protocol::Tcp }].into(),
        endpoints: endpoints.into(),
        trigger_time: None,
    }
}

fn put_service(service: Service) -> Event {
    Event::Apply(Object::Service(service.into()))
}

fn put_slice(slice: EndpointSlice) -> Event {
    Event::Apply(Object::EndpointSlice(slice.into()))
}

fn put_node(short: &str, zone: Option<&str>) -> Event {
    put_whole_node(Node { zone: zone.map(Arc::from), ..node(short) })
}

fn node(short: &str) -> Node {
    Node {
        name: ObjectName::cluster(short),
        zone: None,
        internal_ips: [].into(),
        external_ips: [].into(),
        pod_cidrs: [].into(),
        is_leaving: false,
        labels: Default::default(),
    }
}

fn put_whole_node(node: Node) -> Event {
    Event::Apply(Object::Node(node.into()))
}

fn new_planner() -> Planner {
    Planner::new("here", Options::default())
}

fn delete(kind: Kind, short: &str) -> Event {
    Event::Delete(ObjectRef::new(kind, name(short)))
}

fn synced() -> Planner {
    let mut planner = new_planner();
    planner.apply([Event::Synced]);
    planner
}

/// Frontends and backends as text; `-` for a frontend that goes, `!` after those that drain.
fn text(changes: &Changes) -> Vec<String> {
    let list = |backends: &[crate::plan::desired::DesiredBackend]| {
        backends.iter().map(|backend| format!(" {}", backend.addr)).collect::<String>()
    };
    let line = |(addr, frontend): (&FrontendKey, &Option<DesiredFrontend>)| match frontend {
        None => format!("{addr} -"),
        Some(f) if f.draining.is_empty() => format!("{addr} {}{}", f.service, list(&f.backends)),
        Some(f) => format!("{addr} {}{} !{}", f.service, list(&f.backends), list(&f.draining)),
    };
    changes.frontends.iter().map(line).collect()
}

#[test]
fn nothing_is_told_before_the_source_is_synced() {
    let mut planner = new_planner();
    assert!(planner.apply([put_service(service("web", "10.96.0.1"))]).is_empty());
    assert!(!planner.is_synced());
    let slice = put_slice(slice("web-a", "web", vec![endpoint("10.1.0.1")]));
    let changes = planner.apply([slice, Event::Synced]);
    assert_eq!(text(&changes), ["10.96.0.1:80/TCP shop/web:http 10.1.0.1:8080"]);
    assert!(planner.is_synced());
}

#[test]
fn a_change_touches_its_service_only() {
    let mut planner = synced();
    planner.apply([
        put_service(service("web", "10.96.0.1")),
        put_service(service("api", "10.96.0.2")),
    ]);
    let changes = planner.apply([put_slice(slice("web-a", "web", vec![endpoint("10.1.0.1")]))]);
    assert_eq!(text(&changes), ["10.96.0.1:80/TCP shop/web:http 10.1.0.1:8080"]);

    let changes = planner.apply([delete(Kind::EndpointSlice, "web-a")]);
    assert_eq!(text(&changes), ["10.96.0.1:80/TCP shop/web:http"]);

    let changes = planner.apply([delete(Kind::Service, "web")]);
    assert_eq!(text(&changes), ["10.96.0.1:80/TCP -"]);

    // Slices of nobody, and deletions of the unknown, change nothing.
    let orphan = slice("db-a", "db", vec![endpoint("10.1.0.1")]);
    assert!(planner.apply([put_slice(orphan), delete(Kind::Service, "db")]).is_empty());
    assert!(planner.apply([delete(Kind::EndpointSlice, "unknown")]).is_empty());
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let mut planner = synced();
    planner.apply([
        put_service(service("web", "10.96.0.1")),
        put_service(service("api", "10.96.0.2")),
        put_slice(slice("a", "web", vec![endpoint("10.1.0.1")])),
    ]);
    let changes = planner.apply([put_slice(slice("a", "api", vec![endpoint("10.1.0.1")]))]);
    assert_eq!(
        text(&changes),
        ["10.96.0.1:80/TCP shop/web:http", "10.96.0.2:80/TCP shop/api:http 10.1.0.1:8080"]
    );
}

#[test]
fn a_new_address_or_port_replaces_the_old_one() {
    let mut planner = synced();
    planner.apply([put_service(service("web", "10.96.0.1"))]);
    let changes = planner.apply([put_service(service("web", "10.96.0.9"))]);
    assert_eq!(text(&changes), ["10.96.0.1:80/TCP -", "10.96.0.9:80/TCP shop/web:http"]);

    let mut moved = service("web", "10.96.0.9");
    moved.ports = [ServicePort { protocol: Protocol::Udp, ..port("", 81) }].into();
    let changes = planner.apply([put_service(moved)]);
    assert_eq!(text(&changes), ["10.96.0.9:80/TCP -", "10.96.0.9:81/UDP shop/web"]);
}

#[test]
fn each_family_has_its_own_endpoints() {
    let mut dual = service("web", "10.96.0.1");
    dual.cluster_ips.add("fd00::1".parse().unwrap());
    let mut planner = synced();
    let changes = planner.apply([
        put_service(dual),
        put_slice(slice("web-4", "web", vec![endpoint("10.1.0.1")])),
        put_slice(slice("web-6", "web", vec![endpoint("fd01::1")])),
    ]);
    assert_eq!(
        text(&changes),
        [
            "10.96.0.1:80/TCP shop/web:http 10.1.0.1:8080",
            "[fd00::1]:80/TCP shop/web:http [fd01::1]:8080",
        ]
    );
    let changes = planner.apply([delete(Kind::EndpointSlice, "web-6")]);
    assert!(text(&changes).contains(&"[fd00::1]:80/TCP shop/web:http".to_owned()));
}

#[test]
fn affinity_and_refusal_are_carried_over() {
    let mut sticky = service("web", "10.96.0.1");
    sticky.affinity = Some(Duration::from_secs(600));
    sticky.internal_traffic_policy = TrafficPolicy::Local;
    let mut away = endpoint("10.1.0.1");
    away.node = Some("elsewhere".into());
    let mut planner = synced();
    let changes =
        planner.apply([put_service(sticky), put_slice(slice("web-a", "web", vec![away]))]);
    let frontend = changes.frontends.values().next().unwrap().as_ref().unwrap();
    assert_eq!(frontend.affinity, Some(Duration::from_secs(600)));
    assert_eq!(frontend.no_backend, NoBackend::Drop);
    assert_eq!((frontend.backends.len(), frontend.draining.len()), (0, 1));
}

#[test]
fn our_zone_decides_and_other_nodes_do_not() {
    let hinted = |ip: &str, zone: &str| {
        let hints = Hints { zones: [zone.into()].into(), nodes: [].into() };
        Endpoint { hints: Some(hints.into()), ..endpoint(ip) }
    };
    let mut planner = synced();
    planner.apply([
        put_service(service("web", "10.96.0.1")),
        put_slice(slice("a", "web", vec![hinted("10.1.0.1", "a"), hinted("10.1.0.2", "b")])),
    ]);
    for (event, expected) in [
        (
            put_node("here", Some("a")),
            &["10.96.0.1:80/TCP shop/web:http 10.1.0.1:8080 ! 10.1.0.2:8080"][..],
        ),
        (put_node("there", Some("b")), &[]),
        (put_node("here", Some("a")), &[]),
        (
            put_node("here", Some("b")),
            &["10.96.0.1:80/TCP shop/web:http 10.1.0.2:8080 ! 10.1.0.1:8080"],
        ),
        (
            Event::Delete(ObjectRef::new(Kind::Node, ObjectName::cluster("here"))),
            &["10.96.0.1:80/TCP shop/web:http 10.1.0.1:8080 10.1.0.2:8080"],
        ),
    ] {
        assert_eq!(text(&planner.apply([event])), expected);
    }
}

#[test]
fn the_older_service_keeps_a_contested_address() {
    let aged = |short: &str, created| Service { created, ..service(short, "10.96.0.1") };
    for (first, second, winner) in [
        (aged("a", Some(1)), aged("b", Some(2)), "shop/a"),
        (aged("a", Some(2)), aged("b", Some(1)), "shop/b"),
        (aged("a", Some(1)), aged("b", Some(1)), "shop/a"),
        (aged("a", None), aged("b", Some(9)), "shop/b"),
        (aged("a", None), aged("b", None), "shop/a"),
    ] {
        let loser = if winner == "shop/a" { "b" } else { "a" };
        let short = &winner[5..];
        let events = [put_service(first), put_service(second)];
        for events in [events.clone(), [events[1].clone(), events[0].clone()]] {
            let mut planner = synced();
            let changes = planner.apply(events);
            assert_eq!(text(&changes), [format!("10.96.0.1:80/TCP {winner}:http")]);
            let told: Vec<String> = planner.rejections().map(|r| r.to_string()).collect();
            assert_eq!(
                told,
                [format!(
                    "Service shop/{loser}: 10.96.0.1:80/TCP belongs to the older Service {winner}"
                )]
            );

            let changes = planner.apply([delete(Kind::Service, short)]);
            assert_eq!(text(&changes), [format!("10.96.0.1:80/TCP shop/{loser}:http")]);
            assert_eq!(planner.rejections().count(), 0);
        }
    }
}

#[test]
fn findings_of_the_source_are_listed_until_they_are_cleared() {
    let mut planner = synced();
    let object = ObjectRef::new(Kind::Service, name("web"));
    planner.apply([Event::Rejected(object.clone(), [RejectReason::NoClusterIp].into())]);
    let told: Vec<String> = planner.rejections().map(|r| r.to_string()).collect();
    assert_eq!(told, ["Service shop/web: has no clusterIP"]);
    planner.apply([Event::Rejected(object, [].into())]);
    assert_eq!(planner.rejections().count(), 0);
}

#[test]
fn services_and_backends_can_be_listed() {
    let mut planner = synced();
    let mut unready = endpoint("10.1.0.2");
    unready.conditions.ready = false;
    unready.node = None;
    planner.apply([
        put_service(service("web", "10.96.0.1")),
        put_service(service("api", "10.96.0.2")),
        put_service(service("zzz", "10.96.0.1")),
        put_slice(slice("web-a", "web", vec![endpoint("10.1.0.1"), unready])),
    ]);
    let listed: Vec<_> = planner
        .services()
        .iter()
        .map(|i| format!("{} {} {} {}/{}", i.namespace(), i.name(), i.frontend, i.ready, i.total))
        .collect();
    assert_eq!(listed, ["shop api 10.96.0.2:80/TCP 0/0", "shop web 10.96.0.1:80/TCP 1/2"]);

    let frontend = planner.services()[1].frontend.addr;
    let backends = planner.backends(&frontend);
    assert_eq!(backends.len(), 2);
    assert_eq!(backends[0].pod.as_deref(), Some("web-1"));
    assert!(backends[0].local && !backends[1].local);
    assert!(!backends[1].conditions.ready);
    assert!(planner.backends(&FrontendAddr { port: 1, ..frontend }).is_empty());
}

#[test]
fn the_version_of_rejections_moves_with_them_and_not_with_endpoints() {
    let mut planner = synced();
    let mut version = planner.rejections_version();
    let mut told: Vec<_> = planner.rejections().collect();
    let object = ObjectRef::new(Kind::Service, name("web"));
    for (event, moves) in [
        (put_service(service("web", "10.96.0.1")), false),
        (put_slice(slice("web-a", "web", vec![endpoint("10.244.0.1")])), false),
        (put_service(service("other", "10.96.0.1")), true),
        (put_slice(slice("web-a", "web", vec![endpoint("10.244.0.2")])), false),
        (delete(Kind::Service, "other"), true),
        (Event::Rejected(object.clone(), [RejectReason::NoClusterIp].into()), true),
        (Event::Rejected(object, [].into()), true),
        (delete(Kind::Service, "web"), false),
    ] {
        let what = format!("{event:?}");
        planner.apply([event]);
        let now: Vec<_> = planner.rejections().collect();
        assert_eq!(now != told, moves, "{what}");
        assert_eq!(planner.rejections_version() != version, moves, "{what}");
        (version, told) = (planner.rejections_version(), now);
    }
}

fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).unwrap()
}

/// The node's addresses: a few, by the bits of a number.
fn node_addresses(bits: u8) -> NodeAddresses {
    let all = ["172.18.0.2", "192.0.2.1", "127.0.0.1", "fd18::2"];
    let of = |bits: u8| {
        let chosen = all.iter().enumerate().filter(|(index, _)| bits & (1 << index) != 0);
        chosen.map(|(_, ip)| ip.parse().unwrap()).collect()
    };
    NodeAddresses { node_ports: of(bits & (bits >> 4)), own: of(bits) }
}

/// Adds changes to what others add up to.
fn add(sum: &mut Changes, changes: Changes) {
    fn merge<K: Ord, V>(sum: &mut BTreeMap<K, Option<V>>, changes: BTreeMap<K, Option<V>>) {
        sum.extend(changes);
        sum.retain(|_, value| value.is_some());
    }
    merge(&mut sum.frontends, changes.frontends);
    merge(&mut sum.wildcards, changes.wildcards);
    sum.cluster_ranges = changes.cluster_ranges.or(sum.cluster_ranges.take());
}

#[path = "outside_tests.rs"]
mod outside;
#[path = "property_tests.rs"]
mod property;
