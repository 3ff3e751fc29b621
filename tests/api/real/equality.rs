// SPDX-License-Identifier: Apache-2.0
//! What a real server has gives the same state, whether the server tells it or a directory.
//!
//! The directory gets what the server made of the objects: with its defaults, uids and times.

use std::fs;
use std::path::Path;

use pintle::source::kube::RESOURCES;
use pintle_tests::real_api_server::WatchCache;
use serde_json::json;

use super::{Real, at, cluster_policy, real};
use crate::source::listen_to_directory;

/// One of each kind, and more of those that are selected.
const OBJECTS: &str = include_str!("objects.yaml");

/// All that the server has of what the agent reads, as YAML (which JSON is).
fn everything(real: &Real) -> String {
    let mut text = String::new();
    for resource in &RESOURCES {
        let root = if resource.group.is_empty() {
            "/api".into()
        } else {
            format!("/apis/{}", resource.group)
        };
        let path = format!("{root}/{}/{}", resource.version, resource.plural);
        let labels = resource.labels.replace('!', "%21").replace('/', "%2F");
        let objects = real.server.list(&format!("{path}?labelSelector={labels}"));
        for object in objects.expect("a list") {
            text += &format!("---\n{object}\n");
        }
    }
    text
}

/// Replaces what the directory has in one step, as everybody should.
fn write(directory: &Path, text: &str) {
    let next = directory.join("objects.tmp");
    fs::write(&next, text).expect("write it");
    fs::rename(next, directory.join("objects.yaml")).expect("put it there");
}

#[test]
fn a_directory_and_a_real_server_give_the_same_state() {
    let Some(real) = real(WatchCache::On) else { return };
    real.define_policies();
    real.create_all(OBJECTS);
    real.server.create(&cluster_policy("deny")).expect("a policy");
    let mut api = real.synced();
    let (directory, mut files) = listen_to_directory(&everything(&real));
    files.until(|known| known.is_synced);
    assert_eq!(api.known, files.known);
    // Four namespaces, a service and the services' addresses are the server's own.
    assert_eq!(api.known.objects.len(), 18, "{:#?}", api.known.objects.keys());
    assert!(api.known.rejected.is_empty(), "{:#?}", api.known.rejected);

    let pods = "/api/v1/namespaces/shop/pods";
    let slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
    let slice = json!({ "endpoints": [{ "addresses": ["10.244.2.5"], "nodeName": "node-2" }] });
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.10" }] } } });
    let label = json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": "b" } } });
    let finished = json!({ "status": { "phase": "Succeeded" } });
    for (path, change) in [
        (format!("{slices}/web-1"), slice),
        (format!("{}/status", at("web")), status),
        ("/api/v1/nodes/node-1".into(), label),
        (format!("{pods}/web-1/status"), finished),
    ] {
        real.server.patch(&path, &change).expect("a change");
    }
    for path in [
        format!("{pods}/web-2"),
        at("other"),
        "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/web".into(),
        format!("{}/deny", super::POLICIES),
    ] {
        real.server.delete(&path).expect("a deletion");
    }
    write(directory.path(), &everything(&real));
    files.until(|known| known.cluster_ip("shop/other").is_empty());
    assert_eq!(files.known.objects.len(), 14, "{:#?}", files.known.objects.keys());
    let expected = &files.known;
    api.until(|known| known == expected);
}
