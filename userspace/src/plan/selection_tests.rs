// SPDX-License-Identifier: Apache-2.0
//! The tables of endpoint selection.

use super::*;
use crate::model::{addr::Protocol, name::ObjectName, slice::Conditions};

/// An endpoint in words: `1 ready here`, `2 terminating zone=a,b node=n1`. The number is the last
/// octet; `here` is our node, without it the endpoint is elsewhere.
fn endpoint(words: &str) -> Endpoint {
    let mut words = words.split(' ');
    let octet: u8 = words.next().unwrap().parse().unwrap();
    let mut endpoint = Endpoint {
        ip: [10, 1, 0, octet].into(),
        conditions: Conditions::default(),
        node: Some("elsewhere".into()),
        pod: None,
        hints: None,
    };
    let mut hints = Hints::default();
    for word in words {
        let (ready, serving, terminating) = match word.split_once('=').unwrap_or((word, "")) {
            ("ready", _) => (true, true, false),
            ("unready", _) => (false, false, false),
            ("serving", _) => (false, true, false),
            ("terminating", _) => (false, true, true),
            ("stopping", _) => (false, false, true),
            ("here", _) => {
                endpoint.node = Some("here".into());
                continue;
            }
            ("nowhere", _) => {
                endpoint.node = None;
                continue;
            }
            ("zone", zones) => {
                hints.zones = zones.split(',').map(Arc::from).collect();
                continue;
            }
            ("node", nodes) => {
                hints.nodes = nodes.split(',').map(Arc::from).collect();
                continue;
            }
            _ => panic!("{word}"),
        };
        endpoint.conditions = Conditions { ready, serving, terminating };
    }
    endpoint.hints = (!hints.is_empty()).then(|| Arc::new(hints));
    endpoint
}

fn slice(name: &str, port: u16, endpoints: &[&str]) -> Arc<EndpointSlice> {
    Arc::new(EndpointSlice {
        weight: 1,
        name: ObjectName::namespaced("shop", name),
        service: ObjectName::namespaced("shop", "web"),
        family: Family::V4,
        ports: [SlicePort { name: "http".into(), port, protocol: Protocol::Tcp }].into(),
        endpoints: endpoints.iter().map(|words| endpoint(words)).collect(),
        trigger_time: None,
    })
}

fn http() -> ServicePort {
    ServicePort { name: "http".into(), port: 80, protocol: Protocol::Tcp, node_port: None }
}

fn octets(backends: &[DesiredBackend]) -> Vec<u8> {
    let octet = |backend: &DesiredBackend| match backend.addr.ip {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => panic!("IPv4 only"),
    };
    backends.iter().map(octet).collect()
}

fn selected(policy: TrafficPolicy, endpoints: &[&str]) -> Selection {
    let slices = [slice("a", 8080, endpoints)];
    let place = Place { node: "here".into(), zone: Some("a".into()) };
    select(&candidates(&slices, &http(), Family::V4), policy, &place)
}

#[track_caller]
fn check(policy: TrafficPolicy, endpoints: &[&str], backends: &[u8], draining: &[u8]) {
    let selection = selected(policy, endpoints);
    assert_eq!(octets(&selection.backends), backends, "backends of {endpoints:?}");
    assert_eq!(octets(&selection.draining), draining, "draining of {endpoints:?}");
}

#[test]
fn conditions_decide_under_policy_cluster() {
    for (endpoints, backends, draining) in [
        (&[][..], &[][..], &[][..]),
        (&["1 ready", "2 ready here"], &[1, 2], &[]),
        // Who does not serve any more drains nothing.
        (&["1 ready", "2 unready", "3 serving"], &[1], &[3]),
        // One ready endpoint anywhere, and those that terminate are not used.
        (&["1 ready", "2 terminating", "3 stopping"], &[1], &[2]),
        (&["2 terminating", "3 stopping", "4 terminating"], &[2, 4], &[]),
        // Serving without being ready or terminating is never used.
        (&["1 serving"], &[], &[1]),
        (&["1 serving", "2 terminating"], &[2], &[1]),
        (&["1 unready", "2 stopping"], &[], &[]),
        (&["9 ready nowhere", "3 ready"], &[3, 9], &[]),
    ] {
        check(TrafficPolicy::Cluster, endpoints, backends, draining);
    }
}

#[test]
fn hints_decide_when_every_ready_endpoint_has_them() {
    for (endpoints, backends, draining) in [
        (&["1 ready zone=a", "2 ready zone=b"][..], &[1][..], &[2][..]),
        (&["1 ready zone=a,b", "2 ready zone=b"], &[1], &[2]),
        (&["1 ready node=here", "2 ready node=there"], &[1], &[2]),
        // The node goes before the zone.
        (&["1 ready zone=a node=there", "2 ready zone=b node=here"], &[2], &[1]),
        // Without our node among the hints, the zone decides.
        (&["1 ready zone=a node=n1", "2 ready zone=b node=n2"], &[1], &[2]),
        // One without a node hint: the zone decides.
        (&["1 ready zone=a node=here", "2 ready zone=a", "3 ready zone=b"], &[1, 2], &[3]),
        // One without a hint of either type, or nobody for us: no hint counts.
        (&["1 ready zone=a", "2 ready"], &[1, 2], &[]),
        (&["1 ready node=here", "2 ready"], &[1, 2], &[]),
        (&["1 ready zone=b", "2 ready zone=c"], &[1, 2], &[]),
        // Only ready endpoints are asked for hints.
        (&["1 ready zone=a", "2 ready zone=b", "3 unready"], &[1], &[2]),
        (&["1 unready zone=a", "2 ready zone=b"], &[2], &[]),
        // The fallback ignores topology.
        (&["1 terminating zone=a", "2 terminating zone=b"], &[1, 2], &[]),
    ] {
        check(TrafficPolicy::Cluster, endpoints, backends, draining);
    }
}

