// SPDX-License-Identifier: Apache-2.0
//! Watches: what they begin with, the order of their events, bookmarks, and how they end.

use std::time::{Duration, Instant};

use pintle_tests::api_server::{ApiServer, Kind, StreamingLists};
use serde_json::{Value, json};

use crate::client::{Watch, get_json, number, service};

const WATCH: &str = "/api/v1/services?watch=true";

#[test]
fn a_watch_from_a_revision_has_all_that_came_after_it_in_order() {
    let server = ApiServer::start().unwrap();
    server.put(service("before", "web")).unwrap();
    let start = server.revision();
    server.put(service("web", "one")).unwrap();
    server.put(service("web", "two")).unwrap();
    server.put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "a" } })).unwrap();
    let mut watch = Watch::open(&server, &format!("{WATCH}&resourceVersion={start}"));
    server.delete(Kind::Service, "shop", "web").unwrap();
    for (event, revision) in [("ADDED", start + 1), ("MODIFIED", start + 2), ("DELETED", start + 4)]
    {
        assert_eq!(watch.brief(), (event.into(), "web".into(), revision));
    }
    watch.stays_quiet();
}

#[test]
fn events_carry_whole_objects_with_their_kind() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, WATCH);
    server.put(service("web", "web")).unwrap();
    let event = watch.next();
    assert_eq!(event["object"], get_json(&server, "/api/v1/namespaces/shop/services/web"));
    assert_eq!(event["object"]["kind"], "Service");
}

#[test]
fn an_event_begins_with_its_type_and_an_object_with_its_kind() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, WATCH);
    server.put(service("web", "web")).unwrap();
    server.send_event(Kind::Service, "ERROR", &json!({}));
    server.compact();
    let line = watch.line().unwrap();
    let start = r#"{"type":"ADDED","object":{"kind":"Service","apiVersion":"v1","metadata":{"#;
    assert!(line.starts_with(start), "{line}");
    assert_eq!(watch.line().unwrap(), "{\"type\":\"ERROR\",\"object\":{}}\n");
    let line = Watch::open(&server, &format!("{WATCH}&resourceVersion=1")).line().unwrap();
    assert!(line.starts_with(r#"{"type":"ERROR","object":{"#), "{line}");
}

#[test]
fn a_deletion_shows_the_last_state_under_the_revision_of_the_deletion() {
    let server = ApiServer::start().unwrap();
    server.put(service("web", "web")).unwrap();
    let mut last = get_json(&server, "/api/v1/namespaces/shop/services/web");
    let mut watch = Watch::open(&server, &format!("{WATCH}&resourceVersion={}", server.revision()));
    let deleted = server.delete(Kind::Service, "shop", "web").unwrap();
    last["metadata"]["resourceVersion"] = deleted.to_string().into();
    assert_eq!(watch.next(), json!({ "type": "DELETED", "object": last }));
}

#[test]
fn a_watch_without_revision_begins_with_what_is_there() {
    for query in ["", "&resourceVersion=0"] {
        let server = ApiServer::start().unwrap();
        let b = server.put(service("b", "web")).unwrap();
        let a = server.put(service("a", "web")).unwrap();
        let mut watch = Watch::open(&server, &format!("{WATCH}{query}"));
        assert_eq!(watch.brief(), ("ADDED".into(), "a".into(), a));
        assert_eq!(watch.brief(), ("ADDED".into(), "b".into(), b));
        // Nothing says where the beginning ends.
        watch.stays_quiet();
        let revision = server.put(service("b", "changed")).unwrap();
        assert_eq!(watch.brief(), ("MODIFIED".into(), "b".into(), revision));
    }
}

/// As a real server with streaming lists does it, asked for them or not.
#[test]
fn who_takes_bookmarks_is_told_where_the_beginning_ends() {
    let server = ApiServer::start().unwrap();
    let first = server.put(service("a", "web")).unwrap();
    let path = format!("{WATCH}&allowWatchBookmarks=true");
    let mut watch = Watch::open(&server, &path);
    assert_eq!(watch.brief(), ("ADDED".into(), "a".into(), first));
    let end = watch.next();
    let marks = json!({ "k8s.io/initial-events-end": "true" });
    assert_eq!(
        (&end["type"], &end["object"]["metadata"]["annotations"]),
        (&"BOOKMARK".into(), &marks)
    );
    server.set_streaming_lists(StreamingLists::Refused);
    let mut watch = Watch::open(&server, &path);
    assert_eq!(watch.brief().0, "ADDED");
    watch.stays_quiet();
}

#[test]
fn a_watch_of_a_namespace_sees_no_other() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, "/api/v1/namespaces/other/services?watch=1");
    server.put(service("web", "web")).unwrap();
    let mut other = service("web", "web");
    other["metadata"]["namespace"] = "other".into();
    let revision = server.put(other).unwrap();
    assert_eq!(watch.brief(), ("ADDED".into(), "web".into(), revision));
}

