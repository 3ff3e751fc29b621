// SPDX-License-Identifier: Apache-2.0
//! Nonsense in a watch: lines that are no JSON, events of no known type, objects of a wrong shape.

use pintle_tests::api_server::{ApiServer, Kind};
use serde_json::json;

use crate::client::{Watch, get_json, service};

const WATCH: &str = "/api/v1/services?watch=true";

#[test]
fn a_line_goes_into_the_watches_of_its_kind_between_events() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, WATCH);
    let mut nodes = Watch::open(&server, "/api/v1/nodes?watch=true");
    server.put(service("web", "one")).unwrap();
    server.send_line(Kind::Service, "{\"type\":\"ADD");
    server.put(service("web", "two")).unwrap();
    assert_eq!(watch.brief().0, "ADDED");
    assert_eq!(watch.line().unwrap(), "{\"type\":\"ADD\n");
    assert_eq!(watch.brief().0, "MODIFIED");
    nodes.stays_quiet();
}

#[test]
fn an_event_may_have_any_type_and_any_object() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, WATCH);
    server.send_event(Kind::Service, "RENAMED", &json!([1]));
    assert_eq!(watch.next(), json!({ "type": "RENAMED", "object": [1] }));
}

#[test]
fn an_object_of_a_wrong_shape_is_kept_and_sent_as_it_is() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, WATCH);
    let mut object = service("web", "web");
    object["spec"] = "a text".into();
    object["metadata"]["labels"] = json!({ "app": 1 });
    server.put(object).unwrap();
    assert_eq!(watch.next()["object"]["spec"], "a text");
    let list = get_json(&server, "/api/v1/services");
    assert_eq!(list["items"][0]["spec"], "a text");
    assert_eq!(list["items"][0]["metadata"]["labels"]["app"], 1);
}
