// SPDX-License-Identifier: Apache-2.0
//! A backend leaves under load: its TCP connections live on, its UDP flows move at once (S5, S29).

use std::net::UdpSocket;
use std::time::Duration;

use pintle_lab::agent::FastPath;
use pintle_lab::client::{HttpConnection, udp_ask_on, udp_pod, udp_socket};
use pintle_lab::manifest::{Condition, Endpoint};
use pintle_lab::topology::{Cni, Family};
use pintle_tests::load::{Kind, Load};

use crate::company::beside_others;
use crate::scene::{DNS, HTTP, Scene, endpoints, eventually, in_every_layout};

const PAUSE: Duration = Duration::from_millis(20);

in_every_layout!(tcp_stays_and_udp_moves);

fn tcp_stays_and_udp_moves(cni: Cni, fast_path: FastPath) {
    let mut scene = Scene::new(cni, fast_path);
    for family in Family::BOTH {
        let (http, dns) = (scene.vip(family, &HTTP), scene.vip(family, &DNS));
        let long = Load::start(&scene.client, http, 30, Kind::LongLived { pause: PAUSE });
        let short = Load::start(&scene.client, http, 2, Kind::Short { per_second: 100 });
        let udp = Load::start(&scene.client, dns, 12, Kind::UdpSamePort { pause: PAUSE });
        eventually("load flows", || long.operations() > 100 && udp.operations() > 100);
        let sockets = scene.client.run(|| sockets_answered_by(dns, "web-1"));

        let remaining = endpoints(&scene.backends[1..]);
        scene.set_endpoints(&remaining);
        let before = scene.backends[0].http.requests();
        for socket in &sockets {
            let answer = udp_ask_on(socket, dns, b"hello").expect("an answer at once");
            assert_ne!(udp_pod(&answer), "web-1", "UDP still goes to the removed backend");
        }
        std::thread::sleep(Duration::from_millis(300));
        let after = scene.backends[0].http.requests();
        assert!(after > before, "no established connection to the removed backend went on");

        for (what, load) in [("established", long), ("short", short), ("UDP", udp)] {
            load.stop().expect_no_failure(what);
        }
        let all = endpoints(&scene.backends);
        scene.set_endpoints(&all);
    }
}

#[test]
fn a_terminating_backend_keeps_its_connections_and_gets_no_new_ones() {
    let _company = beside_others();
    let mut scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let http = scene.vip(Family::V4, &HTTP);
    let mut old: Vec<HttpConnection> = scene
        .client
        .run(|| (0..30).map(|_| HttpConnection::open(http).expect("connect")).collect());
    let pods: Vec<String> = old.iter_mut().map(|open| open.get().expect("answer").pod).collect();
    assert!(pods.iter().any(|pod| pod == "web-1"), "none of 30 connections reached web-1");

    let mut conditions = endpoints(&scene.backends);
    conditions[0] = Endpoint::with(&scene.backends[0].pod, Condition::ServingTerminating);
    scene.set_endpoints(&conditions);
    for (open, pod) in old.iter_mut().zip(&pods) {
        assert_eq!(&open.get().expect("still answers").pod, pod);
    }
    for _ in 0..100 {
        let mut new = scene.client.run(|| HttpConnection::open(http)).expect("connect");
        assert_ne!(new.get().expect("answer").pod, "web-1");
    }
}

#[test]
fn a_udp_flow_survives_a_time_without_endpoints() {
    let _company = beside_others();
    let mut scene = Scene::new(Cni::Ptp, FastPath::Auto);
    for family in Family::BOTH {
        let dns = scene.vip(family, &DNS);
        let socket = scene.client.run(|| udp_socket(dns)).expect("a socket");
        socket.connect(dns).expect("connect");
        let ask = || -> std::io::Result<()> {
            socket.send(b"hello")?;
            socket.recv(&mut [0; 64]).map(drop)
        };
        ask().expect("an answer");
        scene.set_endpoints(&[]);
        let refused = ask().expect_err("no endpoint is left").kind();
        assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
        let all = endpoints(&scene.backends);
        scene.set_endpoints(&all);
        ask().expect("an answer from the same port once endpoints are back");
    }
}

/// A few unconnected sockets whose flow goes to `pod` now.
fn sockets_answered_by(target: std::net::SocketAddr, pod: &str) -> Vec<UdpSocket> {
    let mut found = Vec::new();
    for _ in 0..200 {
        let socket = udp_socket(target).expect("a socket");
        let answer = udp_ask_on(&socket, target, b"hello").expect("an answer");
        if udp_pod(&answer) == pod {
            found.push(socket);
        }
        if found.len() == 5 {
            break;
        }
    }
    assert_eq!(found.len(), 5, "{pod} answered too rarely");
    found
}
