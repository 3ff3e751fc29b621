// SPDX-License-Identifier: Apache-2.0
//! Lists: their form, their pages, and the revision they show.

use pintle_tests::api_server::{ApiServer, Kind};
use serde_json::{Value, json};

use crate::client::{failure, get_json, names, number, service};

const SERVICES: &str = "/api/v1/services";

#[test]
fn a_list_says_its_kind_and_the_newest_revision() {
    let server = ApiServer::start().unwrap();
    server.put(service("web", "web")).unwrap();
    server.delete(Kind::Service, "shop", "web").unwrap();
    let list = get_json(&server, SERVICES);
    let metadata = json!({ "resourceVersion": server.revision().to_string() });
    let expected =
        json!({ "kind": "ServiceList", "apiVersion": "v1", "metadata": metadata, "items": [] });
    assert_eq!(list, expected);
}

#[test]
fn items_say_their_kind_only_if_it_is_not_built_in() {
    let server = ApiServer::start().unwrap();
    server.put(service("web", "web")).unwrap();
    server
        .put(json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": { "name": "deny" },
        }))
        .unwrap();
    let services = get_json(&server, SERVICES);
    assert_eq!(services["items"][0]["kind"], Value::Null);
    assert_eq!(services["items"][0]["apiVersion"], Value::Null);
    assert_eq!(services["items"][0]["spec"]["clusterIP"], "10.96.0.1");
    let path = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";
    let policies = get_json(&server, path);
    assert_eq!(policies["kind"], "ClusterNetworkPolicyList");
    assert_eq!(policies["items"][0]["kind"], "ClusterNetworkPolicy");
}

#[test]
fn a_list_is_of_all_namespaces_or_of_one() {
    let server = ApiServer::start().unwrap();
    for (namespace, name) in [("b", "x"), ("a", "z"), ("a-b", "w"), ("a", "y")] {
        let mut object = service(name, "web");
        object["metadata"]["namespace"] = namespace.into();
        server.put(object).unwrap();
    }
    // The order of etcd's keys, in which "a-b/" comes before "a/".
    assert_eq!(names(&get_json(&server, SERVICES)), ["w", "y", "z", "x"]);
    assert_eq!(names(&get_json(&server, "/api/v1/namespaces/a/services")), ["y", "z"]);
    assert_eq!(names(&get_json(&server, "/api/v1/namespaces/c/services")), [""; 0]);
}

#[test]
fn pages_show_the_revision_of_the_first_one() {
    let server = with_services(5);
    let first = get_json(&server, "/api/v1/services?limit=2");
    assert_eq!(names(&first), ["s0", "s1"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    // What happens in between is not seen: a change, a deletion, a new object.
    server.put(service("s2", "changed")).unwrap();
    server.delete(Kind::Service, "shop", "s3").unwrap();
    server.put(service("s33", "new")).unwrap();
    let second = get_json(&server, &next_page(&first, 2));
    assert_eq!(names(&second), ["s2", "s3"]);
    assert_eq!(second["items"][0]["metadata"]["labels"]["app"], "web");
    let third = get_json(&server, &next_page(&second, 2));
    assert_eq!(names(&third), ["s4"]);
    assert_eq!(third["metadata"]["continue"], Value::Null);
    for page in [&second, &third] {
        let versions = [page, &first].map(|page| page["metadata"]["resourceVersion"].clone());
        assert_eq!(versions[0], versions[1]);
    }
    assert_eq!(names(&get_json(&server, SERVICES)), ["s0", "s1", "s2", "s33", "s4"]);
}

#[test]
fn a_page_that_takes_all_has_no_continuation() {
    let server = with_services(2);
    let list = get_json(&server, "/api/v1/services?limit=2");
    assert_eq!(names(&list), ["s0", "s1"]);
    assert_eq!(list["metadata"]["continue"], Value::Null);
    assert_eq!(list["metadata"]["remainingItemCount"], Value::Null);
}

#[test]
fn a_list_of_any_revision_has_no_pages() {
    let server = with_services(3);
    let list = get_json(&server, "/api/v1/services?limit=1&resourceVersion=0");
    assert_eq!(names(&list), ["s0", "s1", "s2"]);
    assert_eq!(list["metadata"]["continue"], Value::Null);
}

#[test]
fn pages_of_a_selection_do_not_say_how_much_remains() {
    let server = with_services(3);
    let list = get_json(&server, "/api/v1/services?limit=1&labelSelector=app%3Dweb");
    assert!(list["metadata"]["continue"].is_string());
    assert_eq!(list["metadata"]["remainingItemCount"], Value::Null);
}

#[test]
fn an_exact_list_shows_the_past() {
    let server = with_services(2);
    let then = server.revision();
    server.delete(Kind::Service, "shop", "s0").unwrap();
    let path = |more: &str| format!("{SERVICES}?resourceVersion={then}{more}");
    let exact = get_json(&server, &path("&resourceVersionMatch=Exact"));
    assert_eq!(names(&exact), ["s0", "s1"]);
    assert_eq!(number(&exact["metadata"]["resourceVersion"]), then);
    // A page of a given revision is exact without saying so.
    assert_eq!(names(&get_json(&server, &path("&limit=1"))), ["s0"]);
    for newest in [path("&resourceVersionMatch=NotOlderThan"), path("")] {
        let list = get_json(&server, &newest);
        assert_eq!(names(&list), ["s1"], "{newest}");
        assert_eq!(number(&list["metadata"]["resourceVersion"]), server.revision());
    }
    assert_eq!(names(&get_json(&server, &format!("{SERVICES}?resourceVersion=0"))), ["s1"]);
}

#[test]
fn a_revision_that_is_not_reached_is_a_timeout() {
    let server = with_services(1);
    let asked = server.revision() + 1;
    let status = failure(&server, &format!("{SERVICES}?resourceVersion={asked}"));
    assert_eq!((&status["code"], &status["reason"]), (&504.into(), &"Timeout".into()));
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[test]
fn options_that_contradict_each_other_are_invalid() {
    let server = with_services(2);
    let page = get_json(&server, "/api/v1/services?limit=1");
    for (query, code) in [
        ("resourceVersionMatch=Exact".to_owned(), 422),
        ("resourceVersionMatch=Exact&resourceVersion=0".to_owned(), 422),
        ("resourceVersionMatch=Newest&resourceVersion=1".to_owned(), 422),
        ("sendInitialEvents=true".to_owned(), 422),
        ("resourceVersion=x".to_owned(), 400),
        ("continue=x".to_owned(), 400),
        (next_page(&page, 1).replace("/api/v1/services?", "resourceVersion=1&"), 400),
    ] {
        let status = failure(&server, &format!("{SERVICES}?{query}"));
        assert_eq!(status["code"], code, "{query}: {status}");
    }
}

fn with_services(count: usize) -> ApiServer {
    let server = ApiServer::start().unwrap();
    for number in 0..count {
        server.put(service(&format!("s{number}"), "web")).unwrap();
    }
    server
}

fn next_page(list: &Value, limit: usize) -> String {
    let token = list["metadata"]["continue"].as_str().expect("another page");
    format!("{SERVICES}?limit={limit}&continue={}", token.replace('/', "%2F"))
}
