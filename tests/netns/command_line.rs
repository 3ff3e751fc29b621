// SPDX-License-Identifier: Apache-2.0
//! What the commands answer when something is wrong: an error, a hint, an exit code.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use pintle_abi::{ABI_VERSION, map};
use pintle_lab::agent::FastPath;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::foreign;
use pintle_tests::kernel_state::NodeState;
use pintle_tests::load::{repeat, short_http};

use crate::company::beside_others;
use crate::scene::{HTTP, Scene};

const NOBODY: u32 = 65534;

/// The exit code and every word are as expected.
#[track_caller]
fn expect(output: Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word} in: {text}");
    }
}

#[test]
fn exit_codes_tell_done_failed_wrong_and_bad_apart() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
    let run = |scene: &Scene, args: &[&str]| scene.agent.cli(args).expect("run");
    expect(run(&scene, &["get", "flows"]), 1, &["error: nothing is loaded", "hint:  start"]);
    expect(run(&scene, &["status"]), 1, &["error: nothing is loaded"]);
    expect(run(&scene, &["cleanup"]), 0, &["removed 0 programs and 0 maps"]);
    expect(run(&scene, &["get", "nothing"]), 2, &["unrecognized subcommand"]);
    expect(run(&scene, &["status", "--timeout", "1"]), 2, &["--wait"]);
    let refused = run(&scene, &["get", "flows", "-o", "json"]);
    expect(refused, 1, &["{\"error\":\"nothing is loaded on this node\",\"hint\":\"start"]);

    scene.agent.start().expect("start");
    expect(run(&scene, &["status"]), 0, &["OK", "SERVICES", "FLOWS"]);
    expect(run(&scene, &["status", "--wait"]), 0, &["OK"]);
    expect(run(&scene, &["version", "-o", "json"]), 0, &["\"output_version\":1"]);
    expect(run(&scene, &["completion", "bash"]), 0, &["_pintle"]);
    expect(run(&scene, &["get", "services", "shop/web-11"]), 1, &["did you mean shop/web-10?"]);
    expect(scene.agent.fail_to_start().expect("run"), 1, &["another agent answers", "hint:"]);

    scene.agent.kill().expect("kill");
    expect(run(&scene, &["status"]), 3, &["UNHEALTHY", "no agent is running"]);
    expect(run(&scene, &["status", "--wait", "--timeout", "1"]), 3, &["not everything"]);
    expect(run(&scene, &["get", "services"]), 0, &["note: names are unknown", "10.96.0.10:80"]);
}

#[test]
fn an_agent_without_its_source_attaches_nothing() {
    let _company = beside_others();
    let scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
    std::fs::remove_dir_all(scene.agent.manifests.path()).expect("remove the directory");
    let output = scene.agent.fail_to_start().expect("run");
    expect(output, 1, &["error: there is no directory", "hint:  --source dir:PATH"]);
    assert!(!scene.agent.bpf_root().exists());
}

#[test]
fn flows_show_the_names_of_pods_that_the_source_has() {
    let _company = beside_others();
    let scene = Scene::new(Cni::Ptp, FastPath::Auto);
    for family in Family::BOTH {
        let http = scene.vip(family, &HTTP);
        scene.client.run(|| repeat(20, || short_http(http))).expect_no_failure("connections");
    }
    let text = scene.agent.text(&["get", "flows", "--from", "shop/client"]).expect("flows");
    assert_eq!(text.matches("shop/client:").count(), 40, "{text}");
    assert_eq!(text.matches("shop/web-").count(), 40, "{text}");
    let numeric = scene.agent.text(&["get", "flows", "--numeric"]).expect("flows");
    assert!(!numeric.contains("shop/"), "{numeric}");
}

#[test]
fn a_root_outside_of_a_bpf_filesystem_is_an_error_with_a_hint() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("pintle");
    scene.agent.set_bpf_root(&root);
    let output = scene.agent.fail_to_start().expect("run");
    expect(output, 1, &["is not in a bpf filesystem", "hint:  mount -t bpf"]);
    assert!(!root.exists());
}

#[test]
fn a_foreign_map_under_our_name_is_named_and_nothing_is_touched() {
    let _company = beside_others();
    let scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
    let root = scene.agent.bpf_root();
    let pin = root.join(format!("v{ABI_VERSION}/maps/{}", map::SETTINGS.name));
    std::fs::create_dir_all(pin.parent().expect("a parent")).expect("directories");
    foreign::pin_map(&pin).expect("pin a map");
    let output = scene.agent.fail_to_start().expect("run");
    expect(output, 1, &[&pin.display().to_string(), "this binary needs", "hint:"]);
    let state = NodeState::read(&scene.world.nodes[0], root).expect("state");
    assert!(state.tcx_programs.is_empty(), "{state:#?}");
    let maps: Vec<_> = state.pins.iter().filter(|pin| pin.contains("/maps/")).collect();
    assert_eq!(maps, [&pin.display().to_string()]);
    expect(
        scene.agent.cli(&["get", "services"]).expect("run"),
        1,
        &["error: open the map", "hint:"],
    );
}

#[test]
fn who_may_not_is_told_so() {
    let _company = beside_others();
    let scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let folder = tempfile::tempdir().expect("a folder");
    // Where nobody can reach it, whatever the build directory's permissions are.
    let binary = folder.path().join("pintle");
    std::fs::copy(scene.agent.binary(), &binary).expect("copy");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("permissions");
    let run = |args: &[&str]| {
        let root = scene.agent.bpf_root().display().to_string();
        let mut command = Command::new(&binary);
        command.args(args).args(["--bpf-root", &root]).uid(NOBODY).gid(NOBODY);
        command.output().expect("run")
    };
    expect(run(&["get", "services"]), 1, &["permission denied", "hint:  run as root"]);
    let agent = ["agent", "--source", "dir:/", "--node-name", "n", "--metrics-bind-address", ""];
    expect(run(&agent), 1, &["hint:  run as root"]);
    expect(run(&["cleanup"]), 1, &["hint:  run as root"]);
}