#[test]
fn policy_local_uses_this_node_only() {
    for (endpoints, backends, draining, no_backend) in [
        (&["1 ready here", "2 ready"][..], &[1][..], &[2][..], NoBackend::Reject),
        (&["1 ready here zone=b", "2 ready zone=a"], &[1], &[2], NoBackend::Reject),
        (&["1 terminating here", "2 ready"], &[1], &[2], NoBackend::Reject),
        (&["1 ready here", "2 terminating here"], &[1], &[2], NoBackend::Reject),
        // Others exist, and the policy excludes them.
        (&["1 ready"], &[], &[1], NoBackend::Drop),
        (&["1 terminating"], &[], &[1], NoBackend::Drop),
        (&["1 unready here", "2 ready"], &[], &[2], NoBackend::Drop),
        (&["1 ready nowhere"], &[], &[1], NoBackend::Drop),
        // Nobody can answer at all.
        (&[], &[], &[], NoBackend::Reject),
        (&["1 unready here", "2 stopping", "3 serving"], &[], &[3], NoBackend::Reject),
    ] {
        check(TrafficPolicy::Local, endpoints, backends, draining);
        assert_eq!(
            selected(TrafficPolicy::Local, endpoints).no_backend,
            no_backend,
            "{endpoints:?}"
        );
    }
}

#[test]
fn policy_cluster_without_backends_always_refuses() {
    for endpoints in [&[][..], &["1 unready"], &["1 serving"], &["1 stopping here"]] {
        let selection = selected(TrafficPolicy::Cluster, endpoints);
        assert_eq!(selection.no_backend, NoBackend::Reject, "{endpoints:?}");
    }
}

#[test]
fn nothing_is_local_to_a_node_without_name() {
    let mut unnamed = endpoint("1 ready");
    unnamed.node = Some("".into());
    let place = Place { node: "".into(), zone: None };
    assert!(!place.is_local(&unnamed));
}

#[test]
fn an_address_in_two_slices_counts_once_and_the_living_one_wins() {
    for (first, second, ready) in [
        ("1 terminating", "1 ready", true),
        ("1 ready", "1 terminating", true),
        ("1 ready", "1 unready", true),
        ("1 unready", "1 ready", true),
        ("1 terminating", "1 unready", false),
        ("1 unready", "1 terminating", false),
    ] {
        let slices = [slice("a", 8080, &[first]), slice("b", 8080, &[second])];
        let found = candidates(&slices, &http(), Family::V4);
        assert_eq!(found.len(), 1);
        let conditions = found[0].endpoint.conditions;
        assert_eq!((conditions.ready, conditions.terminating), (ready, false), "{first}, {second}");
    }
}

#[test]
fn slices_may_give_one_port_name_different_numbers() {
    let slices = [slice("a", 8080, &["1 ready"]), slice("b", 9090, &["1 ready", "2 ready"])];
    let found = candidates(&slices, &http(), Family::V4);
    let addrs: Vec<String> = found.iter().map(|c| c.addr.to_string()).collect();
    assert_eq!(addrs, ["10.1.0.1:8080", "10.1.0.1:9090", "10.1.0.2:9090"]);
}

#[test]
fn name_and_protocol_and_family_tie_a_slice_port_to_a_service_port() {
    let slices = [slice("a", 8080, &["1 ready"])];
    let port = |name: &str, protocol| ServicePort { name: name.into(), protocol, ..http() };
    for (port, family, count) in [
        (port("http", Protocol::Tcp), Family::V4, 1),
        (port("http", Protocol::Udp), Family::V4, 0),
        (port("https", Protocol::Tcp), Family::V4, 0),
        (port("", Protocol::Tcp), Family::V4, 0),
        (port("http", Protocol::Tcp), Family::V6, 0),
    ] {
        assert_eq!(candidates(&slices, &port, family).len(), count, "{port:?} {family}");
    }
}

#[test]
fn backends_are_in_numerical_order() {
    let slices = [slice("a", 8080, &["10 ready", "9 ready"]), slice("b", 80, &["9 ready"])];
    let found = candidates(&slices, &http(), Family::V4);
    let addrs: Vec<String> = found.iter().map(|c| c.addr.to_string()).collect();
    assert_eq!(addrs, ["10.1.0.9:80", "10.1.0.9:8080", "10.1.0.10:8080"]);
}

#[test]
fn endpoints_weigh_what_their_slice_says() {
    let mut heavy = slice("b", 8080, &["2"]);
    Arc::get_mut(&mut heavy).expect("one owner").weight = 5;
    let slices = [slice("a", 8080, &["1"]), heavy];
    let place = Place { node: "here".into(), zone: None };
    let all = candidates(&slices, &http(), Family::V4);
    let backends = select(&all, TrafficPolicy::Cluster, &place).backends;
    assert_eq!(backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [1, 5]);
}
