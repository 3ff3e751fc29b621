// SPDX-License-Identifier: Apache-2.0
//! What the server adds to an object, and how it reads it back.

use pintle_tests::api_server::{ApiServer, Kind};
use serde_json::{Value, json};

use crate::client::{failure, get_json, number, service};

const WEB: &str = "/api/v1/namespaces/shop/services/web";

#[test]
fn an_object_is_read_as_it_was_put_with_metadata_of_the_server() {
    let server = ApiServer::start().unwrap();
    let put = service("web", "web");
    let revision = server.put(put.clone()).unwrap();
    let mut got = get_json(&server, WEB);
    let metadata = got["metadata"].as_object_mut().unwrap();
    assert_eq!(metadata.remove("resourceVersion"), Some(revision.to_string().into()));
    assert_eq!(metadata.remove("uid").unwrap().as_str().unwrap().len(), 36);
    let created = metadata.remove("creationTimestamp").unwrap();
    assert!(created.as_str().unwrap().ends_with('Z'), "{created}");
    assert_eq!(got, put);
}

#[test]
fn revisions_grow_over_all_kinds() {
    let server = ApiServer::start().unwrap();
    let first = server.put(service("web", "web")).unwrap();
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "a" } });
    let second = server.put(node).unwrap();
    let third = server.delete(Kind::Service, "shop", "web").unwrap();
    assert_eq!((second, third, server.revision()), (first + 1, first + 2, first + 2));
}

#[test]
fn an_update_keeps_uid_and_creation_and_a_new_object_of_the_name_does_not() {
    let server = ApiServer::start().unwrap();
    server.put(service("web", "one")).unwrap();
    let first = get_json(&server, WEB);
    server.put(service("web", "two")).unwrap();
    let second = get_json(&server, WEB);
    assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"]);
    assert_eq!(second["metadata"]["creationTimestamp"], first["metadata"]["creationTimestamp"]);
    assert!(number(&second["metadata"]["resourceVersion"]) > revision(&first));
    server.delete(Kind::Service, "shop", "web").unwrap();
    server.put(service("web", "two")).unwrap();
    assert_ne!(get_json(&server, WEB)["metadata"]["uid"], first["metadata"]["uid"]);
}

#[test]
fn an_update_without_difference_changes_nothing() {
    let server = ApiServer::start().unwrap();
    let revision = server.put(service("web", "web")).unwrap();
    assert_eq!(server.put(service("web", "web")).unwrap(), revision);
    assert_eq!(server.revision(), revision);
}

#[test]
fn a_namespace_gets_the_label_with_its_name() {
    let server = ApiServer::start().unwrap();
    server.put_yaml("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n").unwrap();
    let labels = &get_json(&server, "/api/v1/namespaces/shop")["metadata"]["labels"];
    assert_eq!(*labels, json!({ "kubernetes.io/metadata.name": "shop" }));
}

#[test]
fn every_kind_is_where_the_api_has_it() {
    let server = ApiServer::start().unwrap();
    for (version, kind, path) in [
        ("v1", "Service", "/api/v1/namespaces/a/services/x"),
        ("v1", "Node", "/api/v1/nodes/x"),
        ("v1", "Namespace", "/api/v1/namespaces/x"),
        ("v1", "Pod", "/api/v1/namespaces/a/pods/x"),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/x",
        ),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/x",
        ),
        ("networking.k8s.io/v1", "ServiceCIDR", "/apis/networking.k8s.io/v1/servicecidrs/x"),
        (
            "policy.networking.k8s.io/v1alpha2",
            "ClusterNetworkPolicy",
            "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies/x",
        ),
    ] {
        let metadata = match path.contains("/namespaces/a/") {
            true => json!({ "name": "x", "namespace": "a" }),
            false => json!({ "name": "x" }),
        };
        let object = json!({ "apiVersion": version, "kind": kind, "metadata": metadata });
        server.put(object).unwrap();
        let got = get_json(&server, path);
        assert_eq!((&got["kind"], &got["apiVersion"]), (&kind.into(), &version.into()));
    }
}

#[test]
fn an_object_that_is_not_there_is_not_found() {
    let server = ApiServer::start().unwrap();
    let status = failure(&server, WEB);
    assert_eq!((&status["code"], &status["reason"]), (&404.into(), &"NotFound".into()));
    assert_eq!(status["message"], "services \"web\" not found");
    assert_eq!(status["details"], json!({ "name": "web", "kind": "services" }));
    assert!(server.delete(Kind::Service, "shop", "web").is_err());
}

#[test]
fn an_object_of_no_kind_or_without_name_is_not_put() {
    let server = ApiServer::start().unwrap();
    let before = server.revision();
    for object in [
        json!({ "apiVersion": "v1", "kind": "Serviced", "metadata": { "name": "x" } }),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": {} }),
        json!({ "apiVersion": "v1", "kind": "Service" }),
        json!("x"),
    ] {
        assert!(server.put(object.clone()).is_err(), "{object}");
    }
    assert_eq!(server.revision(), before);
}

fn revision(object: &Value) -> u64 {
    number(&object["metadata"]["resourceVersion"])
}
