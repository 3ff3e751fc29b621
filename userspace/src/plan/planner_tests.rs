// SPDX-License-Identifier: Apache-2.0
//! Increments against a fresh plan, conflicts, and what people are told.

use std::time::Duration;

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    model::{
        addr::Protocol,
        name::ObjectName,
        service::{ClusterIps, ServiceType, TrafficPolicy},
        slice::{Conditions, Endpoint, Hints, SlicePort},
    },
    plan::desired::NoBackend,
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
        ports: [ServicePort { name: "http".into(), port: 80, protocol: Protocol::Tcp }].into(),
        internal_traffic_policy: TrafficPolicy::Cluster,
        affinity: None,
    }
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
    }
}

fn put_service(service: Service) -> Event {
    Event::Apply(Object::Service(service.into()))
}

fn put_slice(slice: EndpointSlice) -> Event {
    Event::Apply(Object::EndpointSlice(slice.into()))
}

fn put_node(short: &str, zone: Option<&str>) -> Event {
    let (name, zone) = (ObjectName::cluster(short), zone.map(Arc::from));
    Event::Apply(Object::Node(
        Node { name, zone, internal_ips: [].into(), is_leaving: false }.into(),
    ))
}

fn delete(kind: Kind, short: &str) -> Event {
    Event::Delete(ObjectRef::new(kind, name(short)))
}

fn synced() -> Planner {
    let mut planner = Planner::new("here");
    planner.apply([Event::Synced]);
    planner
}

/// Frontends and backends as text; `-` for a frontend that goes, `!` after those that drain.
fn text(changes: &Changes) -> Vec<String> {
    let list = |backends: &[crate::plan::desired::DesiredBackend]| {
        backends.iter().map(|backend| format!(" {}", backend.addr)).collect::<String>()
    };
    let line = |(addr, frontend): (&FrontendAddr, &Option<DesiredFrontend>)| match frontend {
        None => format!("{addr} -"),
        Some(f) if f.draining.is_empty() => format!("{addr} {}{}", f.service, list(&f.backends)),
        Some(f) => format!("{addr} {}{} !{}", f.service, list(&f.backends), list(&f.draining)),
    };
    changes.iter().map(line).collect()
}

#[test]
fn nothing_is_told_before_the_source_is_synced() {
    let mut planner = Planner::new("here");
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
    moved.ports = [ServicePort { name: "".into(), port: 81, protocol: Protocol::Udp }].into();
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
    let frontend = changes.values().next().unwrap().as_ref().unwrap();
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

    let frontend = planner.services()[1].frontend;
    let backends = planner.backends(&frontend);
    assert_eq!(backends.len(), 2);
    assert_eq!(backends[0].pod.as_deref(), Some("web-1"));
    assert!(backends[0].local && !backends[1].local);
    assert!(!backends[1].conditions.ready);
    assert!(planner.backends(&FrontendAddr { port: 1, ..frontend }).is_empty());
}

fn any_service() -> impl Strategy<Value = Event> {
    (
        select(vec!["a", "b", "c"]),
        select(vec!["10.96.0.1", "10.96.0.2", "fd00::1"]),
        select(vec![None, Some(1), Some(2)]),
        select(vec![80_u16, 81]),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(short, ip, created, port, local, dual)| {
            let mut service = service(short, ip);
            service.created = created;
            service.ports[0].port = port;
            if local {
                service.internal_traffic_policy = TrafficPolicy::Local;
            }
            if dual {
                service.cluster_ips.add("fd00::2".parse().unwrap());
            }
            put_service(service)
        })
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
        1 => (select(vec!["here", "there"]), select(vec![None, Some("a"), Some("b")]))
            .prop_map(|(short, zone)| put_node(short, zone)),
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

proptest! {
    #[test]
    fn increments_in_any_order_equal_a_fresh_plan(
        batches in prop::collection::vec(prop::collection::vec(any_event(), 1..5), 1..12),
        seed in any::<u64>(),
    ) {
        let mut planner = synced();
        let mut sum = Changes::new();
        for batch in &batches {
            for (addr, frontend) in planner.apply(batch.clone()) {
                match frontend {
                    Some(frontend) => sum.insert(addr, Some(frontend)),
                    None => sum.remove(&addr),
                };
            }
        }

        let mut last = final_state(&batches.concat());
        // Any order of the final state gives the same plan.
        last.sort_by_cached_key(|event| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            (seed, format!("{event:?}")).hash(&mut hasher);
            hasher.finish()
        });
        let mut fresh = Planner::new("here");
        let all = fresh.apply(last.into_iter().chain([Event::Synced]));
        prop_assert_eq!(&sum, &all);
        prop_assert_eq!(planner.desired(), all);
        let told = |planner: &Planner| planner.rejections().collect::<Vec<_>>();
        prop_assert_eq!(told(&planner), told(&fresh));
        prop_assert_eq!(planner.services(), fresh.services());
    }

    #[test]
    fn backends_and_draining_are_sorted_and_disjoint(
        events in prop::collection::vec(any_event(), 1..20),
    ) {
        let mut planner = synced();
        planner.apply(events);
        for frontend in planner.desired().into_values().flatten() {
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
