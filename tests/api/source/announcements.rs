// SPDX-License-Identifier: Apache-2.0
//! What users must know is posted as Kubernetes Events.

use std::time::Instant;

use pintle::model::name::{Kind as ModelKind, ObjectName, ObjectRef};
use pintle::source::event::{Announcement, Announcements, Whose};
use pintle_tests::api_server::{Kind, Verb};
use serde_json::Value;

use super::{PATIENCE, Scene, service};

fn about(name: &str, whose: Whose) -> Announcement {
    let object = ObjectRef::new(ModelKind::Service, ObjectName::namespaced("shop", name));
    Announcement { object, reason: "Rejected", note: format!("{name} is odd"), whose }
}

fn tell(announcements: &Announcements, announcement: Announcement) {
    announcements.try_send(announcement).expect("there is room");
}

/// Waits for so many requests for Events; the Events that there are then.
#[track_caller]
pub fn posted(scene: &Scene, requests: usize) -> Vec<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let all = scene.server.requests();
        let creates = all.iter().filter(|request| {
            request.attributes.as_ref().is_some_and(|about| about.verb == Verb::Create)
                && request.status.is_some()
        });
        if creates.count() >= requests {
            return scene.server.events();
        }
        assert!(Instant::now() < end, "{:?}", scene.server.events());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn an_event_names_its_object_by_its_uid() {
    let scene = Scene::new();
    scene.put(&service("web", "10.96.0.1"));
    let (mut listener, announcements) = scene.listen_for(true);
    listener.until(|known| known.is_synced);
    tell(&announcements, about("nobody", Whose::ThisNode));
    tell(&announcements, about("web", Whose::ThisNode));
    let events = posted(&scene, 1);
    let [event] = &events[..] else { panic!("{events:#?}") };
    assert_eq!(event["message"], "web is odd");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["source"]["host"], "node-1");
    let object = &event["involvedObject"];
    assert_eq!((&object["kind"], &object["namespace"]), (&"Service".into(), &"shop".into()));
    assert!(object["uid"].as_str().is_some_and(|uid| uid.len() > 8), "{object}");
}

/// Who looks at an object that was made again looks for Events of its uid.
#[test]
fn an_object_that_is_made_again_gets_an_event_of_its_own() {
    let scene = Scene::new();
    let (mut listener, announcements) = scene.listen_for(true);
    for time in 1..=2 {
        scene.put(&service("web", "10.96.0.1"));
        listener.until(|known| known.is_synced && known.cluster_ip("shop/web") == "10.96.0.1");
        tell(&announcements, about("web", Whose::ThisNode));
        assert_eq!(posted(&scene, time).len(), time);
        scene.server.delete(Kind::Service, "shop", "web").expect("delete it");
        listener.until(|known| known.cluster_ip("shop/web").is_empty());
    }
}

/// The library would not look at its file for most of a minute.
#[test]
fn an_event_is_posted_with_a_token_that_was_replaced() {
    let scene = Scene::new();
    scene.put(&service("web", "10.96.0.1"));
    let (mut listener, announcements) = scene.listen_for(true);
    listener.until(|known| known.is_synced);
    scene.server.accept_only("second-token");
    scene.server.write_token(scene.directory.path(), "second-token").expect("a new token");
    tell(&announcements, about("web", Whose::ThisNode));
    assert_eq!(posted(&scene, 2).len(), 1);
}

#[test]
fn what_all_nodes_see_is_posted_once() {
    let scene = Scene::new();
    scene.put(&service("web", "10.96.0.1"));
    let nodes: Vec<_> = ["node-1", "node-2"]
        .into_iter()
        .map(|node| {
            let (mut listener, announcements) = scene.listen_as(node, true);
            listener.until(|known| known.is_synced);
            tell(&announcements, about("web", Whose::Everybody));
            (listener, announcements)
        })
        .collect();
    assert_eq!(posted(&scene, 2).len(), 1);
    drop(nodes);
}
