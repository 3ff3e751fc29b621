// SPDX-License-Identifier: Apache-2.0
//! Events that clients post: stored, patched, and checked as the API server checks them.

use pintle_tests::api_server::ApiServer;
use serde_json::{Value, json};

use crate::client::request;

const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";
const CORE_EVENTS: &str = "/api/v1/namespaces/shop/events";
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

#[test]
fn an_event_is_stored_with_a_name_and_metadata_of_the_server() {
    let server = ApiServer::start().unwrap();
    let (status, created) = send(&server, "POST", EVENTS, &event());
    assert_eq!(status, 201, "{created}");
    let metadata = &created["metadata"];
    assert!(metadata["name"].as_str().unwrap().starts_with("web."), "{metadata}");
    assert_eq!(metadata["namespace"], "shop");
    assert_eq!(metadata["resourceVersion"], server.revision().to_string());
    assert_eq!(server.events(), [created]);
}

#[test]
fn an_event_of_the_core_group_is_stored_too() {
    let server = ApiServer::start().unwrap();
    let (status, created) = send(&server, "POST", CORE_EVENTS, &core_event());
    assert_eq!(status, 201, "{created}");
    assert_eq!(server.events()[0]["involvedObject"]["name"], "web");
}

#[test]
fn a_series_is_patched_into_an_event() {
    let server = ApiServer::start().unwrap();
    let (_, created) = send(&server, "POST", EVENTS, &event());
    let path = format!("{EVENTS}/{}", created["metadata"]["name"].as_str().unwrap());
    let series = json!({ "count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z" });
    let (status, patched) = send(&server, "PATCH", &path, &json!({ "series": series }));
    assert_eq!(status, 200);
    assert_eq!((&patched["series"], &patched["note"]), (&series, &created["note"]));
    assert_ne!(patched["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    assert_eq!(server.events(), [patched]);
}

#[test]
fn an_event_that_is_not_there_cannot_be_patched() {
    let server = ApiServer::start().unwrap();
    let (status, body) = send(&server, "PATCH", &format!("{EVENTS}/none"), &json!({}));
    assert_eq!((status, &body["reason"]), (404, &"NotFound".into()));
}

#[test]
fn a_patch_of_another_type_is_not_understood() {
    let server = ApiServer::start().unwrap();
    let headers = [("content-type", "application/json-patch+json")];
    let answer = request(&server, "PATCH", &format!("{EVENTS}/x"), &headers, "[]").unwrap();
    assert_eq!(answer.status, 415);
}

#[test]
fn a_name_can_be_used_once() {
    let server = ApiServer::start().unwrap();
    let mut event = event();
    event["metadata"]["name"] = "web.1".into();
    assert_eq!(send(&server, "POST", EVENTS, &event).0, 201);
    let (status, body) = send(&server, "POST", EVENTS, &event);
    assert_eq!((status, &body["reason"]), (409, &"AlreadyExists".into()));
}

#[test]
fn an_event_that_the_api_server_would_refuse_is_refused() {
    let long = "x".repeat(1025);
    for (path, field, value, expected) in [
        (EVENTS, "eventTime", Value::Null, 422),
        (EVENTS, "action", Value::Null, 422),
        (EVENTS, "reason", "".into(), 422),
        (EVENTS, "reportingController", Value::Null, 422),
        (EVENTS, "reportingInstance", Value::Null, 422),
        (EVENTS, "type", "Error".into(), 422),
        (EVENTS, "note", long.into(), 422),
        (EVENTS, "metadata", json!({}), 422),
        (EVENTS, "metadata", json!({ "name": "x", "namespace": "other" }), 400),
        // Of an object without namespace, an event is in one of two.
        (EVENTS, "regarding", json!({ "kind": "Node", "name": "a" }), 422),
        (CORE_EVENTS, "involvedObject", json!({ "namespace": "other" }), 422),
    ] {
        let server = ApiServer::start().unwrap();
        let mut event = if path == EVENTS { event() } else { core_event() };
        event[field] = value;
        let (status, body) = send(&server, "POST", path, &event);
        assert_eq!(status, expected, "{field}: {body}");
        assert!(server.events().is_empty());
    }
}

#[test]
fn an_event_about_a_node_is_in_the_default_namespace() {
    let server = ApiServer::start().unwrap();
    let mut event = event();
    event["regarding"] = json!({ "kind": "Node", "name": "a" });
    let path = EVENTS.replace("shop", "default");
    assert_eq!(send(&server, "POST", &path, &event).0, 201);
}

fn send(server: &ApiServer, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = request(server, method, path, &MERGE, &body.to_string()).unwrap();
    (answer.status, answer.json())
}

fn event() -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": { "generateName": "web." },
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Warning", "reason": "Rejected",
        "action": "Program", "note": "no address", "reportingController": "pintle.example/agent",
        "reportingInstance": "worker-1",
        "regarding": { "kind": "Service", "namespace": "shop", "name": "web" },
    })
}

fn core_event() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": "web.1" }, "reason": "Rejected",
        "message": "no address", "type": "Warning", "source": { "component": "pintle" },
        "involvedObject": { "kind": "Service", "namespace": "shop", "name": "web" },
    })
}
