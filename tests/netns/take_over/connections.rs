// SPDX-License-Identifier: Apache-2.0
//! No connection breaks that kube-proxy's rules opened.

use std::time::Duration;

use pintle::datapath::{pins::Pins, view::View};
use pintle::takeover::{self, conntrack, keeper, netlink::Netfilter};
use pintle_lab::agent::FastPath;
use pintle_lab::client::{HttpConnection, connect_from, http_get, udp_ask_on, udp_pod, udp_socket};
use pintle_lab::kube_proxy;
use pintle_lab::netns::NetNs;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::load::{Kind, Load};
use socket2::SockRef;

use super::{Mode, proxy};
use crate::company::{alone, beside_others};
use crate::scene::{DNS, HTTP, Scene, endpoints, eventually};

#[test]
fn connections_outlive_the_last_rule_that_tracked_them() {
    let _company = beside_others();
    for mode in [Mode::Legacy, Mode::IptablesNft, Mode::Nftables] {
        let scene = Scene::without_agent(Cni::Ptp, FastPath::Off).expect("build the scene");
        proxy(&scene, mode, 3);
        let pause = Duration::from_millis(20);
        let load = |family| {
            let target = scene.vip(family, &HTTP);
            Load::start(&scene.client, target, 5, Kind::LongLived { pause })
        };
        let loads = Family::BOTH.map(load);
        eventually("all loads flow", || loads.iter().all(|load| load.operations() > 20));
        let connections = scene.world.nodes[0].run(|| {
            let mut netfilter = Netfilter::open().expect("open").expect("netfilter");
            let found = conntrack::translated(&mut netfilter).expect("read");
            for family in [libc::AF_INET, libc::AF_INET6] {
                keeper::hold(&mut netfilter, family as u8).expect("hold");
            }
            takeover::remove().expect("remove");
            found
        });
        assert_eq!(connections.len(), 10, "{mode:?} {connections:?}");
        let before: Vec<u64> = loads.iter().map(Load::operations).collect();
        eventually("all loads go on", || {
            loads.iter().zip(&before).all(|(load, before)| load.operations() > before + 20)
        });
        loads.into_iter().for_each(|load| load.stop().expect_no_failure(&format!("{mode:?}")));
        scene.world.nodes[0].run(|| {
            let mut netfilter = Netfilter::open().expect("open").expect("netfilter");
            keeper::release(&mut netfilter).expect("release");
            assert!(keeper::held(&mut netfilter).expect("held").is_empty());
        });
    }
}

/// Packets that a table of nf_tables keeps connections alive by.
fn is_held(node: &NetNs) -> bool {
    kube_proxy::ruleset(node).expect("list").contains("pintle-take-over")
}

/// The programs let packets of unknown connections pass.
fn is_under_way(scene: &Scene) -> bool {
    let pins = Pins::new(scene.agent.bpf_root());
    View::open(pins).expect("open").settings().expect("read").take_over != 0
}

fn take_over_breaks_none_of_200_connections(cni: Cni, mode: Mode) {
    let _company = alone();
    let mut scene = Scene::without_agent(cni, FastPath::Auto).expect("build the scene");
    let node = (*scene.world.nodes[0]).clone();
    proxy(&scene, mode, 1000);
    let pause = Duration::from_millis(50);
    let (http, dns) = (|family| scene.vip(family, &HTTP), |family| scene.vip(family, &DNS));
    let outsider = scene.world.add_outsider().expect("a client outside");
    // How many connections they keep, and how many new ones they make in a second. Only those of the
    // host meet kube-proxy's rules until these go.
    let clients: [(&str, &NetNs, u32, u32); 3] = [
        ("a pod", &scene.client, 60, 80),
        ("the host", &node, 20, 400),
        ("outside", &outsider, 20, 80),
    ];
    let mut loads = Vec::new();
    for (who, ns, connections, per_second) in clients {
        for family in Family::BOTH {
            let mut start = |what, target, workers, kind| {
                let what = format!("{what} {family:?} from {who}");
                loads.push((what, Load::start(ns, target, workers, kind)));
            };
            start("long-lived", http(family), connections, Kind::LongLived { pause });
            start("UDP", dns(family), 5, Kind::UdpSamePort { pause });
            start("short", http(family), 4, Kind::Short { per_second });
        }
    }
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 100));
    // Nobody's kube-proxy runs, so its rules are leftovers.
    scene.agent.start().expect("start");
    let left = node.run(|| takeover::leftovers().expect("look"));
    assert!(left.is_empty(), "{left} is left");
    assert!(is_held(&node));
    assert!(!is_under_way(&scene));
    let before: Vec<u64> = loads.iter().map(|(_, load)| load.operations()).collect();
    eventually("all loads go on", || {
        let mut pairs = loads.iter().zip(&before);
        pairs.all(|((_, load), before)| load.operations() > before + 100)
    });
    for (what, load) in loads {
        load.stop().expect_no_failure(&what);
    }
    // New connections are ours.
    let flows = scene.agent.counter("new flows").expect("the counter");
    for family in Family::BOTH {
        let target = scene.vip(family, &HTTP);
        scene.client.run(|| http_get(target)).expect("an answer");
    }
    assert_eq!(scene.agent.counter("new flows").expect("the counter"), flows + 2);
    scene.agent.stop().expect("stop");
    scene.agent.cleanup().expect("cleanup");
    assert!(!is_held(&node), "cleanup leaves nothing behind");
}

