// SPDX-License-Identifier: Apache-2.0
//! The part of kustomize that our manifests use: resources, strategic merge patches, config maps
//! made of files, a namespace. Everything else is refused.
//!
//! Invariant: what this builds is what kustomize builds, but for the order of objects and of lists
//! whose items have names; the program `kustomize` of this crate compares where kubectl is installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Folders of `manifests` that one would hand to `kubectl apply -k`.
pub const FOLDERS: [&str; 8] = [
    "base",
    "overlays/kubeadm",
    "overlays/k3s",
    "overlays/rke2",
    "overlays/kind",
    "overlays/eks",
    "cleanup",
    "monitoring",
];

/// Lists that are merged item by item, and what names an item.
const NAMED_LISTS: [(&str, &str); 6] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("env", "name"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("ports", "containerPort"),
];

/// Kinds without a namespace.
const OF_THE_CLUSTER: [&str; 2] = ["ClusterRole", "ClusterRoleBinding"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Kustomization {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    #[serde(default)]
    resources: Vec<PathBuf>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default)]
    config_map_generator: Vec<ConfigMap>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigMap {
    name: String,
    files: Vec<PathBuf>,
    options: Options,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Options {
    disable_name_suffix_hash: bool,
    labels: Map<String, Value>,
}

/// The folder of our manifests.
pub fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

/// The objects of a folder.
pub fn build(folder: &Path) -> Result<Vec<Value>> {
    build_folder(folder).with_context(|| folder.display().to_string())
}

/// Lists whose items have names in the order of these: all that kustomize leaves open.
pub fn in_order(mut objects: Vec<Value>) -> Vec<Value> {
    objects.iter_mut().for_each(sort_named_lists);
    objects.sort_by_key(|object| identity(object).map(|part| part.to_string()));
    objects
}

/// The objects of a text with several documents.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    let values = documents.map(|document| Ok(Value::deserialize(document)?));
    let values: Vec<Value> = values.collect::<Result<_>>()?;
    Ok(values.into_iter().filter(|value| !value.is_null()).collect())
}

fn build_folder(folder: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(folder.join("kustomization.yaml"))?;
    let kustomization: Kustomization = serde_yaml_ng::from_str(&text)?;
    ensure!(
        kustomization.api_version == "kustomize.config.k8s.io/v1beta1"
            && kustomization.kind == "Kustomization",
        "kustomization.yaml is of another kind"
    );
    let mut objects = Vec::new();
    for resource in &kustomization.resources {
        let path = folder.join(resource);
        match path.is_dir() {
            true => objects.extend(build(&path)?),
            false => objects.extend(read(&path)?),
        }
    }
    for map in &kustomization.config_map_generator {
        objects.push(generate(folder, map)?);
    }
    for Patch { path } in &kustomization.patches {
        for patch in read(&folder.join(path))? {
            let mut same = objects.iter_mut().filter(|object| identity(object) == identity(&patch));
            let object =
                same.next().with_context(|| format!("no object for {}", path.display()))?;
            merge(object, patch);
        }
    }
    if let Some(namespace) = &kustomization.namespace {
        objects.iter_mut().for_each(|object| put_into(object, namespace));
    }
    Ok(objects)
}

fn read(path: &Path) -> Result<Vec<Value>> {
    let read = || -> Result<Vec<Value>> { documents(&fs::read_to_string(path)?) };
    read().with_context(|| path.display().to_string())
}

fn generate(folder: &Path, map: &ConfigMap) -> Result<Value> {
    ensure!(map.options.disable_name_suffix_hash, "names with a hash are not supported");
    let mut data = Map::new();
    for file in &map.files {
        let name = file.file_name().and_then(|name| name.to_str()).context("a file's name")?;
        data.insert(name.into(), fs::read_to_string(folder.join(file))?.into());
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": map.name, "labels": map.options.labels },
        "data": data,
    }))
}

