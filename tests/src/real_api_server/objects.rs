// SPDX-License-Identifier: Apache-2.0
//! Objects of a real server: made, changed, deleted by who may do everything.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Answer, RealApiServer};

impl RealApiServer {
    /// Makes an object, and then gives it the status that it comes with; returns what the server has.
    pub fn create(&self, object: &Value) -> Result<Value> {
        let collection = self.collection(object)?;
        let answer = self.administrator.ask("POST", &collection, Some(object))?;
        let mut made = answer.granted().with_context(|| object.to_string())?;
        let status = &object["status"];
        if status.is_null() {
            return Ok(made);
        }
        made["status"] = status.clone();
        let path = format!("{collection}/{}/status", text(&made["metadata"]["name"]));
        self.administrator.ask("PUT", &path, Some(&made))?.granted()
    }

    /// Asks whether an object could be made, with no field that the server does not know.
    pub fn try_out(&self, object: &Value) -> Result<Answer> {
        let path = format!("{}?dryRun=All&fieldValidation=Strict", self.collection(object)?);
        self.administrator.ask("POST", &path, Some(object))
    }

    /// Changes what `change` says of an object, and nothing else.
    pub fn patch(&self, path: &str, change: &Value) -> Result<Value> {
        self.administrator.ask("PATCH", path, Some(change))?.granted()
    }

    /// Deletes an object, at once.
    pub fn delete(&self, path: &str) -> Result<()> {
        let options = json!({ "gracePeriodSeconds": 0 });
        self.administrator.ask("DELETE", path, Some(&options))?.granted().map(drop)
    }

    /// The objects of a list, each with its kind.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        let list = self.administrator.ask("GET", path, None)?.granted()?;
        let kind = text(&list["kind"]).trim_end_matches("List").to_owned();
        let with_kind = |item: &Value| {
            let mut item = item.clone();
            item["apiVersion"] = list["apiVersion"].clone();
            item["kind"] = kind.clone().into();
            item
        };
        Ok(list["items"].as_array().context("no list")?.iter().map(with_kind).collect())
    }

    /// The path under which objects like this one are made, as the server's own list of kinds says.
    fn collection(&self, object: &Value) -> Result<String> {
        let version = text(&object["apiVersion"]);
        let root = if version.contains('/') { "/apis" } else { "/api" };
        let kinds = self.administrator.ask("GET", &format!("{root}/{version}"), None)?.granted()?;
        let kinds = kinds["resources"].as_array().context("no list of kinds")?;
        let found = kinds
            .iter()
            .find(|it| it["kind"] == object["kind"] && !text(&it["name"]).contains('/'));
        let kind = found.with_context(|| format!("the server has no {}", object["kind"]))?;
        let namespace = match kind["namespaced"] == true {
            true => format!("/namespaces/{}", text(&object["metadata"]["namespace"])),
            false => String::new(),
        };
        Ok(format!("{root}/{version}{namespace}/{}", text(&kind["name"])))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
