// SPDX-License-Identifier: Apache-2.0
//! What tests can learn of a client, and how a client finds the server.

use std::thread;
use std::time::Duration;

use pintle_tests::api_server::{ApiServer, Attributes, Kind, Verb};
use serde_json::json;

use crate::client::{Watch, get, get_json};

#[test]
fn requests_are_noted_with_what_they_are_about() {
    let server = ApiServer::start().unwrap();
    let _watch = Watch::open(&server, "/api/v1/pods?watch=true&resourceVersion=1");
    get(&server, "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies?limit=5");
    get(&server, "/api/v1/nodes/a");
    get(&server, "/api/v1/nodes?fieldSelector=metadata.name%3Da");
    get(&server, "/readyz");
    let about = |verb, group: &str, resource: &str, namespace: Option<&str>, name: Option<&str>| {
        let [namespace, name] = [namespace, name].map(|text| text.map(str::to_owned));
        let (group, resource) = (group.to_owned(), resource.to_owned());
        Some(Attributes { verb, group, resource, namespace, name })
    };
    let requests = server.requests();
    let noted: Vec<_> = requests.iter().map(|it| (it.attributes.clone(), it.status)).collect();
    let policies = about(Verb::List, "networking.k8s.io", "networkpolicies", Some("shop"), None);
    assert_eq!(
        noted,
        [
            (about(Verb::Watch, "", "pods", None, None), Some(200)),
            (policies, Some(200)),
            (about(Verb::Get, "", "nodes", None, Some("a")), Some(404)),
            (about(Verb::List, "", "nodes", None, Some("a")), Some(200)),
            (None, Some(200)),
        ]
    );
    assert_eq!(requests[0].path, "/api/v1/pods");
    assert_eq!(requests[0].query, "watch=true&resourceVersion=1");
    let open: Vec<bool> = requests.iter().map(|request| request.is_open).collect();
    assert_eq!(open, [true, false, false, false, false]);
}

#[test]
fn waiting_for_a_watch_ends_when_there_is_one() {
    let server = ApiServer::start().unwrap();
    let _nodes = Watch::open(&server, "/api/v1/nodes?watch=true");
    assert!(server.wait_for_watch(Kind::Service, Duration::from_millis(10)).is_err());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.wait_for_watch(Kind::Service, Duration::from_secs(10)));
        let _watch = Watch::open(&server, "/api/v1/services?watch=true");
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn discovery_names_what_there_is() {
    let server = ApiServer::start().unwrap();
    assert_eq!(get_json(&server, "/api")["versions"], json!(["v1"]));
    let groups = get_json(&server, "/apis");
    let names: Vec<_> = groups["groups"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    let expected =
        ["discovery.k8s.io", "events.k8s.io", "networking.k8s.io", "policy.networking.k8s.io"];
    assert_eq!(names, expected);
    let core = get_json(&server, "/api/v1");
    let services = &core["resources"][0];
    assert_eq!((&services["name"], &services["namespaced"]), (&"services".into(), &true.into()));
    assert_eq!(get_json(&server, "/version")["major"], "1");
    assert_eq!(get(&server, "/readyz").text().unwrap(), "ok");
}

#[test]
fn a_kubeconfig_leads_to_the_server_and_to_a_token_that_rotates() {
    let server = ApiServer::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = server.write_kubeconfig(directory.path()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let config: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
    assert_eq!(config["clusters"][0]["cluster"]["server"], server.url());
    assert_eq!(config["contexts"][0]["name"], config["current-context"]);
    let token = config["users"][0]["user"]["tokenFile"].as_str().unwrap();
    let first = std::fs::read_to_string(token).unwrap();
    server.write_token(directory.path(), "second").unwrap();
    assert_eq!(std::fs::read_to_string(token).unwrap(), "second");
    assert_ne!(first, "second");
    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, 2);
}
