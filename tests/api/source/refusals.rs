// SPDX-License-Identifier: Apache-2.0
//! The server refuses, or sends what nobody understands.

use pintle::model::name::Kind as ModelKind;
use pintle_tests::api_server::{Kind, Refusal, StreamingLists, Verb};
use serde_json::json;

use super::{Listener, PATIENCE, Scene, service};

fn one_service() -> (Scene, Listener) {
    let scene = Scene::new();
    scene.put(&service("a", "10.96.0.1"));
    let listener = scene.synced();
    scene.server.wait_for_watch(Kind::Service, PATIENCE).expect("a watch");
    (scene, listener)
}

#[test]
fn a_server_that_streams_no_lists_is_asked_for_pages() {
    let scene = Scene::new();
    scene.server.set_streaming_lists(StreamingLists::Refused);
    scene.put(&service("a", "10.96.0.1"));
    let mut listener = scene.synced();
    assert_eq!(listener.known.names(&ModelKind::Service), ["shop/a"]);
    assert_eq!(listener.known.failing_watches(), [""; 0], "that is no failure");
    scene.put(&service("b", "10.96.0.2"));
    listener.until(|known| known.cluster_ip("shop/b") == "10.96.0.2");
}

#[test]
fn a_storm_of_refusals_passes() {
    for refusal in [
        Refusal::Gone,
        Refusal::Expired,
        Refusal::InternalError,
        Refusal::Unavailable,
        Refusal::TooManyRequests { retry_after: 1 },
    ] {
        let (scene, mut listener) = one_service();
        scene.server.refuse_next(Verb::Watch, 24, refusal);
        scene.server.cut_watches();
        scene.put(&service("b", "10.96.0.2"));
        scene.server.delete(Kind::Service, "shop", "a").expect("delete it");
        listener.until(|known| known.names(&ModelKind::Service) == ["shop/b"]);
        listener.until(|known| known.failing_watches().is_empty());
    }
}

#[test]
fn nothing_is_complete_while_one_kind_cannot_be_listed() {
    let scene = Scene::new();
    scene.put(&service("a", "10.96.0.1"));
    scene.server.forbid(Verb::Watch, "endpointslices");
    scene.server.forbid(Verb::List, "endpointslices");
    let mut listener = scene.listen();
    let slices = "endpointslices.discovery.k8s.io";
    listener.until(|known| {
        known.failing_watches() == [slices] && known.cluster_ip("shop/a") == "10.96.0.1"
    });
    listener.hears_nothing();
    assert!(!listener.known.is_synced);
    scene.server.forbid_nothing();
    listener.until(|known| known.is_synced && known.failing_watches().is_empty());
}

#[test]
fn an_object_of_a_wrong_shape_stays_as_it_was_and_costs_nobody_else_anything() {
    let (scene, mut listener) = one_service();
    let revision = scene.server.revision().to_string();
    let broken = json!({
        "apiVersion": "v1", "kind": "Service", "spec": "a string",
        "metadata": {"name": "a", "namespace": "shop", "resourceVersion": revision},
    });
    scene.server.send_event(Kind::Service, "MODIFIED", &broken);
    scene.put(&service("b", "10.96.0.2"));
    listener.until(|known| known.cluster_ip("shop/b") == "10.96.0.2");
    assert_eq!(listener.known.cluster_ip("shop/a"), "10.96.0.1", "its last good version");
    let rejected: Vec<_> = listener.known.rejected.keys().map(ToString::to_string).collect();
    assert_eq!(rejected, ["Service shop/a"]);
    scene.put(&service("a", "10.96.0.11"));
    listener.until(|known| known.cluster_ip("shop/a") == "10.96.0.11" && known.rejected.is_empty());
}

/// A change may be in what nobody understands, so what the server has is listed again.
#[test]
fn a_line_that_nobody_understands_loses_nothing() {
    for line in ["{ this is not JSON", "\"a string\"", r#"{"type": "SURPRISE", "object": {}}"#] {
        let (scene, mut listener) = one_service();
        scene.server.send_line(Kind::Service, line);
        listener.until(|known| known.failing_watches() == ["services"]);
        scene.put(&service("b", "10.96.0.2"));
        listener.until(|known| {
            known.cluster_ip("shop/b") == "10.96.0.2" && known.failing_watches().is_empty()
        });
        assert_eq!(listener.known.cluster_ip("shop/a"), "10.96.0.1");
    }
}

#[test]
fn an_object_without_a_name_ends_nothing() {
    let (scene, mut listener) = one_service();
    scene.server.send_event(Kind::Service, "ADDED", &json!("no object at all"));
    scene.server.send_event(Kind::Service, "ADDED", &json!({"metadata": {}}));
    scene.put(&service("b", "10.96.0.2"));
    listener.until(|known| known.cluster_ip("shop/b") == "10.96.0.2");
    listener.until(|known| known.rejected.is_empty());
    assert_eq!(listener.known.cluster_ip("shop/a"), "10.96.0.1");
}

#[test]
fn a_token_that_is_replaced_is_read_again() {
    let (scene, mut listener) = one_service();
    scene.server.accept_only("second-token");
    scene.server.write_token(scene.directory.path(), "second-token").expect("a new token");
    scene.server.cut_watches();
    scene.put(&service("b", "10.96.0.2"));
    listener.until(|known| known.cluster_ip("shop/b") == "10.96.0.2");
    listener.until(|known| known.failing_watches().is_empty());
}
