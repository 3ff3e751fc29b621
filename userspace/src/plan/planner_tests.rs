// SPDX-License-Identifier: Apache-2.0
//! Increments against a fresh plan, conflicts, and what people are told.

use std::time::Duration;

use proptest::{prelude::*, sample::select};

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
fn a_change_of_type_leaves_nothing_behind() {
    let cluster_ip = service("web", "10.96.0.1");
    let mut with_node_port = service("web", "10.96.0.1");
    with_node_port.service_type = ServiceType::NodePort;
    with_node_port.ports[0].node_port = Some(30080);
    let mut with_balancer = service("web", "10.96.0.1");
    with_balancer.service_type = ServiceType::LoadBalancer;
    with_balancer.ports[0].node_port = Some(30080);
    with_balancer.load_balancer_ips = ["203.0.113.1".parse().unwrap()].into();
    with_balancer.external_traffic_policy = TrafficPolicy::Local;
    with_balancer.health_check_node_port = Some(31000);
    let kinds = [
        put_service(cluster_ip),
        put_service(with_node_port),
        put_service(with_balancer),
        // An ExternalName is none of ours, so the source takes the service away.
        delete(Kind::Service, "web"),
    ];
    for before in &kinds {
        for after in &kinds {
            let mut planner = synced();
            planner.set_node_addresses(node_addresses(0xff));
            let mut sum = planner.apply([before.clone()]);
            add(&mut sum, planner.apply([after.clone()]));
            let mut fresh = new_planner();
            fresh.set_node_addresses(node_addresses(0xff));
            let expected = fresh.apply([after.clone(), Event::Synced]);
            assert_eq!(sum.frontends, expected.frontends, "{before:?} → {after:?}");
            assert_eq!(sum.wildcards, expected.wildcards, "{before:?} → {after:?}");
            assert_eq!(planner.health_checks(), fresh.health_checks());
        }
    }
}

fn flags(planner: &Planner, ip: &str) -> Option<u32> {
    planner.desired().wildcards.get(&ip.parse().unwrap()).copied().flatten()
}

#[test]
fn an_address_says_what_becomes_of_its_other_ports() {
    use pintle_abi::service::wildcard_flags::{CLUSTER, LOAD_BALANCER, NODE};
    let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Box<[_]>>();
    let mut web = service("web", "10.96.0.1");
    web.ports[0].node_port = Some(30080);
    web.external_ips = ips(&["192.0.2.1", "172.18.0.2"]);
    web.load_balancer_ips = ips(&["203.0.113.1", "127.0.0.1", "10.1.0.1", "172.18.0.9"]);
    let mut planner = synced();
    planner.set_node_addresses(node_addresses(0xff));
    planner.apply([put_service(web), put_slice(slice("web-a", "web", vec![endpoint("10.1.0.1")]))]);
    let other = Node { internal_ips: ips(&["172.18.0.9"]), ..node("there") };
    let changes = planner.apply([put_whole_node(other)]);
    assert_eq!(changes.wildcards[&"172.18.0.9".parse::<IpAddr>().unwrap()], Some(0));
    for (ip, expected) in [
        ("10.96.0.1", Some(CLUSTER)),
        ("192.0.2.1", Some(NODE)),
        ("172.18.0.2", Some(NODE)),
        ("203.0.113.1", Some(LOAD_BALANCER)),
        // A balancer's address that is a node's or a pod's: its other ports are theirs.
        ("127.0.0.1", Some(NODE)),
        ("10.1.0.1", Some(0)),
        ("172.18.0.9", Some(0)),
        ("10.96.0.2", None),
        ("0.0.0.0", None),
        // The service is of IPv4 only, and so are its node ports.
        ("fd18::2", None),
    ] {
        assert_eq!(flags(&planner, ip), expected, "{ip}");
    }
    planner.apply([delete(Kind::EndpointSlice, "web-a")]);
    assert_eq!(flags(&planner, "10.1.0.1"), Some(LOAD_BALANCER));
    planner.apply([delete(Kind::Service, "web")]);
    assert!(planner.desired().wildcards.is_empty());

    let options = Options { unknown_port: UnknownPort::Pass, ..Options::default() };
    let mut passing = Planner::new("here", options);
    passing.apply([put_service(service("web", "10.96.0.1")), Event::Synced]);
    assert_eq!(flags(&passing, "10.96.0.1"), Some(0));
}

