// SPDX-License-Identifier: Apache-2.0
//! Programs as filters on clsact qdiscs, for kernels without tcx; a change of mode loses nothing and
//! leaves one of the two.

use std::net::SocketAddr;
use std::time::Duration;

use pintle_lab::agent::FastPath;
use pintle_lab::manifest::Endpoint;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::kernel_state::NodeState;
use pintle_tests::load::{Kind, Load, repeat, short_http, short_udp};

use crate::company::{alone, beside_others};
use crate::scene::{DNS, HTTP, Scene, eventually, web};

#[test]
fn services_work_through_clsact_past_the_stack() {
    let _company = beside_others();
    services_work_through_clsact(Cni::Ptp, FastPath::Auto);
}

#[test]
fn services_work_through_clsact_and_the_stack() {
    let _company = beside_others();
    services_work_through_clsact(Cni::Bridge, FastPath::Off);
}

fn services_work_through_clsact(cni: Cni, fast_path: FastPath) {
    let mut scene = Scene::without_agent(cni, fast_path).expect("a scene");
    set_mode(&mut scene, "clsact");
    scene.agent.start().expect("start");
    expect_attached(&scene, "clsact");
    for family in Family::BOTH {
        let (http, dns) = (scene.vip(family, &HTTP), scene.vip(family, &DNS));
        let tcp = scene.client.run(|| repeat(600, || short_http(http)));
        tcp.expect_no_failure("TCP");
        tcp.expect_even(3);
        let udp = scene.client.run(|| repeat(300, || short_udp(dns)));
        udp.expect_no_failure("UDP");
        udp.expect_even(3);
    }
    let redirected = scene.agent.counter("redirected").expect("counters");
    assert_eq!(redirected > 300, fast_path == FastPath::Auto, "{redirected} redirected");
    let solo = web(12);
    let own = Endpoint::ready(&scene.backends[0].pod);
    scene.add_service(&solo, &[own]);
    let target = SocketAddr::new(solo.ip(Family::V4), HTTP.port);
    let hairpin = scene.backends[0].pod.run(|| repeat(50, || short_http(target)));
    hairpin.expect_no_failure("a pod to itself");
}

#[test]
fn a_change_of_mode_loses_no_connection_and_leaves_one_program() {
    let _company = alone();
    let mut scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let http = scene.vip(Family::V4, &HTTP);
    let pause = Duration::from_millis(20);
    let loads = [
        ("long-lived", Load::start(&scene.client, http, 50, Kind::LongLived { pause })),
        ("short", Load::start(&scene.client, http, 4, Kind::Short { per_second: 500 })),
    ];
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 50));
    for mode in ["clsact", "tcx", "clsact", "clsact", "tcx"] {
        scene.agent.stop().expect("stop");
        set_mode(&mut scene, mode);
        scene.agent.start().expect("start");
        expect_attached(&scene, mode);
        std::thread::sleep(Duration::from_millis(100));
    }
    for (what, load) in loads {
        load.stop().expect_no_failure(what);
    }
}

pub fn set_mode(scene: &mut Scene, mode: &str) {
    scene.agent.extra_args = vec!["--attach".into(), mode.into()];
}

/// Both hooks are on every pod's device and on the uplink, and one is on loopback, in this mode alone.
fn expect_attached(scene: &Scene, mode: &str) {
    let state = NodeState::read(&scene.world.nodes[0], scene.agent.bpf_root()).expect("state");
    let pods = scene.backends.len() + 1;
    let (programs, devices) = (2 * pods + 2 + 1, pods + 2);
    let hooks = ["from_pod", "to_pod", "from_net", "to_net"];
    let filters = state.tables.iter().filter(|(line, text)| {
        line.starts_with("tc filter") && hooks.iter().any(|hook| text.contains(hook))
    });
    let found = (state.tcx_programs.values().sum::<u32>() as usize, filters.count());
    let qdiscs = state.tables["tc qdisc show"].matches("clsact").count();
    match mode {
        "tcx" => assert_eq!((found, qdiscs), ((programs, 0), 0), "{state:#?}"),
        _ => assert_eq!((found, qdiscs), ((0, programs), devices), "{state:#?}"),
    }
    let status = scene.agent.json(&["status"]).expect("status");
    assert_eq!(status["programs"]["attached"], programs, "{status}");
    assert_eq!(status["programs"]["interfaces"][0]["mode"], mode, "{status}");
}
