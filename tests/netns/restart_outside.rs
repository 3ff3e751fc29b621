// SPDX-License-Identifier: Apache-2.0
//! Neither a killed agent nor a restart nor an upgrade costs those a connection who come from outside,
//! to backends here and on another node, or from the node itself (C10).

use std::time::Duration;

use pintle_lab::{
    agent::FastPath,
    topology::{Cni, Family},
};
use pintle_tests::load::Kind;

use crate::{
    company::alone,
    exposed::{Exposed, From},
    restart::die_and_return,
    scene::eventually,
};

fn nothing_fails_while_the_agent_dies_and_returns(cni: Cni, fast_path: FastPath, socket_lb: &str) {
    let mut scene = Exposed::new(cni, fast_path, socket_lb);
    let kinds = [
        (Kind::LongLived { pause: Duration::from_millis(100) }, 10),
        (Kind::Short { per_second: 60 }, 1),
        (Kind::UdpNewPort { per_second: 30 }, 1),
        (Kind::UdpSamePort { pause: Duration::from_millis(20) }, 1),
    ];
    let mut loads = Vec::new();
    for (from, family) in
        [From::Outside, From::Node].into_iter().flat_map(|from| Family::BOTH.map(|of| (from, of)))
    {
        for (kind, workers) in kinds {
            let load = scene.load(from, family, workers, kind);
            loads.push((format!("{from:?} {family:?} {kind:?}"), load));
        }
    }
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 20));
    die_and_return(&mut scene.agent);
    for (name, load) in loads {
        let report = load.stop();
        report.expect_no_failure(&name);
        // A socket keeps its backend, and ten connections rarely miss one.
        let expected = match name {
            _ if name.contains("SamePort") => 1,
            _ if name.contains("LongLived") => 2,
            _ => 3,
        };
        assert!(report.by_pod.len() >= expected, "{name}: {report}");
    }
    let masqueraded = scene.agent.counter("masqueraded flows").expect("counters");
    assert!(masqueraded > 50, "{masqueraded} connections to the other node from outside");
}

#[test]
fn nothing_from_outside_or_the_node_fails_while_the_agent_dies_and_returns() {
    let _company = alone();
    nothing_fails_while_the_agent_dies_and_returns(Cni::Ptp, FastPath::Auto, "off");
}

#[test]
fn nothing_fails_beside_translated_sockets_while_the_agent_dies_and_returns() {
    let _company = alone();
    nothing_fails_while_the_agent_dies_and_returns(Cni::Bridge, FastPath::Off, "host");
}
