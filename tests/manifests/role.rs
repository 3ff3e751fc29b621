// SPDX-License-Identifier: Apache-2.0
//! The ClusterRole grants what the agent uses, and nothing else.

use std::collections::BTreeSet;

use pintle::source::kube::RESOURCES;
use pintle_tests::container::texts;
use pintle_tests::kustomize::{build, manifests};

#[test]
fn the_role_grants_what_is_watched_and_posted_and_nothing_else() {
    let mut used = BTreeSet::new();
    for resource in &RESOURCES {
        let grant = |verb: &str| [resource.group, resource.plural, verb].map(str::to_owned);
        used.extend(["list", "watch"].map(grant));
    }
    // What `source::kube` announces.
    used.insert(["", "events", "create"].map(str::to_owned));
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
