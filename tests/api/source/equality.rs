// SPDX-License-Identifier: Apache-2.0
//! The same objects give the same state, whether a directory has them or the API server.

use std::fs;

use super::{Scene, listen_to_directory, service};

/// One of each kind, and mistakes that are left out of some.
const OBJECTS: &str = include_str!("objects.yaml");
/// The same after some time: changed, added, gone.
const LATER: &str = include_str!("later.yaml");

#[test]
fn a_directory_and_the_api_server_give_the_same_state() {
    let scene = Scene::new();
    scene.put(OBJECTS);
    let mut api = scene.synced();
    let (directory, mut files) = listen_to_directory(OBJECTS);
    files.until(|known| known.is_synced);
    assert_eq!(api.known, files.known);
    assert_eq!(api.known.objects.len(), 13, "{:#?}", api.known.objects.keys());
    assert_eq!(api.known.rejected.len(), 3, "{:#?}", api.known.rejected);

    // What changes is told as what the directory tells of it.
    fs::write(directory.path().join("objects.yaml"), LATER).expect("write the directory");
    files.until(|known| known.cluster_ip("shop/late") == "10.96.0.99");
    scene.put(LATER);
    for (kind, namespace, name) in gone() {
        scene.server.delete(kind, namespace, name).expect("delete it");
    }
    let expected = &files.known;
    api.until(|known| known == expected);
}

/// What is in the first text and not in the second.
fn gone() -> [(pintle_tests::api_server::Kind, &'static str, &'static str); 3] {
    use pintle_tests::api_server::Kind;
    [
        (Kind::Pod, "shop", "web-2"),
        (Kind::NetworkPolicy, "shop", "web"),
        (Kind::ClusterNetworkPolicy, "", "monitoring"),
    ]
}

#[test]
fn what_comes_by_changes_is_what_comes_by_a_list() {
    let early = Scene::new();
    let mut by_changes = early.synced();
    early.put(OBJECTS);
    let late = Scene::new();
    late.put(OBJECTS);
    let by_list = late.synced();
    by_changes.until(|known| *known == by_list.known);
}

#[test]
fn an_object_that_was_put_again_is_not_told() {
    let scene = Scene::new();
    scene.put(&service("web", "10.96.0.1"));
    let mut listener = scene.synced();
    let labelled =
        service("web", "10.96.0.1").replace("{name: web,", "{labels: {a: b}, name: web,");
    scene.put(&labelled);
    listener.hears_nothing();
}