/// What a patch finds its object by.
fn identity(object: &Value) -> [&Value; 3] {
    [&object["apiVersion"], &object["kind"], &object["metadata"]["name"]]
}

fn put_into(object: &mut Value, namespace: &str) {
    let kind = object["kind"].as_str().unwrap_or_default();
    if !OF_THE_CLUSTER.contains(&kind) {
        object["metadata"]["namespace"] = namespace.into();
    }
}

/// As the API server merges: objects by key, named lists by name, everything else is replaced, and
/// null removes.
fn merge(into: &mut Value, patch: Value) {
    let (Value::Object(fields), Value::Object(changes)) = (&mut *into, &patch) else {
        *into = patch;
        return;
    };
    for (key, change) in changes {
        let name = NAMED_LISTS.iter().find(|(list, _)| list == key).map(|(_, name)| *name);
        match (change, fields.get_mut(key), name) {
            (Value::Null, _, _) => drop(fields.remove(key)),
            (Value::Array(changes), Some(Value::Array(items)), Some(name)) => {
                merge_lists(items, changes, name);
            }
            (change, Some(field), _) => merge(field, change.clone()),
            (change, None, _) => drop(fields.insert(key.clone(), change.clone())),
        }
    }
}

fn merge_lists(items: &mut Vec<Value>, changes: &[Value], name: &str) {
    for change in changes {
        match items.iter_mut().find(|item| item[name] == change[name]) {
            Some(item) => merge(item, change.clone()),
            None => items.push(change.clone()),
        }
    }
}

fn sort_named_lists(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                let name = NAMED_LISTS.iter().find(|(list, _)| list == key).map(|(_, name)| *name);
                if let (Some(items), Some(name)) = (field.as_array_mut(), name) {
                    items.sort_by_key(|item| item[name].to_string());
                }
                sort_named_lists(field);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(sort_named_lists),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fails with the first place at which two values differ.
pub fn same(left: &Value, right: &Value) -> Result<()> {
    same_at("", left, right)
}

fn same_at(path: &str, left: &Value, right: &Value) -> Result<()> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            for key in left.keys().chain(right.keys()) {
                let value = |of: &Map<String, Value>| of.get(key).cloned().unwrap_or_default();
                same_at(&format!("{path}.{key}"), &value(left), &value(right))?;
            }
            Ok(())
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let mut pairs = left.iter().zip(right).enumerate();
            pairs.try_for_each(|(at, (left, right))| same_at(&format!("{path}[{at}]"), left, right))
        }
        _ if left == right => Ok(()),
        _ => bail!("{path} is {left} and {right}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let mut object = json!({
            "a": 1, "gone": 2, "list": [1, 2],
            "containers": [{ "name": "x", "image": "i" }, { "name": "y" }],
        });
        merge(
            &mut object,
            json!({ "gone": null, "list": [3], "containers": [{ "name": "x", "args": [4] }, { "name": "z" }] }),
        );
        let expected = json!({
            "a": 1, "list": [3],
            "containers": [{ "name": "x", "image": "i", "args": [4] }, { "name": "y" }, { "name": "z" }],
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn what_is_not_known_of_kustomize_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
        let write = |more: &str| {
            fs::write(folder.path().join("kustomization.yaml"), format!("{text}{more}")).unwrap();
            build(folder.path())
        };
        assert!(write("").unwrap().is_empty());
        assert!(write("namePrefix: x-\n").is_err());
        assert!(write("resources: [none.yaml]\n").is_err());
    }

    #[test]
    fn a_difference_is_told_with_its_place() {
        let error = same(&json!({ "a": [1, { "b": 2 }] }), &json!({ "a": [1, { "b": 3 }] }));
        assert_eq!(error.unwrap_err().to_string(), ".a[1].b is 2 and 3");
        assert!(same(&json!({ "a": 1 }), &json!({})).is_err());
    }
}
