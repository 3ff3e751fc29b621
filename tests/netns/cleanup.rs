// SPDX-License-Identifier: Apache-2.0
//! After `pintle cleanup` the node is as it was: programs, qdiscs, pins, sysctls, routes.

use pintle_tests::agent::FastPath;
use pintle_tests::kernel_state::{BpfObjects, NodeState};
use pintle_tests::load::{repeat, short_http};
use pintle_tests::topology::{Cni, Family};

use crate::scene::{HTTP, Scene, beside_others, eventually};

#[test]
fn cleanup_leaves_nothing_behind() {
    let _company = beside_others();
    for cni in [Cni::Ptp, Cni::Bridge] {
        let mut scene = Scene::without_agent(cni, FastPath::Auto).expect("a scene");
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

        scene.agent.stop().expect("stop");
        let alive = scene.client.run(|| repeat(10, || short_http(http)));
        alive.expect_no_failure("with the agent stopped");

        scene.agent.cleanup().expect("cleanup");
        // Detaching frees a program only after a grace period of the kernel.
        eventually("the node is as it was", || read(&scene) == before);
        eventually("programs, maps and links are gone", || objects.still_alive().is_empty());
        scene.client.run(|| short_http(http)).expect_err("nothing serves the ClusterIP any more");
    }
}
