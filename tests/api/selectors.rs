// SPDX-License-Identifier: Apache-2.0
//! Selectors: what lists leave out, and what watches say when an object enters or leaves.

use pintle_tests::api_server::ApiServer;
use serde_json::json;

use crate::client::{Watch, failure, get_json, names, service};

/// What kube-proxy selects: `!service.kubernetes.io/service-proxy-name` and `spec.clusterIP!=None`.
const PROXIED: &str = "labelSelector=%21service.kubernetes.io%2Fservice-proxy-name\
    &fieldSelector=spec.clusterIP%21%3DNone";

#[test]
fn a_list_has_what_is_selected() {
    let server = ApiServer::start().unwrap();
    server.put(service("plain", "web")).unwrap();
    let mut other = service("other-proxy", "web");
    other["metadata"]["labels"]["service.kubernetes.io/service-proxy-name"] = "mesh".into();
    server.put(other).unwrap();
    let mut headless = service("headless", "db");
    headless["spec"]["clusterIP"] = "None".into();
    server.put(headless).unwrap();
    for (query, expected) in [
        (PROXIED, &["plain"][..]),
        ("labelSelector=app+in+(db,cache)", &["headless"]),
        ("labelSelector=app!=db", &["other-proxy", "plain"]),
        ("fieldSelector=metadata.name%3Dplain", &["plain"]),
        (
            "fieldSelector=metadata.namespace%3Dshop,metadata.name!=plain",
            &["headless", "other-proxy"],
        ),
    ] {
        let list = get_json(&server, &format!("/api/v1/services?{query}"));
        assert_eq!(names(&list), expected, "{query}");
    }
}

#[test]
fn an_object_enters_and_leaves_a_watch_by_its_labels() {
    let server = ApiServer::start().unwrap();
    let path = "/api/v1/services?watch=true&labelSelector=app%3Dweb";
    server.put(service("web", "db")).unwrap();
    let mut watch = Watch::open(&server, path);
    let entered = server.put(service("web", "web")).unwrap();
    let mut changed = service("web", "web");
    changed["spec"]["clusterIP"] = "10.96.0.2".into();
    let modified = server.put(changed).unwrap();
    let left = server.put(service("web", "db")).unwrap();
    let unseen = service("web", "cache");
    server.put(unseen).unwrap();
    let back = server.put(service("web", "web")).unwrap();
    assert_eq!(watch.brief(), ("ADDED".into(), "web".into(), entered));
    assert_eq!(watch.brief(), ("MODIFIED".into(), "web".into(), modified));
    let event = watch.next();
    assert_eq!(event["type"], "DELETED");
    // The last state that was selected, under the revision in which it ceased to be.
    assert_eq!(event["object"]["metadata"]["labels"]["app"], "web");
    assert_eq!(event["object"]["spec"]["clusterIP"], "10.96.0.2");
    assert_eq!(event["object"]["metadata"]["resourceVersion"], left.to_string());
    assert_eq!(watch.brief(), ("ADDED".into(), "web".into(), back));
}

#[test]
fn an_object_leaves_a_watch_by_its_fields() {
    let server = ApiServer::start().unwrap();
    server.put(service("web", "web")).unwrap();
    let mut watch = Watch::open(&server, &format!("/api/v1/services?watch=true&{PROXIED}"));
    assert_eq!(watch.brief().0, "ADDED");
    let mut headless = service("web", "web");
    headless["spec"]["clusterIP"] = "None".into();
    server.put(headless).unwrap();
    assert_eq!(watch.brief().0, "DELETED");
    server.put(service("web", "web")).unwrap();
    assert_eq!(watch.brief().0, "ADDED");
}

#[test]
fn changes_of_the_past_are_seen_through_the_selector() {
    let server = ApiServer::start().unwrap();
    let start = server.revision();
    server.put(service("web", "web")).unwrap();
    server.put(service("web", "db")).unwrap();
    server.put(service("db", "db")).unwrap();
    let query = format!("watch=true&labelSelector=app%3Dweb&resourceVersion={start}");
    let mut watch = Watch::open(&server, &format!("/api/v1/services?{query}"));
    assert_eq!(watch.brief().0, "ADDED");
    assert_eq!(watch.brief().0, "DELETED");
    watch.stays_quiet();
}

#[test]
fn the_own_node_is_selected_by_its_name() {
    let server = ApiServer::start().unwrap();
    for name in ["a", "b"] {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
        server.put(node).unwrap();
    }
    let path = "/api/v1/nodes?watch=true&fieldSelector=metadata.name%3Db";
    let mut watch = Watch::open(&server, path);
    assert_eq!(watch.brief().1, "b");
    watch.stays_quiet();
}

#[test]
fn a_field_that_the_kind_does_not_index_is_refused() {
    let server = ApiServer::start().unwrap();
    for query in ["", "watch=true&"] {
        let path = format!("/api/v1/services?{query}fieldSelector=spec.sessionAffinity%3DNone");
        let status = failure(&server, &path);
        assert_eq!((&status["code"], &status["reason"]), (&400.into(), &"BadRequest".into()));
        assert_eq!(status["message"], "field label not supported: spec.sessionAffinity");
    }
}
