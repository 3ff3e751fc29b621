// SPDX-License-Identifier: Apache-2.0
//! Neither a killed agent nor a restart nor an upgrade costs a connection (C10).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::manifest::Service;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::kernel_state::BpfObjects;
use pintle_tests::load::{Kind, Load, repeat, short_http};
use pintle_tests::variant;

use crate::company::alone;
use crate::scene::{Backend, DNS, HTTP, Scene, endpoints, eventually, web};

#[test]
fn nothing_fails_past_the_stack_while_the_agent_dies_and_returns() {
    let _company = alone();
    no_operation_fails_while_the_agent_dies_and_returns(Cni::Ptp, FastPath::Auto);
}

#[test]
fn nothing_fails_through_the_stack_while_the_agent_dies_and_returns() {
    let _company = alone();
    no_operation_fails_while_the_agent_dies_and_returns(Cni::Bridge, FastPath::Off);
}

fn no_operation_fails_while_the_agent_dies_and_returns(cni: Cni, fast_path: FastPath) {
    let mut scene = Scene::new(cni, fast_path);
    let (v4, v6) = (scene.vip(Family::V4, &HTTP), scene.vip(Family::V6, &HTTP));
    let client = &scene.client;
    let pause = Duration::from_millis(100);
    let loads = [
        ("100 long-lived, IPv4", Load::start(client, v4, 100, Kind::LongLived { pause })),
        ("100 long-lived, IPv6", Load::start(client, v6, 100, Kind::LongLived { pause })),
        ("short, IPv4", Load::start(client, v4, 4, Kind::Short { per_second: 300 })),
        ("short, IPv6", Load::start(client, v6, 4, Kind::Short { per_second: 200 })),
        (
            "UDP",
            Load::start(
                client,
                scene.vip(Family::V4, &DNS),
                2,
                Kind::UdpNewPort { per_second: 100 },
            ),
        ),
    ];
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 50));

    die_and_return(&mut scene.agent);

    for (what, load) in loads {
        load.stop().expect_no_failure(what);
    }
}

/// The agent is killed, restarted, and replaced by another and back.
pub fn die_and_return(agent: &mut Agent) {
    agent.kill().expect("kill -9");
    std::thread::sleep(Duration::from_millis(500));
    agent.start().expect("start again after kill -9");
    std::thread::sleep(Duration::from_millis(200));
    agent.stop().expect("SIGTERM");
    agent.start().expect("restart");
    std::thread::sleep(Duration::from_millis(200));
    upgrade_and_back(agent);
}

/// To a binary whose programs differ from those that run, and back to the first one.
fn upgrade_and_back(agent: &mut Agent) {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (agent.binary(), folder.path().join("pintle"));
    variant::write(&old, &new).expect("a binary with other programs");
    let root = agent.bpf_root().to_owned();
    let tags = || BpfObjects::pinned_below(&root).expect("pinned objects").tags;
    let before = tags();
    assert!(before.len() >= 4, "one program for each hook");
    agent.upgrade(&new).expect("upgrade");
    assert_ne!(tags(), before, "the programs are those of the old binary");
    std::thread::sleep(Duration::from_millis(500));
    agent.upgrade(&old).expect("downgrade");
    assert_eq!(tags(), before);
    std::thread::sleep(Duration::from_millis(200));
}

#[test]
fn killing_the_agent_at_any_moment_of_a_change_costs_nothing_and_leaves_the_right_state() {
    let _company = alone();
    let mut scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let http = scene.vip(Family::V4, &HTTP);
    let pause = Duration::from_millis(50);
    let loads = [
        ("long-lived", Load::start(&scene.client, http, 50, Kind::LongLived { pause })),
        ("short", Load::start(&scene.client, http, 4, Kind::Short { per_second: 300 })),
    ];
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 50));
    for round in 0..20_u64 {
        let chosen = [&[0, 1, 2][..], &[0], &[1, 2], &[2], &[0, 1]][round as usize % 5];
        let chosen: Vec<_> = chosen.iter().map(|index| &scene.backends[*index]).collect();
        let solo = web(20 + round as u8);
        scene.agent.manifests.service(&solo).expect("write a service");
        for service in [&scene.web, &solo] {
            let endpoints = endpoints(chosen.iter().copied());
            scene.agent.manifests.endpoints(service, &endpoints).expect("write the slices");
        }
        // From before the agent has seen the files to after it has programmed them.
        std::thread::sleep(Duration::from_micros(round * 1700));
        scene.agent.kill().expect("kill -9");
        scene.agent.start().expect("start again");
        expect_backends(&scene, &solo, &chosen);
    }
    for (what, load) in loads {
        load.stop().expect_no_failure(what);
    }
}

/// Both services have these backends in the maps, and no others.
fn expect_backends(scene: &Scene, solo: &Service, chosen: &[&Backend]) {
    for service in [&scene.web, solo] {
        let name = format!("shop/{}", service.name);
        let rows = scene.agent.json(&["get", "services", &name]).expect("services");
        for row in rows.as_array().expect("rows") {
            assert_eq!(row["backends"]["ready"], chosen.len(), "{row}");
        }
        let target = SocketAddr::new(service.ip(Family::V4), HTTP.port);
        let report = scene.client.run(|| repeat(30, || short_http(target)));
        report.expect_no_failure("new connections");
        let found: BTreeSet<&str> = report.by_pod.keys().map(String::as_str).collect();
        assert_eq!(found, chosen.iter().map(|backend| backend.pod.name.as_str()).collect());
    }
}