#[test]
fn no_connection_breaks_when_legacy_iptables_is_taken_over() {
    take_over_breaks_none_of_200_connections(Cni::Ptp, Mode::Legacy);
}

#[test]
fn no_connection_breaks_when_iptables_nft_is_taken_over() {
    take_over_breaks_none_of_200_connections(Cni::Bridge, Mode::IptablesNft);
}

#[test]
fn no_connection_breaks_when_nftables_mode_is_taken_over() {
    take_over_breaks_none_of_200_connections(Cni::Ptp, Mode::Nftables);
}

#[test]
fn a_port_that_a_kept_connection_had_may_dial_again() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    proxy(&scene, Mode::Nftables, 1);
    let target = scene.vip(Family::V4, &HTTP);
    let dial = || {
        let stream = connect_from(20_000, target).expect("connect");
        // It ends with a reset and leaves the port at once.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
        HttpConnection::over(stream).expect("prepare")
    };
    let mut kept = scene.client.run(dial);
    kept.get().expect("an answer through kube-proxy's rules");
    scene.agent.start().expect("start");
    kept.get().expect("an answer of the same connection");
    assert_eq!(scene.agent.counter("new flows").expect("the counter"), 0);
    drop(kept);
    for round in 1..=3 {
        scene.client.run(dial).get().expect("an answer to a new connection");
        assert_eq!(scene.agent.counter("new flows").expect("the counter"), round);
    }
}

#[test]
fn a_kept_udp_socket_leaves_a_backend_that_goes() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    proxy(&scene, Mode::Nftables, 1);
    let target = scene.vip(Family::V4, &DNS);
    let socket = scene.client.run(|| udp_socket(target)).expect("a socket");
    let ask = || udp_pod(&udp_ask_on(&socket, target, b"hello").expect("an answer"));
    let pod = ask();
    scene.agent.start().expect("start");
    assert_eq!(ask(), pod, "the kernel's translation goes on");
    let others = scene.backends.iter().filter(|backend| backend.pod.name != pod);
    let others = endpoints(others);
    scene.set_endpoints(&others);
    let moved = ask();
    assert_ne!(moved, pod);
    assert_eq!(ask(), moved);
}

#[test]
fn an_agent_that_dies_on_the_way_is_followed_by_one_that_goes_on() {
    let _company = alone();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    let node = (*scene.world.nodes[0]).clone();
    proxy(&scene, Mode::IptablesNft, 10);
    // kube-proxy's chains cannot go while this leads there.
    let rule = "add table ip nat\nadd chain ip nat MINE\n\
                add rule ip nat MINE ip daddr vmap { 192.0.2.1 : jump KUBE-POSTROUTING }\n";
    kube_proxy::nft(&node, rule).expect("a rule in the way");
    let target = scene.vip(Family::V4, &HTTP);
    let pause = Duration::from_millis(20);
    let load = Load::start(&scene.client, target, 20, Kind::LongLived { pause });
    eventually("the load flows", || load.operations() > 100);
    scene.agent.launch().expect("start");
    eventually("it cannot end", || scene.agent.log().contains("taking over from kube-proxy: "));
    let status = scene.agent.cli(&["status"]).expect("status");
    let text = String::from_utf8_lossy(&status.stdout);
    assert!(text.contains("PROBLEM    taking over from kube-proxy"), "{text}");
    assert!(is_under_way(&scene));
    scene.agent.kill().expect("kill -9");
    assert!(is_under_way(&scene));
    kube_proxy::nft(&node, "delete chain ip nat MINE\n").expect("out of the way");
    scene.agent.start().expect("start again");
    let left = node.run(|| takeover::leftovers().expect("look"));
    assert!(left.is_empty(), "{left} is left");
    let before = load.operations();
    eventually("the load goes on", || load.operations() > before + 100);
    load.stop().expect_no_failure("long-lived");
}