#[test]
fn a_watch_from_the_future_waits_for_it() {
    let server = ApiServer::start().unwrap();
    let future = server.revision() + 1;
    let mut watch = Watch::open(&server, &format!("{WATCH}&resourceVersion={future}"));
    server.put(service("web", "one")).unwrap();
    let second = server.put(service("web", "two")).unwrap();
    assert_eq!(watch.brief(), ("MODIFIED".into(), "web".into(), second));
}

#[test]
fn a_watch_ends_when_its_time_is_over_with_a_bookmark_to_resume_from() {
    let server = ApiServer::start().unwrap();
    let begun = Instant::now();
    let path = format!("{WATCH}&timeoutSeconds=1&resourceVersion=1");
    let mut with = Watch::open(&server, &format!("{path}&allowWatchBookmarks=true"));
    let without = Watch::open(&server, &path);
    let revision = server
        .put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "a" } }))
        .unwrap();
    assert_eq!(with.brief(), ("BOOKMARK".into(), String::new(), revision));
    with.ends();
    without.ends();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    server.put(service("web", "web")).unwrap();
    let mut resumed = Watch::open(&server, &format!("{WATCH}&resourceVersion={revision}"));
    assert_eq!(resumed.brief(), ("ADDED".into(), "web".into(), revision + 1));
}

#[test]
fn bookmarks_come_in_order_to_those_who_want_them() {
    let server = ApiServer::start().unwrap();
    let path = format!("{WATCH}&resourceVersion=1");
    let mut with = Watch::open(&server, &format!("{path}&allowWatchBookmarks=true"));
    let mut without = Watch::open(&server, &path);
    server.put(service("web", "one")).unwrap();
    server.send_bookmarks();
    server.put(service("web", "two")).unwrap();
    let types: Vec<Value> = (0..3).map(|_| with.next()["type"].clone()).collect();
    assert_eq!(types, ["ADDED", "BOOKMARK", "MODIFIED"]);
    let types: Vec<Value> = (0..2).map(|_| without.next()["type"].clone()).collect();
    assert_eq!(types, ["ADDED", "MODIFIED"]);
}

#[test]
fn a_bookmark_is_an_empty_object_of_the_kind() {
    let server = ApiServer::start().unwrap();
    for (path, kind) in [
        ("/api/v1/services", "Service"),
        ("/api/v1/nodes", "Node"),
        ("/api/v1/namespaces", "Namespace"),
        ("/api/v1/pods", "Pod"),
        ("/apis/discovery.k8s.io/v1/endpointslices", "EndpointSlice"),
        ("/apis/networking.k8s.io/v1/networkpolicies", "NetworkPolicy"),
        ("/apis/networking.k8s.io/v1/servicecidrs", "ServiceCIDR"),
        ("/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies", "ClusterNetworkPolicy"),
    ] {
        let mut watch =
            Watch::open(&server, &format!("{path}?watch=true&allowWatchBookmarks=true"));
        server.send_bookmarks();
        let object = &watch.next()["object"];
        assert_eq!(object["kind"], kind);
        assert_eq!(number(&object["metadata"]["resourceVersion"]), server.revision());
        assert_eq!(object["metadata"].get("creationTimestamp"), Some(&Value::Null));
        assert_eq!(object["metadata"].get("name"), None);
    }
}

#[test]
fn every_watch_has_every_event() {
    let server = ApiServer::start().unwrap();
    let watches: Vec<Watch> = (0..20).map(|_| Watch::open(&server, WATCH)).collect();
    for number in 0..200 {
        server.put(service(&format!("s{}", number % 10), &number.to_string())).unwrap();
    }
    for mut watch in watches {
        let labels = (0..200).map(|_| watch.next()["object"]["metadata"]["labels"]["app"].take());
        let expected = (0..200).map(|number: u32| Value::from(number.to_string()));
        assert!(labels.eq(expected));
    }
}
