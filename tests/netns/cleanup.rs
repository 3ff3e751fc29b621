// SPDX-License-Identifier: Apache-2.0
//! After `pintle cleanup` the node is as it was: programs, qdiscs, pins, sysctls, routes.

use std::time::{Duration, Instant};

use pintle_lab::agent::FastPath;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::kernel_state::{BpfObjects, NodeState};
use pintle_tests::load::{repeat, short_http};

use crate::clsact::set_mode;
use crate::company::beside_others;
use crate::scene::{HTTP, Scene};

#[test]
fn cleanup_leaves_nothing_behind() {
    let _company = beside_others();
    for (cni, mode) in [(Cni::Ptp, "tcx"), (Cni::Bridge, "clsact"), (Cni::Bridge, "tcx")] {
        let mut scene = Scene::without_agent(cni, FastPath::Auto).expect("a scene");
        set_mode(&mut scene, mode);
        let http = scene.vip(Family::V4, &HTTP);
        let root = scene.agent.bpf_root().to_owned();
        let read = |scene: &Scene| NodeState::read(&scene.world.nodes[0], &root).expect("state");
        let before = read(&scene);
        assert!(before.pins.is_empty() && before.tcx_programs.is_empty(), "{before:#?}");

        scene.agent.start().expect("start");
        scene.client.run(|| repeat(10, || short_http(http))).expect_no_failure("before cleanup");
        let during = read(&scene);
        assert!(!during.pins.is_empty(), "nothing is pinned below {}", root.display());
        assert_ne!(before, during, "the comparison sees an attached agent");
        let objects = BpfObjects::pinned_below(&root).expect("ids of pinned objects");
        assert!(!objects.is_empty(), "no pin below {} is a BPF object", root.display());

        // Killed, so that its socket stays.
        scene.agent.kill().expect("kill");
        let alive = scene.client.run(|| repeat(10, || short_http(http)));
        alive.expect_no_failure("with the agent killed");

        scene.agent.cleanup().expect("cleanup");
        assert_eq!(read(&scene), before, "the node is as it was");
        // The kernel frees what nobody uses after a grace period, long on a busy machine.
        let end = Instant::now() + Duration::from_secs(5);
        while !objects.still_alive().is_empty() {
            let alive = objects.still_alive();
            assert!(Instant::now() < end, "{cni:?}, {mode}: {alive:?} of {objects:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!scene.agent.run_dir().exists(), "the socket and its directory are left");
        scene.client.run(|| short_http(http)).expect_err("nothing serves the ClusterIP any more");
        scene.agent.cleanup().expect("cleaning up a clean node");
    }
}

#[test]
fn cleanup_beside_a_running_agent_is_refused_unless_forced() {
    let _company = beside_others();
    let scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let http = scene.vip(Family::V4, &HTTP);
    let refused = scene.agent.cli(&["cleanup"]).expect("run");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("an agent is running") && text.contains("--force"), "{text}");
    scene.client.run(|| repeat(10, || short_http(http))).expect_no_failure("nothing was touched");

    let forced = scene.agent.cli(&["cleanup", "--force"]).expect("run");
    assert!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
    assert!(!scene.agent.bpf_root().exists());
    scene.client.run(|| short_http(http)).expect_err("nothing serves the ClusterIP any more");
}
