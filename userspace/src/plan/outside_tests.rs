// SPDX-License-Identifier: Apache-2.0
//! What the planner makes of addresses that clients outside the cluster dial.

use super::*;

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
    let mut planner = new_planner();
    planner.apply([put_service(checked(31000))]);
    assert!(planner.health_checks().is_empty(), "its endpoints are not known yet");
    planner.apply([Event::Synced]);
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
fn affinity_is_one_for_all_addresses_of_a_service_port_and_none_for_two_ports() {
    let mut web = service("web", "10.96.0.1");
    web.affinity = Some(Duration::from_secs(10_800));
    web.external_ips = ["192.0.2.1".parse().unwrap()].into();
    web.load_balancer_ips = ["203.0.113.1".parse().unwrap()].into();
    web.external_traffic_policy = TrafficPolicy::Local;
    let with_node_port =
        |name, number, node_port| ServicePort { node_port: Some(node_port), ..port(name, number) };
    web.ports = [with_node_port("http", 80, 30080), with_node_port("https", 443, 30443)].into();
    let mut planner = synced();
    let changes = planner.apply([put_service(web)]);
    let mut by_port: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for frontend in changes.frontends.values().flatten() {
        assert_eq!(frontend.affinity, Some(Duration::from_secs(10_800)));
        *by_port.entry(frontend.service.clone()).or_default() += 1;
    }
    // The cluster address, and three others for pods and for clients outside.
    let expected = [("shop/web:http".into(), 7), ("shop/web:https".into(), 7)];
    assert_eq!(by_port, expected.into());
}
