// SPDX-License-Identifier: Apache-2.0
//! The server is away, slow or silent: what was read stays in force, and the state is right in the end.

use std::time::Duration;

use pintle::model::name::Kind as ModelKind;
use pintle_tests::api_server::{Kind, Pace};

use super::{Listener, PATIENCE, QUIET, Scene, service};

/// A scene with two services, listened to, whose watches are open.
fn two_services() -> (Scene, Listener) {
    let scene = Scene::new();
    scene.put(&[service("a", "10.96.0.1"), service("b", "10.96.0.2")].concat());
    let listener = scene.synced();
    for kind in Kind::ALL {
        scene.server.wait_for_watch(kind, PATIENCE).expect("a watch");
    }
    (scene, listener)
}

/// While nobody can hear of it: one is changed, one deleted, one made.
fn change_everything(scene: &Scene) {
    scene.put(&[service("a", "10.96.0.11"), service("c", "10.96.0.3")].concat());
    scene.server.delete(Kind::Service, "shop", "b").expect("delete it");
}

#[track_caller]
fn everything_has_changed(listener: &mut Listener) {
    listener.until(|known| {
        known.cluster_ip("shop/a") == "10.96.0.11"
            && known.names(&ModelKind::Service) == ["shop/a", "shop/c"]
    });
}

#[test]
fn while_the_server_is_away_everything_stays_in_force() {
    let (scene, mut listener) = two_services();
    scene.server.go_away().expect("it goes away");
    change_everything(&scene);
    listener.until(|known| known.failing_watches().len() == Kind::ALL.len());
    assert_eq!(listener.known.names(&ModelKind::Service), ["shop/a", "shop/b"]);
    let reasons = listener.known.rejected.values().flatten();
    for reason in reasons {
        assert!(reason.ends_with("; what was read before stays in force"), "{reason}");
        assert!(reason.contains("Connection refused"), "{reason}");
    }
    scene.server.come_back().expect("it comes back");
    everything_has_changed(&mut listener);
    listener.until(|known| known.failing_watches().is_empty());
}

#[test]
fn a_source_that_starts_while_the_server_is_away_waits_for_it() {
    let scene = Scene::new();
    scene.put(&service("a", "10.96.0.1"));
    scene.server.go_away().expect("it goes away");
    let mut listener = scene.listen();
    listener.until(|known| known.failing_watches().len() == Kind::ALL.len());
    assert!(!listener.known.is_synced);
    scene.server.come_back().expect("it comes back");
    listener.until(|known| known.is_synced && known.failing_watches().is_empty());
    assert_eq!(listener.known.names(&ModelKind::Service), ["shop/a"]);
}

#[test]
fn watches_that_end_or_are_cut_go_on_where_they_were() {
    let (scene, mut listener) = two_services();
    let lists = |scene: &Scene| {
        let initial = |query: &str| query.contains("sendInitialEvents=true");
        scene.server.requests().iter().filter(|request| initial(&request.query)).count()
    };
    let before = lists(&scene);
    scene.server.end_watches();
    scene.server.cut_watches();
    change_everything(&scene);
    everything_has_changed(&mut listener);
    assert_eq!(lists(&scene), before, "nothing is listed again");
}

#[test]
fn a_place_that_the_server_has_forgotten_is_left_for_a_new_list() {
    let (scene, mut listener) = two_services();
    scene.server.go_away().expect("it goes away");
    change_everything(&scene);
    scene.server.compact();
    scene.server.come_back().expect("it comes back");
    everything_has_changed(&mut listener);
    listener.until(|known| known.failing_watches().is_empty());
    assert!(listener.known.is_synced);
}

#[test]
fn a_slow_server_delays_and_loses_nothing() {
    let scene = Scene::new();
    let all: String = (1..=40)
        .map(|number| service(&format!("s{number}"), &format!("10.96.0.{number}")))
        .collect();
    scene.put(&all);
    scene.server.set_pace(Pace::Trickle { bytes: 200, every: Duration::from_millis(2) });
    let mut listener = scene.synced();
    assert_eq!(listener.known.names(&ModelKind::Service).len(), 40);
    scene.put(&service("s7", "10.96.0.77"));
    listener.until(|known| known.cluster_ip("shop/s7") == "10.96.0.77");
}

/// Forty services.
fn forty() -> String {
    (1..=40).map(|number| service(&format!("s{number}"), &format!("10.96.0.{number}"))).collect()
}

/// The list that follows breaks off again and again; what it does not come to is not gone.
#[test]
fn a_server_that_stops_in_the_middle_of_a_list_is_not_believed() {
    let scene = Scene::new();
    scene.put(&forty());
    let mut listener = scene.synced();
    listener.invariant = |known| known.names(&ModelKind::Service).len() == 40;
    scene.server.set_pace(Pace::Trickle { bytes: 400, every: Duration::from_millis(20) });
    scene.server.go_away().expect("it goes away");
    scene.server.compact();
    for _ in 0..3 {
        scene.server.come_back().expect("it comes back");
        listener.listen_for(QUIET * 8);
        scene.server.go_away().expect("it goes away");
        listener.until(|known| known.failing_watches().contains(&"services"));
    }
    scene.server.set_pace(Pace::AtOnce);
    scene.server.come_back().expect("it comes back");
    listener.until(|known| known.failing_watches().is_empty());
    listener.invariant = |_| true;
    scene.server.delete(Kind::Service, "shop", "s7").expect("delete it");
    listener.until(|known| known.names(&ModelKind::Service).len() == 39);
}

/// A server may cut a watch whose first events it cannot get rid of, without a word.
#[test]
fn a_list_that_breaks_off_is_told_and_not_begun_again_at_once() {
    let scene = Scene::new();
    scene.put(&forty());
    scene.server.set_pace(Pace::Trickle { bytes: 40, every: Duration::from_millis(20) });
    let mut listener = scene.listen();
    let lists = |scene: &Scene| {
        let of_services = |path: &str| path.ends_with("/services");
        scene.server.requests().iter().filter(|request| of_services(&request.path)).count()
    };
    for _ in 0..20 {
        listener.listen_for(Duration::from_millis(100));
        scene.server.cut_watches();
    }
    assert!(lists(&scene) <= 6, "{} requests in two seconds", lists(&scene));
    listener.until(|known| known.failing_watches().contains(&"services"));
    assert!(!listener.known.is_synced);
    scene.server.set_pace(Pace::AtOnce);
    listener.until(|known| known.is_synced && known.failing_watches().is_empty());
    assert_eq!(listener.known.names(&ModelKind::Service).len(), 40);
}
