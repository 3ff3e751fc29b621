// SPDX-License-Identifier: Apache-2.0
//! Watches that begin with a list: `sendInitialEvents=true`.

use pintle_tests::api_server::{ApiServer, StreamingLists};
use serde_json::{Value, json};

use crate::client::{Watch, brief, failure, service};

const STREAM: &str = "/api/v1/services?watch=true&sendInitialEvents=true\
    &resourceVersionMatch=NotOlderThan";

#[test]
fn initial_events_end_with_a_bookmark_that_says_so() {
    let server = ApiServer::start().unwrap();
    let b = server.put(service("b", "web")).unwrap();
    let a = server.put(service("a", "web")).unwrap();
    server.put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" } })).unwrap();
    let then = server.revision();
    let mut watch = Watch::open(&server, &format!("{STREAM}&allowWatchBookmarks=true"));
    let later = server.put(service("c", "web")).unwrap();
    assert_eq!(watch.brief(), ("ADDED".into(), "a".into(), a));
    assert_eq!(watch.brief(), ("ADDED".into(), "b".into(), b));
    let end = watch.next();
    assert_eq!(brief(&end), ("BOOKMARK".into(), String::new(), then));
    let marks = json!({ "k8s.io/initial-events-end": "true" });
    assert_eq!(end["object"]["metadata"]["annotations"], marks);
    assert_eq!(watch.brief(), ("ADDED".into(), "c".into(), later));
    // Bookmarks that come later do not say it.
    server.send_bookmarks();
    assert_eq!(watch.next()["object"]["metadata"]["annotations"], Value::Null);
}

#[test]
fn an_empty_list_has_its_end_too() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, &format!("{STREAM}&allowWatchBookmarks=true"));
    assert_eq!(watch.brief().0, "BOOKMARK");
}

#[test]
fn without_bookmarks_nobody_says_where_the_initial_events_end() {
    let server = ApiServer::start().unwrap();
    server.put(service("a", "web")).unwrap();
    let mut watch = Watch::open(&server, STREAM);
    assert_eq!(watch.brief().0, "ADDED");
    watch.stays_quiet();
}

#[test]
fn initial_events_are_what_is_there_whatever_revision_was_seen_before() {
    let server = ApiServer::start().unwrap();
    let first = server.put(service("a", "web")).unwrap();
    let second = server.put(service("b", "web")).unwrap();
    let path = format!("{STREAM}&allowWatchBookmarks=true&resourceVersion={first}");
    let mut watch = Watch::open(&server, &path);
    let seen = [watch.brief(), watch.brief(), watch.brief()];
    assert_eq!(seen[0], ("ADDED".into(), "a".into(), first));
    assert_eq!(seen[1], ("ADDED".into(), "b".into(), second));
    assert_eq!(seen[2], ("BOOKMARK".into(), String::new(), second));
}

#[test]
fn initial_events_pass_the_selector() {
    let server = ApiServer::start().unwrap();
    server.put(service("a", "web")).unwrap();
    server.put(service("b", "db")).unwrap();
    let path = format!("{STREAM}&allowWatchBookmarks=true&labelSelector=app%3Ddb");
    let mut watch = Watch::open(&server, &path);
    assert_eq!(watch.brief().1, "b");
    assert_eq!(watch.brief().0, "BOOKMARK");
}

#[test]
fn initial_events_can_be_declined() {
    let server = ApiServer::start().unwrap();
    server.put(service("a", "web")).unwrap();
    let path = STREAM.replace("Events=true", "Events=false");
    let mut watch = Watch::open(&server, &path);
    let revision = server.put(service("b", "web")).unwrap();
    assert_eq!(watch.brief(), ("ADDED".into(), "b".into(), revision));
}

#[test]
fn a_server_without_streaming_lists_says_invalid() {
    let server = ApiServer::start().unwrap();
    server.set_streaming_lists(StreamingLists::Refused);
    let status = failure(&server, &format!("{STREAM}&allowWatchBookmarks=true"));
    assert_eq!((&status["code"], &status["reason"]), (&422.into(), &"Invalid".into()));
    let message = status["message"].as_str().unwrap();
    let gate = "sendInitialEvents is forbidden for watch unless the WatchList feature gate";
    assert!(message.contains(gate), "{message}");
    server.set_streaming_lists(StreamingLists::Offered);
    Watch::open(&server, STREAM);
}

#[test]
fn the_match_and_the_initial_events_need_each_other() {
    let server = ApiServer::start().unwrap();
    for query in [
        "sendInitialEvents=true",
        "sendInitialEvents=true&resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan",
    ] {
        let status = failure(&server, &format!("/api/v1/services?watch=true&{query}"));
        assert_eq!(status["code"], 422, "{query}");
    }
}

#[test]
fn initial_events_of_a_revision_that_is_not_reached_are_a_timeout() {
    let server = ApiServer::start().unwrap();
    let future = server.revision() + 1;
    let status = failure(&server, &format!("{STREAM}&resourceVersion={future}"));
    assert_eq!(status["code"], 504);
}
