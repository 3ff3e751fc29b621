// SPDX-License-Identifier: Apache-2.0
//! The API server is away, floods, or forgets: traffic goes on all the time, and what holds in the end
//! is what the server has.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pintle_tests::{
    agent::FastPath,
    api_server::Kind as ObjectKind,
    client::{http_get, udp_ask, udp_pod},
    load::{Kind, Load},
    topology::{Cni, Family},
};

use crate::{
    company::{alone, beside_others},
    exposed::{Exposed, From},
    scene::{DNS, HTTP, endpoints, eventually},
};

/// The longest time between two attempts of the agent, and some more.
const WAITS: Duration = Duration::from_secs(60);

fn within(time: Duration, what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while !fact() {
        assert!(Instant::now() < end, "not within {time:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Connections of every kind, from everywhere.
fn loads(scene: &Exposed) -> Vec<(String, Load)> {
    let kinds = [
        (Kind::LongLived { pause: Duration::from_millis(50) }, 4),
        (Kind::Short { per_second: 60 }, 1),
        (Kind::UdpNewPort { per_second: 30 }, 1),
        (Kind::UdpSamePort { pause: Duration::from_millis(20) }, 1),
    ];
    let ways = From::ALL.into_iter().flat_map(|from| Family::BOTH.map(|family| (from, family)));
    let loads: Vec<_> = ways
        .flat_map(|way| kinds.map(|kind| (way, kind)))
        .map(|((from, family), (kind, workers))| {
            let name = format!("{from:?} {family:?} {kind:?}");
            (name, scene.load(from, family, workers, kind))
        })
        .collect();
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 10));
    loads
}

fn none_has_failed(loads: Vec<(String, Load)>) {
    for (name, load) in loads {
        load.stop().expect_no_failure(&name);
    }
}

/// Waits until the backend of this name, and nobody else, answers a pod at the ClusterIP of either family.
fn only_answers(scene: &Exposed, name: &str) {
    let all = |family| {
        let (ns, http) = scene.way(From::Pod, family, &HTTP);
        let (_, dns) = scene.way(From::Pod, family, &DNS);
        let asked =
            || (http_get(http).expect("an answer"), udp_ask(dns, b"who").expect("one, too"));
        (0..20).all(|_| {
            let (by_tcp, by_udp) = ns.run(asked);
            by_tcp.pod == name && udp_pod(&by_udp) == name
        })
    };
    within(WAITS, name, || Family::BOTH.into_iter().all(all));
}

/// Tells the server, past the agent's being told of it.
fn set_ready_unseen(scene: &Exposed, backends: &[usize]) {
    let chosen = endpoints(backends.iter().map(|index| &scene.backends[*index]));
    scene.agent.manifests.endpoints(&scene.web, &chosen).expect("write the slices");
}

/// Watches that fail, as `pintle status` tells it, whatever else it has to complain of.
fn failing_watches(scene: &Exposed) -> usize {
    let out = scene.agent.cli(&["status", "-o", "json"]).expect("run it");
    let status: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let rejected = status["rejected"].as_array().into_iter().flatten();
    let objects = rejected.filter_map(|one| one["object"].as_str());
    objects.filter(|object| object.starts_with("Watch ")).count()
}

#[test]
fn traffic_goes_on_while_the_api_server_is_away_and_the_agent_dies() {
    let _company = alone();
    let (mut scene, server) = Exposed::at_an_api_server(Cni::Ptp, FastPath::Auto, "off");
    let loads = loads(&scene);
    server.go_away().expect("it goes away");
    eventually("the agent notices", || failing_watches(&scene) > 0);
    set_ready_unseen(&scene, &[2, 0]);
    scene.agent.kill().expect("kill the agent");
    std::thread::sleep(Duration::from_secs(2));
    // It starts, and leaves alone what it finds, for as long as nobody tells it anything.
    scene.agent.launch().expect("start the agent");
    within(WAITS, "the agent asks again", || failing_watches(&scene) > 0);
    std::thread::sleep(Duration::from_secs(5));
    none_has_failed(loads);
    set_ready_unseen(&scene, &[2]);
    server.compact();
    server.come_back().expect("it comes back");
    scene.agent.wait_ready().expect("ready");
    only_answers(&scene, "web-3");
    assert_eq!(failing_watches(&scene), 0);
}

#[test]
fn a_flood_of_changes_and_lost_watches_costs_no_connection_and_ends_right() {
    const ROUNDS: usize = 10;
    let _company = alone();
    let (mut scene, server) = Exposed::at_an_api_server(Cni::Ptp, FastPath::Auto, "off");
    let loads = loads(&scene);
    for round in 0..ROUNDS {
        server.put_yaml(&crowd(round)).expect("put 5,000 endpoints");
        match round % 3 {
            0 => server.cut_watches(),
            1 => server.end_watches(),
            _ => {
                server.compact();
                server.cut_watches();
            }
        }
        server.send_line(ObjectKind::EndpointSlice, "{ this is not JSON");
    }
    none_has_failed(loads);
    set_ready_unseen(&scene, &[2]);
    within(WAITS, "the last state", || {
        failing_watches(&scene) == 0 && holds_crowd(&scene, ROUNDS - 1)
    });
    scene.agent.settle().expect("settle");
    only_answers(&scene, "web-3");
    assert_eq!(failing_watches(&scene), 0);
}

#[test]
fn who_looks_at_a_service_that_is_left_out_finds_an_event() {
    let _company = beside_others();
    let (_scene, server) = Exposed::at_an_api_server(Cni::Ptp, FastPath::Auto, "off");
    let odd = "apiVersion: v1\nkind: Service\nmetadata: {name: odd, namespace: shop}\n\
         spec: {clusterIP: 10.96.0.77, ports: [{name: a, port: 80, protocol: PIGEON}]}\n";
    server.put_yaml(odd).expect("put it");
    within(WAITS, "an Event", || !server.events().is_empty());
    let events = server.events();
    let [event] = &events[..] else { panic!("{events:#?}") };
    assert_eq!(event["involvedObject"]["name"], "odd");
    assert_eq!(event["message"], "port 'a': protocol PIGEON is not supported");
    assert_eq!(event["reason"], "Rejected");
}

/// A service with 5,000 endpoints, other ones in each round.
fn crowd(round: usize) -> String {
    let mut text = "apiVersion: v1\nkind: Service\nmetadata: {name: crowd, namespace: shop}\n\
         spec: {clusterIP: 10.96.0.200, ports: [{name: http, port: 80}]}\n"
        .to_owned();
    for slice in 0..50 {
        let _ = write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: crowd-{slice}, \
             namespace: shop, labels: {{kubernetes.io/service-name: crowd}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints:\n"
        );
        for endpoint in 0..100 {
            let _ = writeln!(text, "- addresses: [10.{}.{slice}.{endpoint}]", 100 + round);
        }
    }
    text
}

/// Whether the maps hold all endpoints of a round, and of no other.
fn holds_crowd(scene: &Exposed, round: usize) -> bool {
    let names = scene.agent.text(&["get", "backends", "-o", "name"]).expect("backends");
    let of_crowd = |name: &&str| name.starts_with("10.1") && !name.starts_with("10.244.");
    let crowd: Vec<&str> = names.lines().filter(of_crowd).collect();
    let of_round = format!("10.{}.", 100 + round);
    crowd.len() == 5_000 && crowd.iter().all(|name| name.starts_with(&of_round))
}
