// SPDX-License-Identifier: Apache-2.0
//! Connections to a ClusterIP reach its backends evenly and look like the ClusterIP's (S1, S2, S8).

use pintle_lab::agent::FastPath;
use pintle_lab::client::http_get;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::load::{repeat, short_http, short_udp};

use crate::scene::{DNS, HTTP, Scene, in_every_layout};

in_every_layout!(connections_spread_evenly_and_keep_their_addresses);

fn connections_spread_evenly_and_keep_their_addresses(cni: Cni, fast_path: FastPath) {
    let scene = Scene::new(cni, fast_path);
    assert_eq!(scene.agent.counter("redirected").expect("counters"), 0);
    for family in Family::BOTH {
        let (http, dns) = (scene.vip(family, &HTTP), scene.vip(family, &DNS));

        let answer = scene.client.run(|| http_get(http)).expect("one request");
        assert_eq!(answer.peer.ip(), scene.client.ip(family), "the backend sees the client itself");

        let times = if family == Family::V4 { 10_000 } else { 2_000 };
        let sample = || {
            let tcp = scene.client.run(|| repeat(times, || short_http(http)));
            tcp.expect_no_failure("short connections");
            tcp.expect_even(3);
            tcp
        };
        let tcp = sample();
        println!("{tcp}");
        // Of 10,000 uniform choices among three, one sample in 800 has a share that is 5 % off; two
        // in a row are no chance.
        if family == Family::V4 && !tcp.is_within(3, 0.05) {
            let again = sample();
            assert!(again.is_within(3, 0.05), "twice more than 5 % off: {tcp}; {again}");
        }

        // Each datagram also checks that its reply comes from the ClusterIP.
        let udp = scene.client.run(|| repeat(times / 2, || short_udp(dns)));
        udp.expect_no_failure("datagrams from new ports");
        udp.expect_even(3);
    }
    // Five packets or more of each TCP connection and two of each datagram; on a bridge a few are
    // sent before the node has learned where the pods are.
    let redirected = scene.agent.counter("redirected").expect("counters");
    match fast_path {
        FastPath::Auto => assert!(redirected >= 60_000 + 12_000, "{redirected} redirected"),
        FastPath::Off => assert_eq!(redirected, 0),
    }
}
