// SPDX-License-Identifier: Apache-2.0
//! `pintle bench` from outside: what it compares, what it prints, what it leaves.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pintle_lab::agent::default_binary;
use serde_json::Value;

use crate::company::{alone, beside_others};

const WORKLOADS: [&str; 5] =
    ["tcp-connect", "udp-new-port", "tcp-bulk", "node-port-remote", "packets-1k-flows"];

/// How long it may take to make the first worlds.
const PATIENCE: Duration = Duration::from_secs(60);

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(default_binary().expect("a binary"));
    command.arg("bench").args(arguments).stdin(Stdio::null());
    command
}

fn text(command: &mut Command) -> String {
    let output = command.output().expect("run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What a process of that number has left in bpffs and among the cgroups.
fn left_by(pid: u32) -> Vec<PathBuf> {
    let prefix = format!("pintle-lab-{pid}-");
    let cgroups = pintle::datapath::cgroup::find_root().expect("mounts").expect("cgroup v2");
    let entries = [Path::new("/sys/fs/bpf"), &cgroups].map(std::fs::read_dir);
    let entries = entries.into_iter().flat_map(|entries| entries.expect("list").flatten());
    let own = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    own.map(|entry| entry.path()).collect()
}

#[test]
fn every_world_serves_every_workload_and_the_run_can_be_shown_again() {
    let _company = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let [kept, html] = ["run.json", "run.html"].map(|name| folder.path().join(name));
    let workloads = format!("--workloads={}", WORKLOADS.join(","));
    let html_argument = format!("--html={}", html.display());
    let paths = "--data-paths=direct,iptables-legacy,iptables-nft,nftables,pintle,pintle-sockets";
    let size = ["--services=20", "--rebuilds=1", "--seconds=1"];
    let printed = text(bench(&[paths, &workloads, &html_argument, "--json"]).args(size));
    let run: Value = serde_json::from_str(&printed).expect("JSON");
    let names = |list: &Value| -> Vec<String> {
        let worlds = list.as_array().expect("a list").iter();
        worlds.map(|world| world["name"].as_str().expect("a name").to_owned()).collect()
    };
    let ours = ["pintle@20", "pintle@20+conntrack"];
    let sockets = ["pintle-sockets@20", "pintle-sockets@20+conntrack"];
    let others = ["iptables-legacy@20", "iptables-nft@20", "nftables@20"];
    let worlds = [&["direct", "direct+conntrack"][..], &others, &ours, &sockets].concat();
    assert_eq!(names(&run["worlds"]), worlds);
    let rows = run["latency"].as_array().expect("rows");
    // Sockets that dial are not the source of frames that a program makes.
    assert_eq!(rows.len(), WORKLOADS.len() * worlds.len() - sockets.len());
    for row in rows {
        let ratio = row["estimate"]["ratio"].as_f64().expect("a ratio");
        assert!(ratio > 0.1 && ratio < 10.0, "{row}");
        assert!(row["operations"].as_u64() > Some(10), "{row}");
        // Frames that a device's ring has no place for are lost in every world.
        if row["workload"] != "packets-1k-flows" {
            assert_eq!(row["failed"], 0, "{row}");
        }
    }
    std::fs::write(&kept, printed).expect("keep");
    let kept = kept.display().to_string();
    let table = text(&mut bench(&["report", &kept]));
    let markdown = text(&mut bench(&["report", &kept, "--markdown"]));
    for world in &worlds[1..] {
        assert!(table.contains(&format!("\n{world} ")), "{table}");
        assert!(markdown.contains(&format!("\n| {world} | ")), "{markdown}");
    }
    let html = std::fs::read_to_string(html).expect("the report");
    assert_eq!(html.matches("<svg ").count(), WORKLOADS.len());
    assert!(!html.contains("src=") && !html.contains("href="), "it loads something");
}

#[test]
fn every_way_loads_and_changes_the_same_services() {
    let _company = alone();
    let arguments = ["control", "--services=40", "--changes=3", "--json"];
    let run: Value = serde_json::from_str(&text(&mut bench(&arguments))).expect("JSON");
    let rows = run["rows"].as_array().expect("rows");
    let paths: Vec<&str> = rows.iter().filter_map(|row| row["path"].as_str()).collect();
    assert_eq!(paths, ["pintle", "iptables-legacy", "iptables-nft", "nftables"]);
    for row in rows {
        assert!(row["load_ms"].as_f64() > Some(0.5), "{row}");
        let changes = row["change_us"].as_array().expect("changes");
        assert_eq!(changes.len(), 3, "{row}");
        assert!(changes.iter().all(|us| us.as_f64() > Some(5.0)), "{row}");
    }
}

/// Whether a packet was translated and redirected as its case says is for the command to check.
#[test]
fn every_case_of_the_programs_is_measured() {
    let _company = alone();
    let arguments = ["program", "--services=1,10001", "--policies=3", "--rounds=1", "--json"];
    let run: Value = serde_json::from_str(&text(&mut bench(&arguments))).expect("JSON");
    let rows = run["rows"].as_array().expect("rows");
    // 17 cases of each family and protocol, and the one that takes 10,000 services.
    assert_eq!(rows.len(), 3 * 4 * 17 + 1);
    for row in rows {
        let [lowest, median, highest] =
            [0, 1, 2].map(|index| row["ns"][index].as_i64().expect("nanoseconds"));
        assert!(lowest == median && median == highest, "one round: {row}");
        assert!(median < 1_000_000, "{row}");
        let is_new = row["case"].as_str().expect("a case").contains("new");
        assert!(!is_new || median > 50, "an insert takes longer: {row}");
    }
    let programs = run["programs"].as_array().expect("programs");
    let from_pod = programs.iter().find(|program| program["name"] == "from_pod");
    assert!(from_pod.expect("from_pod")["verified"].as_u64() > Some(1_000));
}

#[test]
fn every_way_of_a_packet_from_outside_is_measured() {
    let _company = alone();
    let arguments = ["xdp", "--flows=1,100", "--seconds=1", "--json"];
    let run: Value = serde_json::from_str(&text(&mut bench(&arguments))).expect("JSON");
    let rows = run["rows"].as_array().expect("rows");
    let ways: Vec<_> = rows.iter().map(|row| row["path"].as_str().expect("a path")).collect();
    assert_eq!(ways, ["fixed rewrites, XDP_TX", "pintle, XDP", "pintle, tc"].repeat(2));
    for ways in rows.chunks(3) {
        let ns = |index: usize| ways[index]["ns"].as_f64().expect("nanoseconds");
        assert!(ns(0) < ns(1) && ns(1) < ns(2), "less is less: {ways:?}");
        let lost = ways.iter().map(|row| row["lost"].as_f64().expect("packets"));
        assert!(lost.sum::<f64>() < 1_000.0, "a thousandth of all: {ways:?}");
    }
}

#[test]
fn an_interrupted_run_takes_down_what_it_made() {
    let _company = alone();
    let arguments = ["--data-paths=pintle-sockets", "--rebuilds=50", "--services=1"];
    let mut command = bench(&arguments);
    let run = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("run");
    let pid = run.id();
    let end = Instant::now() + PATIENCE;
    while left_by(pid).len() < 3 {
        assert!(Instant::now() < end, "nothing was made");
        thread::sleep(Duration::from_millis(20));
    }
    // SAFETY: the child is not reaped yet, so its pid is still its own.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGINT) };
    let output = run.wait_with_output().expect("an end");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("interrupted"), "{error}");
    assert_eq!(left_by(pid), Vec::<PathBuf>::new());
}

#[test]
fn what_is_no_run_is_not_shown() {
    let _company = beside_others();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "{\"rows\": []}").expect("write");
    let output = bench(&["report", &file.path().display().to_string()]).output().expect("run");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("is no run"), "{error}");
}
