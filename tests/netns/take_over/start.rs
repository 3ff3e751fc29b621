// SPDX-License-Identifier: Apache-2.0
//! When an agent takes over: not beside a kube-proxy that runs, not without services, not against the
//! operator's will.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use pintle::takeover;
use pintle_lab::agent::FastPath;
use pintle_lab::client::http_get;
use pintle_lab::netns::NetNs;
use pintle_lab::topology::{Cni, Family};

use super::{Mode, proxy};
use crate::company::beside_others;
use crate::scene::{HTTP, Scene, eventually};

/// Answers every request in the node's network namespace, as a kube-proxy would.
fn answer_as_kube_proxy(node: &NetNs) {
    let listener = node.run(|| TcpListener::bind("127.0.0.1:10249")).expect("listen");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\niptables");
        }
    });
}

#[test]
fn beside_a_kube_proxy_that_answers_the_agent_does_not_start() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    let node = (*scene.world.nodes[0]).clone();
    proxy(&scene, Mode::Nftables, 1);
    answer_as_kube_proxy(&node);
    expect_refusal(&scene, "mode iptables at 127.0.0.1:10249");
    scene.agent.extra_args = vec!["--take-over=off".into()];
    expect_refusal(&scene, "mode iptables at 127.0.0.1:10249");
    scene.agent.extra_args = vec!["--take-over=force".into()];
    scene.agent.start().expect("start");
    let left = node.run(|| takeover::leftovers().expect("look"));
    assert!(left.are_live(), "rules in use are left alone");
}

#[test]
fn beside_a_kube_proxys_process_the_agent_does_not_start_and_others_do_not_count() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("kube-proxy");
    std::fs::copy("/bin/sleep", &program).expect("a program of that name");
    let run = |ns: &NetNs| {
        let mut command = ns.command(&program);
        command.arg("60").stdin(Stdio::null()).spawn().expect("run it")
    };
    let node = (*scene.world.nodes[0]).clone();
    let mut process = run(&node);
    expect_refusal(&scene, &format!("process {}", process.id()));
    process.kill().expect("kill");
    process.wait().expect("wait");
    let mut elsewhere = run(&NetNs::new().expect("another namespace"));
    let started = scene.agent.start();
    elsewhere.kill().expect("kill");
    elsewhere.wait().expect("wait");
    started.expect("start");
}

#[track_caller]
fn expect_refusal(scene: &Scene, sign: &str) {
    let output = scene.agent.fail_to_start().expect("run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(
        error.contains("kube-proxy is running on this node") && error.contains(sign),
        "{error}"
    );
    assert!(error.contains("hint:") && error.contains("--disable-kube-proxy"), "{error}");
    assert!(!scene.agent.bpf_root().exists(), "nothing was loaded");
}

#[test]
fn nothing_is_taken_over_for_a_source_without_services() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    let node = (*scene.world.nodes[0]).clone();
    proxy(&scene, Mode::Nftables, 1);
    let target = scene.vip(Family::V4, &HTTP);
    let manifests = scene.agent.manifests.path().to_owned();
    let aside = manifests.with_extension("aside");
    std::fs::create_dir(&aside).expect("another directory");
    // Pods stay: the source is one that has no services yet.
    for file in std::fs::read_dir(&manifests).expect("read") {
        let file = file.expect("a file");
        let name = file.file_name().to_string_lossy().into_owned();
        if name.ends_with("-service.yaml") || name.ends_with("-endpoints.yaml") {
            std::fs::rename(file.path(), aside.join(name)).expect("move it away");
        }
    }
    scene.agent.start().expect("start");
    assert!(node.run(|| takeover::leftovers().expect("look")).are_live());
    scene.client.run(|| http_get(target)).expect("an answer through kube-proxy's rules");
    for file in std::fs::read_dir(&aside).expect("read") {
        let file = file.expect("a file");
        std::fs::rename(file.path(), manifests.join(file.file_name())).expect("move it back");
    }
    eventually("it is taken over", || node.run(|| takeover::leftovers().expect("look")).is_empty());
    scene.agent.wait_ready().expect("ready");
    scene.client.run(|| http_get(target)).expect("an answer");
}

#[test]
fn leftovers_stay_where_the_operator_wants_it_so() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    let node = (*scene.world.nodes[0]).clone();
    proxy(&scene, Mode::Nftables, 1);
    scene.agent.extra_args = vec!["--take-over=off".into()];
    scene.agent.start().expect("start");
    assert!(node.run(|| takeover::leftovers().expect("look")).are_live());
    scene.agent.stop().expect("stop");
    scene.agent.extra_args.clear();
    scene.agent.start().expect("start again");
    assert!(node.run(|| takeover::leftovers().expect("look")).is_empty());
}
