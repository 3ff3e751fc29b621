// SPDX-License-Identifier: Apache-2.0
//! Events that clients post, in both of their API groups, checked as the API server checks them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::timestamp;

/// Through which group an event comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventsApi {
    /// `v1`.
    Core,
    /// `events.k8s.io/v1`.
    Events,
}

/// All events, by namespace and name.
#[derive(Default)]
pub(super) struct Events(BTreeMap<(String, String), Value>);

impl EventsApi {
    pub fn at(group: &str, version: &str) -> Option<EventsApi> {
        match (group, version) {
            ("", "v1") => Some(EventsApi::Core),
            ("events.k8s.io", "v1") => Some(EventsApi::Events),
            _ => None,
        }
    }

    pub fn group(self) -> &'static str {
        match self {
            EventsApi::Core => "",
            EventsApi::Events => "events.k8s.io",
        }
    }

    /// The names of what the event is about, who reports it, and the message.
    fn fields(self) -> (&'static str, &'static str, &'static str) {
        match self {
            EventsApi::Core => ("involvedObject", "reportingComponent", "message"),
            EventsApi::Events => ("regarding", "reportingController", "note"),
        }
    }
}

impl Events {
    /// All events as they were posted and patched.
    pub fn all(&self) -> Vec<Value> {
        self.0.values().cloned().collect()
    }

    /// Stores a new event, and returns it as it is then.
    pub fn create(
        &mut self,
        api: EventsApi,
        namespace: &str,
        body: &[u8],
        revision: u64,
    ) -> Result<Value, Failure> {
        let mut event = parse(body)?;
        let metadata = event.entry("metadata").or_insert_with(|| json!({}));
        let Some(metadata) = metadata.as_object_mut() else {
            return Err(Failure::bad_request("metadata is no object"));
        };
        let name = name_of(metadata, revision)?;
        let given = metadata.get("namespace").and_then(Value::as_str);
        if given.is_some_and(|given| given != namespace) {
            let message = "the namespace of the provided object does not match the namespace sent \
                           on the request";
            return Err(Failure::bad_request(message));
        }
        metadata.insert("namespace".into(), namespace.into());
        metadata.insert("name".into(), name.clone().into());
        metadata.insert("resourceVersion".into(), revision.to_string().into());
        metadata.insert("creationTimestamp".into(), timestamp::now().into());
        metadata.insert("uid".into(), format!("00000000-0000-4000-8000-{revision:012x}").into());
        validate(api, namespace, &name, &event)?;
        let key = (namespace.to_owned(), name);
        if self.0.contains_key(&key) {
            return Err(Failure::already_exists(api.group(), "events", &key.1));
        }
        let event = Value::Object(event);
        self.0.insert(key, event.clone());
        Ok(event)
    }

    /// Merges into an event what the body has, and returns it as it is then.
    pub fn patch(
        &mut self,
        api: EventsApi,
        (namespace, name): (&str, &str),
        body: &[u8],
        revision: u64,
    ) -> Result<Value, Failure> {
        let patch = Value::Object(parse(body)?);
        let key = (namespace.to_owned(), name.to_owned());
        let Some(event) = self.0.get_mut(&key) else {
            return Err(Failure::not_found(api.group(), "events", name));
        };
        merge(event, patch);
        event["metadata"]["resourceVersion"] = revision.to_string().into();
        Ok(event.clone())
    }
}

fn parse(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    let no_object = |error| Failure::bad_request(format!("no JSON object: {error}"));
    serde_json::from_slice(body).map_err(no_object)
}

/// The name, or one made of `generateName`.
fn name_of(metadata: &Map<String, Value>, revision: u64) -> Result<String, Failure> {
    let text = |field: &str| metadata.get(field).and_then(Value::as_str);
    let generated = || text("generateName").map(|prefix| format!("{prefix}{revision:05x}"));
    let name = text("name").map(str::to_owned).or_else(generated);
    let missing = || {
        let why = "Required value: name or generateName is required".to_owned();
        Failure::invalid(("Event", ""), "", &[("metadata.name", why)])
    };
    name.ok_or_else(missing)
}

/// What is wrong with a new event: the field, and why.
type Causes = Vec<(&'static str, String)>;

/// An event with `eventTime` is of the newer sort, and more is asked of it.
fn validate(
    api: EventsApi,
    namespace: &str,
    name: &str,
    event: &Map<String, Value>,
) -> Result<(), Failure> {
    let is_new = !text(event, "eventTime").is_empty();
    let mut causes = Causes::new();
    check_namespace(api, namespace, event, &mut causes);
    if is_new {
        check_lengths(api, event, &mut causes);
    }
    if api == EventsApi::Events {
        let kind = text(event, "type");
        if !is_new {
            causes.push(("eventTime", "Required value".into()));
        }
        if !matches!(kind, "Normal" | "Warning") {
            causes.push(("type", format!("Invalid value: has invalid value: {kind}")));
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid(("Event", ""), name, &causes))
}

/// An event is in the namespace of what it is about; about a cluster's object, in one of two.
fn check_namespace(
    api: EventsApi,
    namespace: &str,
    event: &Map<String, Value>,
    causes: &mut Causes,
) {
    let (object, _, _) = api.fields();
    let is_new = !text(event, "eventTime").is_empty();
    let about = event.get(object).and_then(|object| object["namespace"].as_str());
    let belongs = match about.unwrap_or_default() {
        "" if is_new => matches!(namespace, "default" | "kube-system"),
        "" => namespace == "default",
        about => is_new || about == namespace,
    };
    if !belongs {
        let about = about.unwrap_or_default();
        let why = format!("Invalid value: \"{about}\": does not match event.namespace");
        causes.push(("involvedObject.namespace", why));
    }
}

fn check_lengths(api: EventsApi, event: &Map<String, Value>, causes: &mut Causes) {
    let (_, controller, note) = api.fields();
    let required = [controller, "reportingInstance", "action", "reason"];
    for field in required {
        if text(event, field).is_empty() {
            causes.push((field, "Required value".into()));
        }
    }
    for (field, most) in required.map(|field| (field, 128)).into_iter().chain([(note, 1024)]) {
        if text(event, field).len() > most {
            let why = format!("Invalid value: can have at most {most} characters");
            causes.push((field, why));
        }
    }
}

fn text<'a>(event: &'a Map<String, Value>, field: &str) -> &'a str {
    event.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// RFC 7386: null removes, an object is merged, everything else replaces.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(fields) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in fields {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::merge;

    #[test]
    fn a_merge_patch_replaces_merges_and_removes() {
        let mut event = json!({ "note": "a", "series": { "count": 2 }, "type": "Normal" });
        merge(&mut event, json!({ "note": "b", "series": { "state": {} }, "type": null }));
        assert_eq!(event, json!({ "note": "b", "series": { "count": 2, "state": {} } }));
    }
}
