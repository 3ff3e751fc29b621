// SPDX-License-Identifier: Apache-2.0
//! Where another agent enforces policy in netfilter, no packet goes past the host's stack.

use anyhow::ensure;
use pintle_lab::agent::FastPath;
use pintle_lab::client::http_get;
use pintle_lab::topology::{Cni, Family, Node};

use crate::company::beside_others;
use crate::scene::{HTTP, Scene};

#[test]
fn a_policy_engine_in_nftables_switches_the_fast_path_off() {
    check(
        "nft",
        &[&["add", "table", "inet", "filter"], &["add", "chain", "inet", "filter", "cali-FORWARD"]],
    );
}

#[test]
fn a_policy_engine_in_legacy_iptables_switches_the_fast_path_off() {
    check("iptables-legacy", &[&["--wait", "-t", "filter", "-N", "KUBE-ROUTER-FORWARD"]]);
}

#[test]
fn other_rules_leave_the_fast_path_on() {
    let _company = beside_others();
    let scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    let node = &scene.world.nodes[0];
    run(node, "nft", &["add", "table", "inet", "filter"]).expect("a table");
    run(node, "nft", &["add", "chain", "inet", "filter", "KUBE-FORWARD"]).expect("a chain");
    assert!(redirected(scene) > 0, "nothing was redirected");
}

fn check(program: &str, commands: &[&[&str]]) {
    let _company = beside_others();
    let scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    for arguments in commands {
        run(&scene.world.nodes[0], program, arguments).expect("add the chain");
    }
    assert_eq!(redirected(scene), 0, "packets escaped the policy engine");
}

/// Sends requests through the service and tells how many packets skipped the stack.
fn redirected(mut scene: Scene) -> u64 {
    scene.agent.start().expect("start");
    for family in Family::BOTH {
        let target = scene.vip(family, &HTTP);
        scene.client.run(|| http_get(target)).expect("an answer");
    }
    scene.agent.counter("redirected").expect("the counter")
}

fn run(node: &Node, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = node.command(program).args(arguments).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {error}");
    Ok(())
}
