// SPDX-License-Identifier: Apache-2.0
//! Pods become unready, terminate and come back under continuous traffic, from a pod, from the node and
//! from outside: nothing is lost while Kubernetes promises an endpoint, and refused when there is none
//! (S5, S29).

use std::{net::TcpStream, time::Duration};

use pintle_lab::{
    agent::FastPath,
    client::{DEADLINE, HttpConnection, http_get},
    manifest::{
        Condition::{
            self, NotReady, PublishedNotReady, PublishedTerminating, Ready, ServingTerminating,
            Terminating,
        },
        Endpoint,
    },
    topology::{Cni, Family},
};
use pintle_tests::load::{Kind, Load};

use crate::{
    company::beside_others,
    exposed::{Exposed, From},
    scene::{HTTP, eventually},
};

const SHORT: Kind = Kind::Short { per_second: 40 };
const LONG: Kind = Kind::LongLived { pause: Duration::from_millis(20) };
const SAME_PORT: Kind = Kind::UdpSamePort { pause: Duration::from_millis(10) };
const NEW_PORT: Kind = Kind::UdpNewPort { per_second: 40 };

/// Endpoints in these conditions; those without one are gone.
fn set(scene: &mut Exposed, conditions: [Option<Condition>; 3]) {
    let pods = scene.backends.iter().zip(conditions);
    let endpoints: Vec<Endpoint> = pods
        .filter_map(|(backend, condition)| Some(Endpoint::with(&backend.pod, condition?)))
        .collect();
    scene.set_endpoints(&endpoints);
}

fn start(scene: &Exposed, kinds: &[(Kind, u32)]) -> Vec<(String, Load)> {
    let mut loads = Vec::new();
    for (from, family) in From::ALL.into_iter().flat_map(|from| Family::BOTH.map(|of| (from, of))) {
        for (kind, workers) in kinds {
            let name = format!("{from:?} {family:?} {kind:?}");
            loads.push((name, scene.load(from, family, *workers, *kind)));
        }
    }
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 10));
    loads
}

/// Pods that take a new connection, from each way.
#[track_caller]
fn expect_new(scene: &Exposed, pods: &[usize]) {
    for (from, family) in From::ALL.into_iter().flat_map(|from| Family::BOTH.map(|of| (from, of))) {
        let (ns, target) = scene.way(from, family, &HTTP);
        for _ in 0..4 {
            let pod = ns.run(|| http_get(target)).expect("an answer").pod;
            let index = scene.backends.iter().position(|backend| backend.pod.name == pod);
            assert!(index.is_some_and(|index| pods.contains(&index)), "{from:?}: {pod}, {pods:?}");
        }
    }
}

fn nothing_is_lost_while_there_is_an_endpoint(cni: Cni, fast_path: FastPath, socket_lb: &str) {
    let mut scene = Exposed::new(cni, fast_path, socket_lb);
    let loads = start(&scene, &[(SHORT, 1), (LONG, 4), (SAME_PORT, 2), (NEW_PORT, 1)]);
    // Each step with the pods that take new connections.
    let steps: [([Option<Condition>; 3], &[usize]); 9] = [
        ([Some(ServingTerminating), Some(Ready), Some(Ready)], &[1, 2]),
        ([Some(Terminating), Some(Ready), Some(ServingTerminating)], &[1]),
        ([None, Some(Ready), Some(NotReady)], &[1]),
        ([Some(Ready), Some(NotReady), Some(Ready)], &[0, 2]),
        // Nobody is ready: those that terminate and still answer.
        ([Some(ServingTerminating); 3], &[0, 1, 2]),
        ([Some(NotReady), Some(ServingTerminating), Some(Terminating)], &[1]),
        ([Some(PublishedNotReady), Some(NotReady), Some(NotReady)], &[0]),
        ([Some(PublishedNotReady), Some(PublishedTerminating), Some(Ready)], &[0, 1, 2]),
        ([Some(Ready); 3], &[0, 1, 2]),
    ];
    for (conditions, takes_new) in steps {
        set(&mut scene, conditions);
        expect_new(&scene, takes_new);
    }
    for (name, load) in loads {
        load.stop().expect_no_failure(&name);
    }
}

#[test]
fn nothing_is_lost_past_the_stack_while_there_is_an_endpoint() {
    let _company = beside_others();
    nothing_is_lost_while_there_is_an_endpoint(Cni::Ptp, FastPath::Auto, "off");
}

#[test]
fn nothing_is_lost_through_the_stack_and_by_the_node_s_sockets_while_there_is_an_endpoint() {
    let _company = beside_others();
    nothing_is_lost_while_there_is_an_endpoint(Cni::Bridge, FastPath::Off, "host");
}

#[test]
fn without_any_endpoint_new_connections_are_refused_and_established_ones_go_on() {
    let _company = beside_others();
    let mut scene = Exposed::new(Cni::Ptp, FastPath::Auto, "off");
    let long = start(&scene, &[(LONG, 4)]);
    for nobody in [[Some(NotReady); 3], [Some(Terminating); 3], [None; 3]] {
        set(&mut scene, nobody);
        // What becomes of UDP is a matter of streams, see `udp_moves`.
        for (name, load) in start(&scene, &[(SHORT, 1)]) {
            let report = load.stop();
            let refused = report.failed.keys().all(|error| error.contains("Connection refused"));
            assert!(report.ok == 0 && refused, "{name}: {report}");
        }
        set(&mut scene, [Some(Ready); 3]);
        for (name, load) in start(&scene, &[(SHORT, 1), (NEW_PORT, 1)]) {
            load.stop().expect_no_failure(&name);
        }
    }
    for (name, load) in long {
        load.stop().expect_no_failure(&name);
    }
}

#[test]
fn a_connection_ends_when_its_pod_ends_it_and_the_next_one_finds_another() {
    let _company = beside_others();
    let mut scene = Exposed::new(Cni::Ptp, FastPath::Auto, "off");
    let (ns, target) = scene.way(From::Outside, Family::V4, &HTTP);
    let (ns, open) = (ns.clone(), || TcpStream::connect_timeout(&target, DEADLINE));
    let mut connections: Vec<HttpConnection> = (0..20)
        .map(|_| HttpConnection::over(ns.run(open).expect("connect")).expect("a connection"))
        .collect();
    let pods: Vec<String> =
        connections.iter_mut().map(|open| open.get().expect("an answer").pod).collect();
    assert!(pods.iter().any(|pod| pod == "web-1"), "{pods:?}");
    set(&mut scene, [Some(Terminating), Some(Ready), Some(Ready)]);
    drop(scene.backends.remove(0));
    std::thread::sleep(Duration::from_millis(300));
    for (open, pod) in connections.iter_mut().zip(&pods) {
        match open.get() {
            Ok(answer) => assert_eq!(&answer.pod, pod),
            Err(error) => {
                assert_eq!(pod, "web-1", "{error}");
                assert!(error.kind() != std::io::ErrorKind::WouldBlock, "it hears of it at once");
                let again = ns.run(|| http_get(target)).expect("another pod answers");
                assert_ne!(again.pod, "web-1");
            }
        }
    }
}
