// SPDX-License-Identifier: Apache-2.0
//! Nodes with Maglev tables: a client's backend does not depend on the node that it comes to.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::client::{DEADLINE, udp_get_from};
use pintle_lab::manifest::slice_yaml;
use pintle_lab::topology::{Cni, Family};

use crate::company::beside_others;
use crate::three_nodes::{NODE_PORT, Policy, ThreeNodes};

fn scene() -> ThreeNodes {
    let maglev = |agents: &mut [Agent]| {
        for agent in agents {
            agent.extra_args.push("--backend-selection=maglev".into());
        }
    };
    ThreeNodes::on(ThreeNodes::world(Cni::Ptp), FastPath::Auto, maglev)
}

/// For each source port of the client outside the pod that answers at a node's port.
fn chosen(scene: &ThreeNodes, node: usize, family: Family) -> BTreeMap<u16, String> {
    let target = SocketAddr::new(scene.world.nodes[node - 1].ip_of(family), NODE_PORT);
    let ask = |port| {
        let answer = scene.outside.run(|| udp_get_from(port, target, DEADLINE));
        (port, answer.expect("an answer").pod)
    };
    (20_000..20_024).map(ask).collect()
}

#[test]
fn nodes_send_a_client_to_the_same_backend() {
    let _company = beside_others();
    let mut scene = scene();
    for family in Family::BOTH {
        let one = chosen(&scene, 1, family);
        assert_eq!(one, chosen(&scene, 2, family));
        assert!(one.values().any(|pod| *pod != one[&20_000]), "{one:?}");
    }
    // An agent that starts again finds the table as it is.
    let before = chosen(&scene, 1, Family::V4);
    let agent = &mut scene.agents[0];
    agent.stop().expect("stop");
    agent.start().expect("start");
    assert_eq!(chosen(&scene, 1, Family::V4), before);
}

#[test]
fn clients_of_others_stay_when_a_backend_goes() {
    let _company = beside_others();
    let mut scene = scene();
    let before = Family::BOTH.map(|family| chosen(&scene, 1, family));
    let staying = scene.ready(&[1, 2]);
    scene.set([Policy::Cluster; 2], &staying);
    let gone = &scene.pod(3).name;
    for (family, before) in Family::BOTH.into_iter().zip(before) {
        let after = chosen(&scene, 1, family);
        for (port, pod) in before.iter().filter(|(_, pod)| *pod != gone) {
            assert_eq!(&after[port], pod, "{port} {family:?}");
        }
        assert!(after.values().all(|pod| pod != gone), "{after:?}");
    }
}

/// The slice of a node's backend, thirty times as heavy as others.
fn heavy(scene: &ThreeNodes, node: usize, family: Family) -> String {
    let slice = slice_yaml(&scene.web, &scene.ready(&[node]), family);
    let name = format!("name: {}-", scene.web.name);
    let slice = slice.replacen(&name, &format!("{name}heavy-"), 1);
    slice.replacen("metadata:\n", "metadata:\n  annotations: {pintle.dev/weight: '30'}\n", 1)
}

#[test]
fn a_backend_takes_connections_by_its_weight() {
    let _company = beside_others();
    let mut scene = scene();
    let light = scene.ready(&[1, 2]);
    scene.set([Policy::Cluster; 2], &light);
    let slices = Family::BOTH.map(|family| heavy(&scene, 3, family)).join("---\n");
    for agent in &mut scene.agents {
        agent.manifests.write("heavy.yaml", &slices).expect("write the slices");
        agent.settle().expect("settle");
    }
    for family in Family::BOTH {
        let one = chosen(&scene, 1, family);
        assert_eq!(one, chosen(&scene, 2, family), "the same on both nodes");
        let taken = one.values().filter(|pod| **pod == scene.pod(3).name).count();
        assert!(taken > one.len() / 2, "{one:?}");
    }
}
