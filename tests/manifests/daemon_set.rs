// SPDX-License-Identifier: Apache-2.0
//! The DaemonSet fits the agent: its variables and flags are the agent's, its probes ask where the
//! agent answers, and what gives it power says why.

use std::collections::BTreeSet;
use std::fs;

use clap::{CommandFactory as _, Parser as _};
use pintle::cli::{Cli, Nothing};
use pintle::config::resolved::{HEALTHZ_PORT, METRICS_PORT};
use pintle_tests::container::texts;
use pintle_tests::kustomize::{FOLDERS, build, manifests};
use serde_json::Value;

/// What the cluster's own libraries read.
const OF_KUBERNETES: [&str; 2] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];

/// Objects of a kind in all folders.
fn all(kind: &str) -> Vec<Value> {
    let objects = FOLDERS.map(|folder| build(&manifests().join(folder)).expect("it builds"));
    objects.into_iter().flatten().filter(|object| object["kind"] == kind).collect()
}

/// Containers of a DaemonSet.
fn containers(daemon_set: &Value) -> Vec<Value> {
    let pod = &daemon_set["spec"]["template"]["spec"];
    let lists = ["initContainers", "containers"].map(|list| pod[list].as_array());
    lists.into_iter().flatten().flatten().cloned().collect()
}

/// The container that works.
fn agents() -> Vec<Value> {
    let of_agent = |container: &Value| container["name"] == "agent";
    all("DaemonSet").iter().flat_map(containers).filter(of_agent).collect()
}

/// The variables that the agent reads.
fn variables() -> BTreeSet<String> {
    fn collect(command: &clap::Command, found: &mut BTreeSet<String>) {
        let own = command.get_arguments().filter_map(|argument| argument.get_env());
        found.extend(own.map(|name| name.to_string_lossy().into_owned()));
        command.get_subcommands().for_each(|below| collect(below, found));
    }
    let mut found = BTreeSet::from(OF_KUBERNETES.map(str::to_owned));
    collect(&Cli::<Nothing>::command(), &mut found);
    found
}

#[test]
fn every_variable_is_one_that_the_agent_reads() {
    let known = variables();
    assert!(known.contains("PINTLE_CGROUP"), "{known:?}");
    for agent in agents() {
        for variable in agent["env"].as_array().expect("variables") {
            let name = variable["name"].as_str().expect("a name");
            assert!(known.contains(name), "{name}");
        }
    }
    let maps = all("ConfigMap");
    for map in maps.iter().filter(|map| map["metadata"]["name"] == "pintle") {
        for name in map["data"].as_object().expect("data").keys() {
            assert!(known.contains(name), "{name}");
        }
    }
}

#[test]
fn every_container_s_arguments_are_understood() {
    for daemon_set in all("DaemonSet") {
        for container in containers(&daemon_set) {
            let arguments = texts(&container["args"]);
            let parsed =
                Cli::<Nothing>::try_parse_from(["pintle".to_owned()].iter().chain(&arguments));
            assert!(parsed.is_ok(), "{arguments:?}: {:?}", parsed.err());
        }
    }
}

#[test]
fn probes_ask_where_the_agent_answers() {
    for agent in agents() {
        let port = |name: &str| {
            let ports = agent["ports"].as_array().expect("ports");
            let found = ports.iter().find(|port| port["name"] == name);
            found.expect("the port")["containerPort"].as_u64()
        };
        assert_eq!(port("healthz"), Some(HEALTHZ_PORT.into()));
        assert_eq!(port("metrics"), Some(METRICS_PORT.into()));
        for (probe, path) in
            [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
        {
            let request = &agent[probe]["httpGet"];
            assert_eq!((&request["path"], &request["port"]), (&path.into(), &"healthz".into()));
        }
    }
}

#[test]
fn nothing_is_privileged_and_everything_is_read_only() {
    for daemon_set in all("DaemonSet") {
        for container in containers(&daemon_set) {
            let security = &container["securityContext"];
            assert!(security["privileged"].is_null());
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
        }
        let pod = &daemon_set["spec"]["template"]["spec"];
        assert!(pod["hostPID"].is_null() && pod["hostIPC"].is_null());
    }
}

#[test]
fn whatever_gives_power_has_a_reason_above_it() {
    for folder in ["base", "cleanup"] {
        let path = manifests().join(folder).join("daemon-set.yaml");
        let text = fs::read_to_string(path).expect("the DaemonSet");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let mut powers = 0;
        for pair in lines.windows(2) {
            let capability = pair[1].strip_prefix("- ").unwrap_or_default();
            let is_capability = capability.len() > 2
                && capability.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
            if is_capability || pair[1] == "hostNetwork: true" || pair[1] == "type: Unconfined" {
                assert!(pair[0].starts_with("# "), "{folder}: {} has no reason", pair[1]);
                powers += 1;
            }
        }
        assert!(powers >= 4, "{folder}: {powers}");
    }
}
