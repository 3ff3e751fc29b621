// SPDX-License-Identifier: Apache-2.0
//! Any sequence of changes against a plan from scratch.

use proptest::{prelude::*, sample::select};

use super::*;

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
