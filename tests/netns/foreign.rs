// SPDX-License-Identifier: Apache-2.0
//! Programs of others on a pod's device: we leave them alone, they see every packet, and packets are
//! not redirected past them.

use pintle_lab::agent::FastPath;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::foreign::ForeignProgram;
use pintle_tests::load::{repeat, short_http};

use crate::clsact::set_mode;
use crate::company::beside_others;
use crate::scene::{HTTP, Scene, eventually};

/// Why the agent does not redirect to the client's device, as `pintle status` tells it.
fn slow(scene: &Scene) -> Option<String> {
    let status = scene.agent.json(&["status"]).expect("status");
    let interfaces = status["programs"]["interfaces"].as_array().expect("interfaces").clone();
    let own = interfaces.iter().find(|found| found["name"] == scene.client.host_device.as_str());
    own.expect("the client's device")["slow"].as_str().map(str::to_owned)
}

fn connect(scene: &Scene, times: u64) {
    let http = scene.vip(Family::V4, &HTTP);
    scene.client.run(|| repeat(times, || short_http(http))).expect_no_failure("connections");
}

fn redirected(scene: &Scene) -> u64 {
    scene.agent.counter("redirected").expect("counters")
}

#[test]
fn a_foreign_tcx_program_is_called_through_start_upgrade_and_cleanup() {
    let _company = beside_others();
    for egress in [true, false] {
        let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
        let node = &scene.world.nodes[0];
        let device = scene.client.host_device.clone();
        let program = ForeignProgram::attach(node, &device, egress).expect("attach");
        scene.agent.start().expect("start");
        let sees = |scene: &Scene, what: &str| {
            let before = program.runs().expect("runs");
            connect(scene, 10);
            let runs = program.runs().expect("runs") - before;
            assert!(runs >= 30, "{what}, egress {egress}: 10 connections, {runs} runs");
        };
        sees(&scene, "after the start");
        if egress {
            assert_eq!(slow(&scene).as_deref(), Some("program meter on egress"));
            assert_eq!(redirected(&scene), 0, "packets are not redirected past it");
        }
        let binary = scene.agent.binary();
        scene.agent.upgrade(&binary).expect("upgrade");
        sees(&scene, "after an upgrade");
        scene.agent.stop().expect("stop");
        scene.agent.cleanup().expect("cleanup");
        let before = program.runs().expect("runs");
        let direct = scene.backends[0].pod.addr(Family::V4, HTTP.target);
        scene.client.run(|| short_http(direct)).expect("routing works");
        assert!(program.runs().expect("runs") > before, "it survives the cleanup");
    }
}

#[test]
fn a_program_that_comes_later_takes_the_fast_path_away_until_it_goes() {
    let _company = beside_others();
    let scene = Scene::new(Cni::Bridge, FastPath::Auto);
    let node = &scene.world.nodes[0];
    let device = &scene.client.host_device;
    connect(&scene, 10);
    assert!(redirected(&scene) > 0);
    for egress in [true, false] {
        let program = ForeignProgram::attach(node, device, egress).expect("attach");
        eventually("the program is noticed", || slow(&scene).is_some());
        let (before, runs) = (redirected(&scene), program.runs().expect("runs"));
        connect(&scene, 10);
        assert_eq!(redirected(&scene), before, "egress {egress}");
        assert!(program.runs().expect("runs") >= runs + 30, "egress {egress}");
        drop(program);
        eventually("the fast path is back", || slow(&scene).is_none());
    }
    connect(&scene, 10);
    assert!(redirected(&scene) > 20);
}

#[test]
fn a_foreign_filter_and_its_qdisc_survive_in_both_modes() {
    let _company = beside_others();
    for mode in ["tcx", "clsact"] {
        let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
        set_mode(&mut scene, mode);
        let device = scene.client.host_device.clone();
        let node = &scene.world.nodes[0];
        node.tc(&[format!("qdisc add dev {device} clsact")]).expect("a qdisc");
        let filter = ForeignProgram::filter(node, &device).expect("a filter");
        scene.agent.start().expect("start");
        assert!(slow(&scene).is_some_and(|reason| reason.ends_with("on egress")), "{mode}");
        let runs = filter.runs().expect("runs");
        connect(&scene, 10);
        assert_eq!(redirected(&scene), 0, "{mode}: packets are not redirected past it");
        assert!(filter.runs().expect("runs") >= runs + 30, "{mode}: it is called");
        scene.agent.stop().expect("stop");
        scene.agent.cleanup().expect("cleanup");
        let line = ["filter", "show", "dev", &device, "egress"];
        let out = scene.world.nodes[0].command("tc").args(line).output().expect("tc");
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(text.contains("60000") && !text.contains("to_pod"), "{mode}: {text}");
    }
}
