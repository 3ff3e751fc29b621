// SPDX-License-Identifier: Apache-2.0
//! Each object is read as its type in the Kubernetes API, and written again: what the type does not
//! know would be missing then, and what it needs and was not given would be added.

use std::fs;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use pintle_tests::kustomize::{FOLDERS, build, documents, manifests, same};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// An object of the Prometheus operator, whose types are not Kubernetes'.
const PROMETHEUS_RULE: &str = "monitoring.coreos.com/v1 PrometheusRule";

fn check(object: &Value) -> Result<()> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let name = format!("{} {}", text("apiVersion"), text("kind"));
    let context = || format!("{name} {}", object["metadata"]["name"]);
    match name.as_str() {
        "v1 ServiceAccount" => is_of_type::<ServiceAccount>(object),
        "v1 ConfigMap" => is_of_type::<ConfigMap>(object),
        "rbac.authorization.k8s.io/v1 ClusterRole" => is_of_type::<ClusterRole>(object),
        "rbac.authorization.k8s.io/v1 ClusterRoleBinding" => {
            is_of_type::<ClusterRoleBinding>(object)
        }
        "apps/v1 DaemonSet" => is_of_type::<DaemonSet>(object),
        PROMETHEUS_RULE => Ok(()),
        _ => bail!("no type to hold it against"),
    }
    .with_context(context)
}

fn is_of_type<T: DeserializeOwned + Serialize>(object: &Value) -> Result<()> {
    let read: T = serde_json::from_value(object.clone())?;
    same(object, &serde_json::to_value(read)?)
}

#[test]
fn every_folder_builds_and_has_objects_of_kubernetes_types_only() {
    for folder in FOLDERS {
        let objects = build(&manifests().join(folder)).expect("it builds");
        assert!(!objects.is_empty(), "{folder}");
        for object in &objects {
            check(object).unwrap_or_else(|error| panic!("{folder}: {error:#}"));
        }
    }
}

#[test]
fn every_folder_with_a_kustomization_is_checked() {
    let mut open = vec![manifests()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path if path.ends_with("kustomization.yaml") => found.push(folder.clone()),
                _ => {}
            }
        }
    }
    found.sort();
    let mut known = FOLDERS.map(|folder| manifests().join(folder));
    known.sort();
    assert_eq!(found, known);
}

#[test]
fn a_file_has_one_object() {
    for folder in FOLDERS {
        for entry in fs::read_dir(manifests().join(folder)).expect("a folder").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|kind| kind == "yaml") {
                let text = fs::read_to_string(&path).expect("a text");
                let count = documents(&text).expect("YAML").len();
                assert_eq!(count, 1, "{}", path.display());
            }
        }
    }
}

#[test]
fn an_overlay_has_the_base_s_objects() {
    let names = |folder: &str| -> Vec<String> {
        let objects = build(&manifests().join(folder)).expect("it builds");
        objects.iter().map(|object| object["kind"].to_string()).collect()
    };
    let base = names("base");
    for overlay in FOLDERS.iter().filter(|folder| folder.starts_with("overlays/")) {
        assert_eq!(names(overlay), base, "{overlay}");
    }
}

#[test]
fn a_field_that_kubernetes_does_not_know_or_that_is_missing_is_found() {
    let account = |more: Value| {
        let mut object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {} });
        object.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        check(&object).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(account(json!({ "data": { "a": "b" } })), Ok(()));
    assert!(account(json!({ "dta": { "a": "b" } })).unwrap_err().contains(".dta"));
    assert!(account(json!({ "data": { "a": 1 } })).is_err());
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {},
        "spec": { "selector": {}, "template": { "spec": { "containers": [{ "image": "x" }] } } },
    });
    assert!(format!("{:#}", check(&set).unwrap_err()).contains(".containers[0].name"));
}
