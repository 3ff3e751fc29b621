// SPDX-License-Identifier: Apache-2.0
//! Two services share a backend; deleting one leaves the other whole (S30, and S2 after deletion).

use std::net::SocketAddr;

use pintle_lab::agent::FastPath;
use pintle_lab::client::HttpConnection;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::load::{repeat, short_http, short_udp};

use crate::company::beside_others;
use crate::scene::{DNS, HTTP, Scene, endpoints, web};

#[test]
fn deleting_one_of_two_services_leaves_the_shared_backends() {
    let _company = beside_others();
    let mut scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let second = web(13);
    let all = endpoints(&scene.backends);
    scene.add_service(&second, &all);
    let target = SocketAddr::new(second.ip(Family::V4), HTTP.port);
    let mut open = scene.client.run(|| HttpConnection::open(target)).expect("connect");
    let before = open.get().expect("answer").pod;

    scene.agent.manifests.delete(&second).expect("delete the manifests");
    scene.agent.settle().expect("settle");

    for family in Family::BOTH {
        let (http, dns) = (scene.vip(family, &HTTP), scene.vip(family, &DNS));
        let tcp = scene.client.run(|| repeat(600, || short_http(http)));
        tcp.expect_no_failure("TCP to the remaining service");
        tcp.expect_even(3);
        let udp = scene.client.run(|| repeat(300, || short_udp(dns)));
        udp.expect_no_failure("UDP to the remaining service");
        udp.expect_even(3);
    }
    let after = open.get().expect("a connection outlives its service").pod;
    assert_eq!(before, after);
    scene.client.run(|| short_http(target)).expect_err("the deleted service takes no connection");
}
