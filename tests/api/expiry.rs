// SPDX-License-Identifier: Apache-2.0
//! 410 in all its forms: what a client finds that was away for too long.

use pintle_tests::api_server::{ApiServer, Kind};
use serde_json::{Value, json};

use crate::client::{Watch, failure, get_json, names, service};

#[test]
fn a_watch_from_a_forgotten_revision_is_an_error_event_and_ends() {
    let server = ApiServer::start().unwrap();
    let then = server.put(service("web", "one")).unwrap();
    let now = server.put(service("web", "two")).unwrap();
    server.compact();
    let path = format!("/api/v1/services?watch=true&resourceVersion={then}");
    let mut watch = Watch::open(&server, &path);
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
        "reason": "Expired", "message": format!("too old resource version: {then} ({now})"),
    });
    assert_eq!(watch.next(), json!({ "type": "ERROR", "object": status }));
    watch.ends();
}

#[test]
fn what_is_not_forgotten_can_be_resumed() {
    let server = ApiServer::start().unwrap();
    server.put(service("web", "one")).unwrap();
    server.compact();
    let edge = server.revision();
    let next = server.put(service("web", "two")).unwrap();
    let path = format!("/api/v1/services?watch=true&resourceVersion={edge}");
    assert_eq!(Watch::open(&server, &path).brief(), ("MODIFIED".into(), "web".into(), next));
}

#[test]
fn revisions_of_quiet_kinds_are_forgotten_too() {
    let server = ApiServer::start().unwrap();
    let start = server.revision();
    server.put(service("web", "web")).unwrap();
    server.compact();
    let path = format!("/api/v1/nodes?watch=true&resourceVersion={start}");
    assert_eq!(Watch::open(&server, &path).next()["object"]["code"], 410);
}

#[test]
fn open_watches_go_on_when_history_is_forgotten() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, "/api/v1/services?watch=true");
    server.put(service("web", "one")).unwrap();
    server.compact();
    server.put(service("web", "two")).unwrap();
    assert_eq!(watch.brief().0, "ADDED");
    assert_eq!(watch.brief().0, "MODIFIED");
}

#[test]
fn a_forgotten_continue_token_is_gone_and_offers_the_inconsistent_rest() {
    let server = ApiServer::start().unwrap();
    for name in ["a", "b", "c"] {
        server.put(service(name, "web")).unwrap();
    }
    let page = get_json(&server, "/api/v1/services?limit=1");
    server.delete(Kind::Service, "shop", "b").unwrap();
    server.compact();
    let status = failure(&server, &continued(&page));
    assert_eq!((&status["code"], &status["reason"]), (&410.into(), &"Expired".into()));
    let rest = get_json(&server, &continued(&status));
    assert_eq!(names(&rest), ["c"]);
    assert_eq!(rest["metadata"]["resourceVersion"], server.revision().to_string());
}

#[test]
fn an_exact_list_of_a_forgotten_revision_is_gone() {
    let server = ApiServer::start().unwrap();
    let then = server.put(service("web", "one")).unwrap();
    server.put(service("web", "two")).unwrap();
    server.compact();
    let query = format!("resourceVersion={then}&resourceVersionMatch=Exact");
    let status = failure(&server, &format!("/api/v1/services?{query}"));
    assert_eq!((&status["code"], &status["reason"]), (&410.into(), &"Expired".into()));
    // A list that may be newer is not concerned.
    get_json(&server, &format!("/api/v1/services?resourceVersion={then}"));
}

fn continued(list: &Value) -> String {
    let token = list["metadata"]["continue"].as_str().expect("a token");
    format!("/api/v1/services?limit=1&continue={token}")
}
