// SPDX-License-Identifier: Apache-2.0
//! Pods that come later are served without a restart, and pods that go leave nothing behind.

use pintle_lab::agent::FastPath;
use pintle_lab::client::http_get;
use pintle_lab::manifest::Endpoint;
use pintle_lab::objects::PodObject;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::load::{Kind, Load, repeat, short_http, short_udp};

use crate::company::alone;
use crate::scene::{Backend, DNS, HTTP, Scene, endpoints, eventually, in_every_layout};

in_every_layout!(new_pods_are_served_at_once);

fn new_pods_are_served_at_once(cni: Cni, fast_path: FastPath) {
    let mut scene = Scene::new(cni, fast_path);
    for round in 0..5 {
        let late = scene.world.nodes[0].add_pod("late-client").expect("a new client");
        for family in Family::BOTH {
            let (http, dns) = (scene.vip(family, &HTTP), scene.vip(family, &DNS));
            // The agent hears of the device by netlink; a first connect may be too early.
            eventually("the new pod is attached", || late.run(|| http_get(http)).is_ok());
            let tcp = late.run(|| repeat(50, || short_http(http)));
            tcp.expect_no_failure(&format!("TCP from a new pod, round {round}"));
            let udp = late.run(|| repeat(50, || short_udp(dns)));
            udp.expect_no_failure(&format!("UDP from a new pod, round {round}"));
        }
        scene.world.nodes[0].remove_pod(late).expect("remove the client");
    }
    let fourth = Backend::new(&mut scene.world.nodes[0], 4).expect("a new backend");
    let only = endpoints([&fourth]);
    scene.set_endpoints(&only);
    for family in Family::BOTH {
        let http = scene.vip(family, &HTTP);
        let tcp = scene.client.run(|| repeat(50, || short_http(http)));
        tcp.expect_no_failure("TCP to a new backend");
        assert_eq!(tcp.by_pod["web-4"], 50);
    }
}

/// The agent learns of the pod and of its endpoint at once, and on a bridge not yet where the pod is.
#[test]
fn a_new_backend_is_sent_nothing_before_it_is_let_in() {
    let _company = alone();
    let mut scene = Scene::new(Cni::Bridge, FastPath::Off);
    let loads = Family::BOTH.map(|family| {
        let target = scene.vip(family, &DNS);
        let load = Load::start(&scene.client, target, 2, Kind::UdpNewPort { per_second: 2000 });
        (family, load)
    });
    let mut new = Vec::new();
    for number in 4..10 {
        let name = format!("web-{number}");
        let node = &mut scene.world.nodes[0];
        let pod = node.wire_pod(&name).expect("a pod that nobody knows");
        let mut backend = Backend::of(pod).expect("its servers");
        let object = PodObject::new("shop", &name, &node.name, &[]);
        backend.pod = node.announce(backend.pod, object).expect("its object");
        new.push(backend);
        let ready: Vec<Endpoint> =
            endpoints(&scene.backends).into_iter().chain(endpoints(&new)).collect();
        scene.set_endpoints(&ready);
    }
    let (mut answered, mut reports) = (0, Vec::new());
    for (family, load) in loads {
        let report = load.stop();
        answered += report.by_pod.get("web-9").copied().unwrap_or_default();
        reports.push((family, report));
    }
    let closed = scene.agent.counter("policy not programmed").expect("counters");
    assert_eq!(closed, 0, "packets to a pod that is closed: {reports:?}");
    reports.iter().for_each(|(family, report)| report.expect_no_failure(&format!("{family:?}")));
    assert!(answered > 0, "the last one is used: {reports:?}");
}
