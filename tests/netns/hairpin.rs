// SPDX-License-Identifier: Apache-2.0
//! A pod reaches itself through its own service (S9).

use std::net::SocketAddr;

use pintle_lab::agent::FastPath;
use pintle_lab::manifest::Endpoint;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::load::{repeat, short_http, short_udp};

use crate::scene::{DNS, HTTP, Scene, in_every_layout, web};

in_every_layout!(a_pod_reaches_itself_through_its_service);

fn a_pod_reaches_itself_through_its_service(cni: Cni, fast_path: FastPath) {
    let mut scene = Scene::new(cni, fast_path);
    let solo = web(12);
    let only = Endpoint::ready(&scene.backends[0].pod);
    scene.add_service(&solo, &[only]);
    let own = &scene.backends[0].pod;
    for family in Family::BOTH {
        let at = |port| SocketAddr::new(solo.ip(family), port);
        let tcp = own.run(|| repeat(50, || short_http(at(HTTP.port))));
        tcp.expect_no_failure("TCP to itself");
        let udp = own.run(|| repeat(50, || short_udp(at(DNS.port))));
        udp.expect_no_failure("UDP to itself");
        assert_eq!((tcp.by_pod["web-1"], udp.by_pod["web-1"]), (50, 50));
    }
    // As one of three backends, itself included.
    let shared = own.run(|| repeat(300, || short_http(scene.vip(Family::V4, &HTTP))));
    shared.expect_no_failure("TCP to a service that it is part of");
    shared.expect_even(3);
}
