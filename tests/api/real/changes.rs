// SPDX-License-Identifier: Apache-2.0
//! Ordinary life at a real server: what is made, changed, selected, deleted, and a kind that appears.

use pintle::model::name::Kind;
use pintle_tests::real_api_server::WatchCache;
use serde_json::{Value, json};

use super::{at, cluster_policy, real, service, shop};

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const SERVICE_OF_SLICE: &str = "kubernetes.io/service-name";

#[test]
fn what_is_made_changed_and_deleted_is_told() {
    let Some(real) = real(WatchCache::On) else { return };
    let mut listener = real.synced();
    assert_eq!(listener.known.names(&Kind::Service), ["default/kubernetes"]);
    real.server.create(&shop()).expect("a namespace");
    real.server.create(&service("web", "10.96.0.10")).expect("a service");
    listener.until(|known| known.cluster_ip("shop/web") == "10.96.0.10");
    let ports = json!({ "spec": { "ports": [{ "name": "http", "port": 81 }] } });
    let before = listener.known.objects.clone();
    real.server.patch(&at("web"), &ports).expect("another port");
    listener.until(|known| known.objects != before);
    real.server.patch("/api/v1/namespaces/shop", &labels("team", "b".into())).expect("a label");
    let before = listener.known.objects.clone();
    listener.until(|known| known.objects != before);
    real.server.delete(&at("web")).expect("it is deleted");
    listener.until(|known| known.names(&Kind::Service) == ["default/kubernetes"]);
    // It stays as long as nobody empties it, and so it goes on to be one.
    real.server.delete("/api/v1/namespaces/shop").expect("it is deleted");
    listener.hears_nothing();
    assert!(listener.known.names(&Kind::Namespace).contains(&"shop"));
    assert!(listener.known.rejected.is_empty(), "{:#?}", listener.known.rejected);
}

#[test]
fn labels_and_types_decide_what_is_selected() {
    let Some(real) = real(WatchCache::On) else { return };
    real.server.create(&shop()).expect("a namespace");
    let mut other = service("other", "10.96.0.11");
    other["metadata"]["labels"] = json!({ PROXY_NAME: "another" });
    for object in [&other, &service("web", "10.96.0.10"), &service("headless", "None")] {
        real.server.create(object).expect("a service");
    }
    real.server.create(&slice()).expect("a slice");
    let mut listener = real.synced();
    let services = |known: &crate::source::Known| known.names(&Kind::Service).join(" ");
    assert_eq!(services(&listener.known), "default/kubernetes shop/web");
    real.server.patch(&at("web"), &labels(PROXY_NAME, "another".into())).expect("a label");
    listener.until(|known| services(known) == "default/kubernetes");
    real.server.patch(&at("other"), &labels(PROXY_NAME, Value::Null)).expect("no label");
    listener.until(|known| services(known) == "default/kubernetes shop/other");
    let external = json!({ "spec": { "type": "ExternalName", "externalName": "example.org",
        "clusterIP": "", "clusterIPs": null } });
    real.server.patch(&at("other"), &external).expect("another type");
    listener.until(|known| services(known) == "default/kubernetes");
    let slice = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-1";
    let headless = "service.kubernetes.io/headless";
    real.server.patch(slice, &labels(headless, "".into())).expect("a label");
    listener.until(|known| known.names(&Kind::EndpointSlice).is_empty());
    real.server.patch(slice, &labels(headless, Value::Null)).expect("no label");
    listener.until(|known| known.names(&Kind::EndpointSlice) == ["shop/web-1"]);
}

#[test]
fn a_kind_that_is_defined_after_the_start_is_picked_up() {
    let Some(real) = real(WatchCache::On) else { return };
    let mut listener = real.synced();
    assert!(listener.known.rejected.is_empty(), "{:#?}", listener.known.rejected);
    real.define_policies();
    real.server.create(&cluster_policy("deny")).expect("a policy");
    listener.until(|known| known.names(&Kind::ClusterNetworkPolicy) == ["deny"]);
    real.server.create(&cluster_policy("deny-2")).expect("a policy");
    listener.until(|known| known.names(&Kind::ClusterNetworkPolicy).len() == 2);
    assert!(listener.known.rejected.is_empty(), "{:#?}", listener.known.rejected);
}

fn labels(name: &str, value: Value) -> Value {
    json!({ "metadata": { "labels": { name: value } } })
}

fn slice() -> Value {
    json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "web-1", "namespace": "shop", "labels": { SERVICE_OF_SLICE: "web" } },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": [{ "addresses": ["10.244.1.5"] }] })
}