#[test]
fn node_ports_follow_the_node_s_addresses() {
    let mut web = service("web", "10.96.0.1");
    web.ports[0].node_port = Some(30080);
    let mut planner = synced();
    assert!(
        planner.set_node_addresses(node_addresses(0x11)).wildcards.values().all(Option::is_none)
    );
    planner.apply([put_service(web)]);
    assert!(flags(&planner, "172.18.0.2").is_some());
    let changes = planner.set_node_addresses(node_addresses(0x44));
    let text: Vec<_> =
        changes.wildcards.iter().map(|(ip, f)| format!("{ip} {}", f.is_some())).collect();
    assert_eq!(text, ["127.0.0.1 true", "172.18.0.2 false"]);
    assert!(changes.frontends.is_empty());
    assert!(planner.set_node_addresses(node_addresses(0x44)).is_empty());
}

#[test]
fn external_addresses_that_are_switched_off_are_told() {
    let options = Options { external_ips: false, ..Options::default() };
    let mut planner = Planner::new("here", options);
    let mut web = service("web", "10.96.0.1");
    web.external_ips = ["192.0.2.1".parse().unwrap()].into();
    let before = planner.rejections_version();
    let changes = planner.apply([put_service(web), Event::Synced]);
    assert_eq!(text(&changes), ["10.96.0.1:80/TCP shop/web:http"]);
    assert_ne!(planner.rejections_version(), before);
    let told: Vec<_> = planner.rejections().map(|r| r.to_string()).collect();
    assert_eq!(told, ["Service shop/web: externalIPs are not used: they are switched off"]);
}

#[test]
fn a_health_check_counts_addresses_of_ready_endpoints_here() {
    let checked = |port| Service {
        health_check_node_port: Some(port).filter(|port| *port > 0),
        ..service("web", "10.96.0.1")
    };
    let mut leaving = endpoint("10.1.0.3");
    leaving.conditions = Conditions { ready: false, serving: true, terminating: true };
    let away = Endpoint { node: Some("there".into()), ..endpoint("10.1.0.4") };
    let mut planner = synced();
    planner.apply([put_service(checked(31000))]);
    let counts = |planner: &Planner| {
        let checks = planner.health_checks().iter();
        checks.map(|(name, check)| format!("{name} {check:?}")).collect::<Vec<_>>()
    };
    let text = |v4: usize| {
        vec![format!("shop/web HealthCheck {{ port: 31000, v4: Some({v4}), v6: None }}")]
    };
    assert_eq!(counts(&planner), text(0));
    planner.apply([
        put_slice(slice("web-a", "web", vec![endpoint("10.1.0.1"), endpoint("10.1.0.2"), leaving])),
        // The same address once more, behind another port.
        put_slice(slice("web-b", "web", vec![endpoint("10.1.0.1"), away])),
    ]);
    assert_eq!(counts(&planner), text(2));
    planner.apply([delete(Kind::EndpointSlice, "web-a")]);
    assert_eq!(counts(&planner), text(1));
    planner.apply([put_service(checked(0))]);
    assert!(planner.health_checks().is_empty());
}

