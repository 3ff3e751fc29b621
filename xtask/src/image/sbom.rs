// SPDX-License-Identifier: Apache-2.0
//! What the binary is made of, as CycloneDX: the packages that cargo links into it on this target.

use crate::workspace::{cargo, run_quietly};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The document for a package of the workspace.
pub fn of_package(name: &str, target: &str) -> Result<Vec<u8>> {
    let mut command = cargo(["metadata", "--format-version=1", "--locked"]);
    let text = run_quietly(command.args(["--filter-platform", target]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo's metadata")?;
    Ok(serde_json::to_vec_pretty(&document(&metadata, name)?)?)
}

fn document(metadata: &Value, name: &str) -> Result<Value> {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let packages = list(&metadata["packages"]);
    let packages: BTreeMap<String, &Value> =
        packages.iter().map(|package| (id(&package["id"]), package)).collect();
    let nodes = list(&metadata["resolve"]["nodes"]);
    let nodes: BTreeMap<String, &Value> =
        nodes.iter().map(|node| (id(&node["id"]), node)).collect();
    let is_root = |package: &&Value| package["name"] == name && package["source"].is_null();
    let root =
        packages.values().copied().find(is_root).with_context(|| format!("no package {name}"))?;
    let (mut seen, mut open) = (BTreeSet::new(), vec![id(&root["id"])]);
    while let Some(next) = open.pop() {
        if seen.insert(next.clone()) {
            let deps = nodes.get(&next).map(|node| list(&node["deps"])).unwrap_or_default();
            open.extend(deps.iter().filter(|dep| is_linked(dep)).map(|dep| id(&dep["pkg"])));
        }
    }
    let mut components: Vec<Value> = (seen.iter())
        .filter(|found| **found != id(&root["id"]))
        .filter_map(|found| packages.get(found).map(|package| component(package, "library")))
        .collect();
    components.sort_by_key(|component| component["purl"].to_string());
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(root, "application") },
        "components": components,
    }))
}

fn id(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Not for building or testing only.
fn is_linked(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds.into_iter().flatten().any(|kind| kind["kind"].is_null())
}

fn component(package: &Value, kind: &str) -> Value {
    let text = |field: &str| package[field].as_str().unwrap_or_default();
    let (name, version) = (text("name"), text("version"));
    let mut component = json!({
        "type": kind,
        "name": name,
        "version": version,
        "purl": format!("pkg:cargo/{name}@{version}"),
    });
    if let Some(license) = package["license"].as_str() {
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_linked_is_listed() {
        let package = |id: &str, source: Value| {
            json!({ "id": id, "name": id, "version": "1.0.0", "license": "MIT/Apache-2.0",
                    "source": source })
        };
        let dep = |id: &str, kind: Value| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                package("app", Value::Null), package("b", "r".into()), package("a", "r".into()),
                package("tool", "r".into()), package("other", "r".into()),
            ],
            "resolve": { "nodes": [
                { "id": "app", "deps": [dep("b", Value::Null), dep("tool", "build".into())] },
                { "id": "b", "deps": [dep("a", Value::Null)] },
                { "id": "a", "deps": [] }, { "id": "tool", "deps": [] }, { "id": "other", "deps": [] },
            ] },
        });
        let document = document(&metadata, "app").unwrap();
        let components = document["components"].as_array().unwrap();
        let purls: Vec<&Value> = components.iter().map(|component| &component["purl"]).collect();
        assert_eq!(purls, ["pkg:cargo/a@1.0.0", "pkg:cargo/b@1.0.0"]);
        assert_eq!(components[0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(document["metadata"]["component"]["name"], "app");
    }
}
