// SPDX-License-Identifier: Apache-2.0
//! What the source asks for when the server makes its life hard: not more than needed, and nothing
//! that an old answer would do for.

use std::time::Duration;

use pintle::model::name::Kind as ModelKind;
use pintle_tests::api_server::{Kind, Record, Verb};

use super::{PATIENCE, Scene, service};

/// Requests for services, from a place in the journal on.
fn of_services(scene: &Scene, from: usize) -> Vec<Record> {
    let is_one = |request: &Record| {
        request.attributes.as_ref().is_some_and(|about| about.resource == "services")
    };
    scene.server.requests().into_iter().skip(from).filter(is_one).collect()
}

/// A server may end every watch in order as soon as it is open, which is no error to anybody.
#[test]
fn watches_that_end_at_once_are_not_a_flood_of_requests() {
    const WHILE: Duration = Duration::from_secs(3);
    const STEP: Duration = Duration::from_millis(10);
    let scene = Scene::new();
    scene.put(&service("a", "10.96.0.1"));
    let mut listener = scene.synced();
    scene.server.wait_for_watch(Kind::Service, PATIENCE).expect("a watch");
    let before = scene.server.requests().len();
    for _ in 0..WHILE.as_millis() / STEP.as_millis() {
        scene.server.end_watches();
        listener.listen_for(STEP);
    }
    let asked = of_services(&scene, before);
    let asked = asked.iter().map(|it| it.at.duration_since(asked[0].at));
    // A busy machine takes longer over it than is asked of it.
    let asked: Vec<_> = asked.filter(|at| *at < WHILE).collect();
    // At once and at once again, and the same half a second later, and one more, or up to twice that.
    assert!((3..=6).contains(&asked.len()), "{asked:?}");
    scene.put(&service("b", "10.96.0.2"));
    listener.until(|known| known.cluster_ip("shop/b") == "10.96.0.2");
    listener.until(|known| known.failing_watches().is_empty());
}

/// Resource version 0 is any state that some server remembers, and one before ours would bring back
/// what is gone.
#[test]
fn a_list_after_the_first_one_is_in_pages_and_of_the_newest_state() {
    const SERVICES: usize = 1_100;
    let scene = Scene::new();
    let all: String = (0..SERVICES)
        .map(|n| service(&format!("s{n}"), &format!("10.96.{}.{}", n / 250, n % 250 + 1)))
        .collect();
    scene.put(&all);
    let mut listener = scene.synced();
    scene.server.wait_for_watch(Kind::Service, PATIENCE).expect("a watch");
    let before = scene.server.requests().len();
    scene.server.go_away().expect("it goes away");
    scene.server.delete(Kind::Service, "shop", "s7").expect("delete it");
    scene.server.compact();
    scene.server.come_back().expect("it comes back");
    listener.until(|known| known.names(&ModelKind::Service).len() == SERVICES - 1);
    scene.server.wait_for_watch(Kind::Service, PATIENCE).expect("a watch");

    let asked = of_services(&scene, before);
    let lists = asked.iter().filter(|it| it.attributes.as_ref().unwrap().verb == Verb::List);
    let lists: Vec<&str> = lists.map(|it| it.query.as_str()).collect();
    assert_eq!(lists.len(), 3, "{lists:#?}");
    for (number, query) in lists.iter().enumerate() {
        assert!(query.contains("limit=500"), "{query}");
        assert!(!query.contains("resourceVersion"), "{query}");
        assert_eq!(query.contains("continue="), number > 0, "{query}");
    }
    for watch in asked.iter().filter(|it| it.attributes.as_ref().unwrap().verb == Verb::Watch) {
        assert!(!watch.query.contains("sendInitialEvents"), "{}", watch.query);
        assert!(!watch.query.contains("resourceVersion=0"), "{}", watch.query);
    }
}
