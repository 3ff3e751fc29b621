// SPDX-License-Identifier: Apache-2.0
//! What the server says of itself: groups, versions, and the kinds in them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::answer::Answer;
use super::kind::{Kind, Scope};
use super::store::Store;

/// Answers `/api`, `/apis`, and what is directly below.
pub(super) fn answer(store: &Store, path: &str) -> Answer {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let found = match &segments[..] {
        ["api"] => Some(json!({ "kind": "APIVersions", "versions": ["v1"] })),
        ["api", "v1"] => resources(store, "", "v1"),
        ["apis"] => {
            let groups: Vec<Value> = groups(store).into_iter().map(group).collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        ["apis", name] => {
            let found = groups(store).into_iter().find(|(group, _)| group == name);
            found.map(|found| {
                let mut body = group(found);
                body["kind"] = "APIGroup".into();
                body["apiVersion"] = "v1".into();
                body
            })
        }
        ["apis", group, version] => resources(store, group, version),
        _ => None,
    };
    found.map_or_else(unknown, |body| Answer::value(200, &body))
}

/// What Go's HTTP server says of a path that nobody has: no `Status` object.
pub(super) fn unknown() -> Answer {
    Answer::text(404, "404 page not found\n")
}

/// Answers `/version`.
pub(super) fn version() -> Answer {
    Answer::value(200, &json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0" }))
}

fn offered(store: &Store) -> impl Iterator<Item = Kind> + '_ {
    Kind::ALL.into_iter().filter(|kind| store.offers(*kind))
}

/// The named groups, with their versions.
fn groups(store: &Store) -> BTreeSet<(&'static str, &'static str)> {
    let of_kind = |kind: Kind| (kind.group(), kind.description().version);
    let groups = offered(store).map(of_kind).filter(|(group, _)| !group.is_empty());
    groups.chain([("events.k8s.io", "v1")]).collect()
}

fn group((name, version): (&str, &str)) -> Value {
    let version = json!({ "groupVersion": format!("{name}/{version}"), "version": version });
    json!({ "name": name, "versions": [version], "preferredVersion": version })
}

fn resources(store: &Store, group: &str, version: &str) -> Option<Value> {
    let is_in = |kind: &Kind| (kind.group(), kind.description().version) == (group, version);
    let mut resources: Vec<Value> = offered(store).filter(is_in).map(resource).collect();
    if matches!((group, version), ("" | "events.k8s.io", "v1")) {
        let verbs = ["create", "patch"];
        resources.push(json!({
            "name": "events", "singularName": "event", "namespaced": true, "kind": "Event",
            "verbs": verbs,
        }));
    }
    let version = if group.is_empty() { version.into() } else { format!("{group}/{version}") };
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
            "resources": resources,
        })
    })
}

fn resource(kind: Kind) -> Value {
    let about = kind.description();
    json!({
        "name": about.plural, "singularName": about.kind.to_lowercase(), "kind": about.kind,
        "namespaced": about.scope == Scope::Namespaced, "verbs": ["get", "list", "watch"],
    })
}
