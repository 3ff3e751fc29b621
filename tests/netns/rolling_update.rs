// SPDX-License-Identifier: Apache-2.0
//! Three pods are replaced one by one under load: nobody notices but who has a connection that a pod
//! ends itself.

use std::{thread, time::Duration};

use pintle_lab::{
    agent::FastPath,
    manifest::{Condition, Endpoint},
    topology::{Cni, Family},
};
use pintle_tests::load::{Kind, Load};

use crate::{
    company::alone,
    exposed::{Exposed, From},
    scene::{Backend, eventually},
};

/// Connections that are kept open; each has a server that ends it once in the update.
const KEPT: u32 = 6;

fn a_rolling_update_costs_nothing(mut scene: Exposed) {
    let kinds = [
        (Kind::Short { per_second: 60 }, 1),
        (Kind::UdpNewPort { per_second: 60 }, 1),
        (Kind::UdpSamePort { pause: Duration::from_millis(5) }, 2),
        (Kind::LongLived { pause: Duration::from_millis(20) }, KEPT),
    ];
    let mut loads: Vec<(String, Kind, Load)> = Vec::new();
    for (from, family) in From::ALL.into_iter().flat_map(|from| Family::BOTH.map(|of| (from, of))) {
        for (kind, workers) in kinds {
            let name = format!("{from:?} {family:?} {kind:?}");
            loads.push((name, kind, scene.load(from, family, workers, kind)));
        }
    }
    eventually("all loads flow", || loads.iter().all(|(_, _, load)| load.operations() > 10));
    for number in 0..3 {
        replace_the_oldest(&mut scene, number);
    }
    for (name, kind, load) in loads {
        let report = load.stop();
        if !matches!(kind, Kind::LongLived { .. }) {
            report.expect_no_failure(&name);
            continue;
        }
        // Each new pod may be the next to be replaced, but none is replaced twice.
        let ended = report.failures();
        assert!(report.ok > 0 && ended <= u64::from(KEPT) * 3, "{name}: {report}");
        assert!(!report.failed.contains_key("timed out"), "{name}: {report}");
        assert!(
            !report.failed.contains_key("Connection refused (os error 111)"),
            "{name}: {report}"
        );
    }
}

/// As a Deployment does it: a new pod first, then the oldest one goes, gracefully.
fn replace_the_oldest(scene: &mut Exposed, number: u8) {
    let node = usize::from(number) % 2;
    let new = Backend::new(&mut scene.world.nodes[node], 4 + number).expect("a new pod");
    scene.backends.push(new);
    set_oldest(scene, Some(Condition::Ready));
    set_oldest(scene, Some(Condition::ServingTerminating));
    thread::sleep(Duration::from_millis(200));
    set_oldest(scene, Some(Condition::Terminating));
    let Backend { pod, .. } = scene.backends.remove(0);
    // Its connections are told before it is unplugged.
    thread::sleep(Duration::from_millis(200));
    let node = scene.world.nodes.iter().find(|node| node.name == pod.node).expect("its node");
    node.remove_pod(pod).expect("unplug the pod");
    let rest: Vec<Endpoint> =
        scene.backends.iter().map(|backend| Endpoint::ready(&backend.pod)).collect();
    scene.set_endpoints(&rest);
}

fn set_oldest(scene: &mut Exposed, condition: Option<Condition>) {
    let mut endpoints: Vec<Endpoint> =
        scene.backends.iter().map(|backend| Endpoint::ready(&backend.pod)).collect();
    if let Some(condition) = condition {
        endpoints[0].condition = condition;
    }
    scene.set_endpoints(&endpoints);
}

#[test]
fn past_the_stack_a_rolling_update_costs_nothing() {
    let _company = alone();
    a_rolling_update_costs_nothing(Exposed::new(Cni::Ptp, FastPath::Auto, "off"));
}

#[test]
fn through_the_stack_and_by_the_node_s_sockets_a_rolling_update_costs_nothing() {
    let _company = alone();
    a_rolling_update_costs_nothing(Exposed::new(Cni::Bridge, FastPath::Off, "host"));
}

#[test]
fn told_by_an_api_server_a_rolling_update_costs_nothing() {
    let _company = alone();
    let (scene, _server) = Exposed::at_an_api_server(Cni::Bridge, FastPath::Auto, "off");
    a_rolling_update_costs_nothing(scene);
}
