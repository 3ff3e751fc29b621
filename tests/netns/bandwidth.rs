// SPDX-License-Identifier: Apache-2.0
//! A bandwidth limit on a pod's interface applies: its packets go through the stack as long as it is
//! there, and no connection breaks when it comes and goes.

use std::time::Duration;

use pintle_lab::agent::FastPath;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::load::{Kind, Load, repeat, short_http};

use crate::company::beside_others;
use crate::scene::{HTTP, Scene, endpoints, eventually};

#[test]
fn a_pod_with_a_limit_is_reached_through_the_stack_until_it_is_lifted() {
    let _company = beside_others();
    let mut scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let only = endpoints(&scene.backends[..1]);
    scene.set_endpoints(&only);
    let http = scene.vip(Family::V4, &HTTP);
    let pause = Duration::from_millis(10);
    let load = Load::start(&scene.client, http, 10, Kind::LongLived { pause });
    eventually("load flows", || load.operations() > 50);
    let device = scene.backends[0].pod.host_device.clone();
    let (node, agent) = (&scene.world.nodes[0], &scene.agent);
    let slow = || {
        let status = agent.json(&["status"]).expect("status");
        let all = status["programs"]["interfaces"].as_array().expect("interfaces").clone();
        let own = all.iter().find(|found| found["name"] == device.as_str()).expect("the device");
        own["slow"].as_str().map(str::to_owned)
    };
    let redirected = || agent.counter("redirected").expect("counters");
    let connect = || scene.client.run(|| repeat(50, || short_http(http)));
    connect().expect_no_failure("before");
    assert!(redirected() > 200, "{}", redirected());

    let limit = "root tbf rate 100mbit burst 100k latency 50ms";
    node.tc(&[format!("qdisc add dev {device} {limit}")]).expect("a limit");
    eventually("the limit is noticed", || slow().as_deref() == Some("qdisc tbf"));
    let through = limited(&scene, &device);
    connect().expect_no_failure("with the limit");
    let through = limited(&scene, &device) - through;
    assert!(through >= 200, "50 connections, {through} packets through the limit");

    node.tc(&[format!("qdisc del dev {device} root")]).expect("no limit");
    eventually("the fast path is back", || slow().is_none());
    let before = redirected();
    connect().expect_no_failure("after");
    assert!(redirected() >= before + 300, "{}", redirected() - before);
    load.stop().expect_no_failure("connections from before the limit");
}

#[test]
fn what_a_limited_client_downloads_passes_its_limit() {
    let _company = beside_others();
    let scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let device = &scene.client.host_device;
    let limit = "root tbf rate 100mbit burst 100k latency 50ms";
    scene.world.nodes[0].tc(&[format!("qdisc add dev {device} {limit}")]).expect("a limit");
    eventually("the limit is noticed", || {
        scene.agent.text(&["status"]).is_ok_and(|text| text.contains("qdisc tbf"))
    });
    let before = limited(&scene, device);
    for family in Family::BOTH {
        let http = scene.vip(family, &HTTP);
        scene.client.run(|| repeat(50, || short_http(http))).expect_no_failure("connections");
    }
    let through = limited(&scene, device) - before;
    assert!(through >= 300, "100 connections, {through} packets through the limit");
    assert_eq!(scene.agent.counter("redirected").expect("counters"), 0);
}

/// Packets that the limit has let through.
fn limited(scene: &Scene, device: &str) -> u64 {
    let args = ["-s", "-j", "qdisc", "show", "dev", device, "root"];
    let out = scene.world.nodes[0].command("tc").args(args).output().expect("tc");
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    found[0]["packets"].as_u64().unwrap_or_else(|| panic!("{found}"))
}