#[test]
fn a_balancer_s_ranges_follow_the_node_s_address() {
    let mut web = service("web", "10.96.0.1");
    web.load_balancer_ips = ["203.0.113.1".parse().unwrap()].into();
    web.source_ranges.v4 = Sources::Only([cidr("172.16.0.0/12")].into());
    let mut planner = synced();
    planner.apply([put_service(web)]);
    let own = Node { internal_ips: ["172.18.0.2".parse().unwrap()].into(), ..node("here") };
    let changes = planner.apply([put_whole_node(own)]);
    let ranges = changes.frontends.values().flatten().filter_map(|f| f.source_ranges.clone());
    let ranges: Vec<_> = ranges.flat_map(|ranges| ranges.to_vec()).collect();
    assert_eq!(ranges, [cidr("172.16.0.0/12"), cidr("203.0.113.1/32")]);
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

fn any_ips() -> impl Strategy<Value = Box<[IpAddr]>> {
    let ips = ["192.0.2.1", "192.0.2.2", "10.96.0.2", "2001:db8::1", "10.1.0.1", "172.18.0.2"];
    let ips = select(ips.map(|ip| ip.parse().unwrap()).to_vec());
    prop::collection::vec(ips, 0..3).prop_map(Into::into)
}

fn any_service() -> impl Strategy<Value = Event> {
    let inside = (
        select(vec!["a", "b", "c"]),
        select(vec!["10.96.0.1", "10.96.0.2", "fd00::1"]),
        select(vec![None, Some(1), Some(2)]),
        select(vec![80_u16, 81]),
        any::<[bool; 2]>(),
    );
    let outside =
        (any_ips(), any_ips(), select(vec![None, Some(30080), Some(30081)]), any::<[bool; 3]>());
    (inside, outside).prop_map(
        |((short, ip, created, port, [local, dual]), (external, balancer, node_port, flags))| {
            let mut service = service(short, ip);
            let [local_outside, ranges, health] = flags;
            service.created = created;
            service.ports[0].port = port;
            service.ports[0].node_port = node_port;
            (service.external_ips, service.load_balancer_ips) = (external, balancer);
            if local {
                service.internal_traffic_policy = TrafficPolicy::Local;
            }
            if local_outside {
                service.external_traffic_policy = TrafficPolicy::Local;
                service.health_check_node_port = health.then_some(31000);
            }
            if ranges {
                service.source_ranges.v4 = Sources::Only([cidr("172.16.0.0/12")].into());
            }
            if dual {
                service.cluster_ips.add("fd00::2".parse().unwrap());
            }
            put_service(service)
        },
    )
}

fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).unwrap()
}

fn any_node() -> impl Strategy<Value = Event> {
    let ips = select(vec![&[][..], &["172.18.0.2"], &["192.0.2.1", "172.18.0.3"]]);
    let zones = select(vec![None, Some("a"), Some("b")]);
    let cidrs = select(vec![&[][..], &["192.0.2.2/32"]]);
    (select(vec!["here", "there"]), zones, ips, cidrs).prop_map(|(short, zone, ips, cidrs)| {
        put_whole_node(Node {
            zone: zone.map(Arc::from),
            internal_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            pod_cidrs: cidrs.iter().map(|text| cidr(text)).collect(),
            ..node(short)
        })
    })
}

fn put_cidr(short: &str, range: &str) -> Event {
    let (name, cidrs) = (ObjectName::cluster(short), [cidr(range)].into());
    Event::Apply(Object::ServiceCidr(ServiceCidr { name, cidrs }.into()))
}

