// SPDX-License-Identifier: Apache-2.0
//! What the rules and the dashboard in `manifests/monitoring` ask Prometheus for.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;
use serde_json::Value;

use crate::kustomize::{documents, manifests};

/// How our metrics begin; others are Prometheus' own.
const PREFIXES: [&str; 2] = ["pintle_", "kubeproxy_"];

/// Every expression.
pub fn expressions() -> Result<Vec<String>> {
    let folder = manifests().join("monitoring");
    let mut found = Vec::new();
    for file in ["rules.yaml", "prometheus-rule.yaml", "dashboard.json"] {
        let text = fs::read_to_string(folder.join(file))?;
        documents(&text)?.iter().for_each(|document| collect(document, &mut found));
    }
    Ok(found)
}

/// The names of our metrics in them.
pub fn metrics() -> Result<BTreeSet<String>> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut names = BTreeSet::new();
    for expression in expressions()? {
        let words = expression.split(|letter| !is_part(letter));
        let ours = words.filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)));
        names.extend(ours.map(str::to_owned));
    }
    Ok(names)
}

/// Strings in fields that hold expressions.
fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::String(text) if matches!(key.as_str(), "expr" | "query") => {
                        found.push(text.clone());
                    }
                    field => collect(field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
