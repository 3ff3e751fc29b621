// SPDX-License-Identifier: Apache-2.0
//! The ClusterRole of the manifests is enough for the source, and each of its grants is used.

use pintle::model::name::{Kind as ModelKind, ObjectName, ObjectRef};
use pintle::source::event::{Announcement, Whose};
use pintle_tests::kustomize::{build, manifests};
use serde_json::Value;

use super::announcements::posted;
use super::{Scene, service};

fn role() -> Value {
    let objects = build(&manifests().join("base")).expect("the base");
    objects.into_iter().find(|object| object["kind"] == "ClusterRole").expect("a role")
}

#[test]
fn with_the_cluster_role_alone_everything_is_heard_and_posted() {
    let scene = Scene::new();
    scene.server.allow_only(&role()).expect("a role");
    scene.put(&service("web", "10.96.0.1"));
    let (mut listener, announcements) = scene.listen_for(true);
    listener.until(|known| known.is_synced);
    assert!(listener.known.rejected.is_empty(), "{:#?}", listener.known.rejected);
    let object = ObjectRef::new(ModelKind::Service, ObjectName::namespaced("shop", "web"));
    let note = "it is odd".to_owned();
    let whose = Whose::ThisNode;
    announcements
        .try_send(Announcement { object, reason: "Rejected", note, whose })
        .expect("there is room");
    assert_eq!(posted(&scene, 1).len(), 1);
}

#[test]
fn without_one_of_its_grants_a_watch_fails_and_says_so() {
    let mut role = role();
    let rules = role["rules"].as_array_mut().expect("rules");
    rules.retain(|rule| rule["apiGroups"] != serde_json::json!(["discovery.k8s.io"]));
    let scene = Scene::new();
    scene.server.allow_only(&role).expect("a role");
    let mut listener = scene.listen();
    let slices = "endpointslices.discovery.k8s.io";
    listener.until(|known| known.failing_watches() == [slices]);
    let words: Vec<_> = listener.known.rejected.values().flatten().collect();
    assert!(words[0].starts_with("the API server answers 403 Forbidden: "), "{words:?}");
}