fn any_cidr() -> impl Strategy<Value = Event> {
    let ranges = ["10.96.0.0/16", "10.0.0.0/8", "fd00::/108", "10.97.0.0/16"];
    let names = select(vec!["x", "y"]);
    prop_oneof![
        2 => (names.clone(), select(ranges.to_vec())).prop_map(|(n, range)| put_cidr(n, range)),
        1 => names.prop_map(|short| {
            Event::Delete(ObjectRef::new(Kind::ServiceCidr, ObjectName::cluster(short)))
        }),
    ]
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

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    (1..5_u8, any::<[bool; 3]>(), select(vec!["", "here", "there"]), 0..4_u8).prop_map(
        |(octet, [ready, serving, terminating], node, hint)| {
            let list = |word: &str| -> Box<[Arc<str>]> { [word.into()].into() };
            let hints = match hint {
                0 => None,
                1 => Some(Hints { zones: list("a"), nodes: [].into() }),
                2 => Some(Hints { zones: list("b"), nodes: list("here") }),
                _ => Some(Hints { zones: [].into(), nodes: list("there") }),
            };
            Endpoint {
                ip: [10, 1, 0, octet].into(),
                conditions: Conditions { ready, serving, terminating },
                node: (!node.is_empty()).then(|| node.into()),
                pod: None,
                hints: hints.map(Arc::new),
            }
        },
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    let slices = select(vec!["s1", "s2", "s3"]);
    let services = select(vec!["a", "b", "c", "d"]);
    prop_oneof![
        4 => any_service(),
        6 => (slices.clone(), services.clone(), prop::collection::vec(any_endpoint(), 0..4))
            .prop_map(|(short, of, endpoints)| put_slice(slice(short, of, endpoints))),
        1 => services.prop_map(|short| delete(Kind::Service, short)),
        1 => slices.prop_map(|short| delete(Kind::EndpointSlice, short)),
        1 => any_node(),
        1 => any_cidr(),
        1 => select(vec!["here", "there"]).prop_map(|short| {
            Event::Delete(ObjectRef::new(Kind::Node, ObjectName::cluster(short)))
        }),
    ]
}

/// What is known after all events: the last event of each object.
fn final_state(events: &[Event]) -> Vec<Event> {
    let mut last = BTreeMap::new();
    for event in events {
        match event {
            Event::Apply(object) => last.insert(object.object_ref(), event.clone()),
            Event::Delete(object) => last.remove(object),
            Event::Rejected(..) | Event::Synced => None,
        };
    }
    last.into_values().collect()
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

proptest! {
    #[test]
    fn increments_in_any_order_equal_a_fresh_plan(
        batches in prop::collection::vec(
            (prop::collection::vec(any_event(), 1..5), any::<u8>(), any::<bool>()), 1..12
        ),
        seed in any::<u64>(),
    ) {
        let mut planner = synced();
        let mut sum = Changes { cluster_ranges: Some(Default::default()), ..Changes::default() };
        let mut bits = 0;
        for (batch, new_bits, moves) in &batches {
            add(&mut sum, planner.apply(batch.clone()));
            if *moves {
                bits = *new_bits;
                add(&mut sum, planner.set_node_addresses(node_addresses(bits)));
            }
        }

        let all: Vec<Event> = batches.iter().flat_map(|(batch, ..)| batch.clone()).collect();
        let mut last = final_state(&all);
        // Any order of the final state gives the same plan.
        last.sort_by_cached_key(|event| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            (seed, format!("{event:?}")).hash(&mut hasher);
            hasher.finish()
        });
        let mut fresh = new_planner();
        fresh.set_node_addresses(node_addresses(bits));
        let all = fresh.apply(last.into_iter().chain([Event::Synced]));
        prop_assert_eq!(&sum, &all);
        prop_assert_eq!(planner.desired(), all);
        let told = |planner: &Planner| planner.rejections().collect::<Vec<_>>();
        prop_assert_eq!(told(&planner), told(&fresh));
        prop_assert_eq!(planner.services(), fresh.services());
        prop_assert_eq!(planner.health_checks(), fresh.health_checks());
    }

    #[test]
    fn of_an_address_with_two_frontends_both_are_told(
        events in prop::collection::vec(any_event(), 1..20),
    ) {
        let mut planner = synced();
        planner.apply(events);
        let desired = planner.desired();
        for (key, frontend) in &desired.frontends {
            let Some(frontend) = frontend else { panic!("{key} is to go") };
            let external = desired.frontends.contains_key(&FrontendKey::external(key.addr));
            prop_assert_eq!(frontend.is_split || key.scope == Scope::External, external);
            let has_wildcard = desired.wildcards.contains_key(&key.addr.ip);
            prop_assert_eq!(has_wildcard, !key.addr.is_node_port());
        }
    }

    #[test]
    fn backends_and_draining_are_sorted_and_disjoint(
        events in prop::collection::vec(any_event(), 1..20),
    ) {
        let mut planner = synced();
        planner.apply(events);
        for frontend in planner.desired().frontends.into_values().flatten() {
            prop_assert!(frontend.backends.is_sorted() && frontend.draining.is_sorted());
            let mut all: Vec<_> = frontend.backends.iter().chain(&frontend.draining).collect();
            all.sort_unstable();
            all.dedup_by_key(|backend| backend.addr);
            prop_assert_eq!(all.len(), frontend.backends.len() + frontend.draining.len());
        }
    }
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
