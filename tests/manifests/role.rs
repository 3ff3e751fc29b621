// SPDX-License-Identifier: Apache-2.0
//! The ClusterRole grants what the agent uses, and nothing else.

use std::collections::BTreeSet;

use pintle_tests::container::texts;
use pintle_tests::kustomize::{build, manifests};

/// What the agent lists and watches: API group and resource.
const WATCHES: [(&str, &str); 8] = [
    ("", "services"),
    ("", "nodes"),
    ("", "namespaces"),
    ("", "pods"),
    ("discovery.k8s.io", "endpointslices"),
    ("networking.k8s.io", "networkpolicies"),
    ("networking.k8s.io", "servicecidrs"),
    ("policy.networking.k8s.io", "clusternetworkpolicies"),
];

/// The groups in which it posts events.
const EVENTS: [&str; 2] = ["", "events.k8s.io"];

#[test]
fn the_role_grants_what_is_watched_and_posted_and_nothing_else() {
    let mut used = BTreeSet::new();
    for (group, resource) in WATCHES {
        used.extend(["list", "watch"].map(|verb| [group, resource, verb].map(str::to_owned)));
    }
    for group in EVENTS {
        used.extend(["create", "patch"].map(|verb| [group, "events", verb].map(str::to_owned)));
    }
    let objects = build(&manifests().join("base")).expect("the base");
    let role = objects.iter().find(|object| object["kind"] == "ClusterRole").expect("a role");
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().expect("rules") {
        assert!(rule["resourceNames"].is_null() && rule["nonResourceURLs"].is_null());
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    let grant = [group.clone(), resource.clone(), verb];
                    assert!(granted.insert(grant.clone()), "{grant:?} is granted twice");
                }
            }
        }
    }
    assert_eq!(granted, used);
}
