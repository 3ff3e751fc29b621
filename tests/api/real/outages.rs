// SPDX-License-Identifier: Apache-2.0
//! A real server is killed, comes back, and does not know any more where the watches were.

use pintle::model::name::Kind;
use pintle::source::kube::RESOURCES;
use pintle_tests::real_api_server::{ADMINISTRATOR, RealApiServer, WatchCache};
use serde_json::{Value, json};

use super::{Real, at, real, service, shop};
use crate::source::Listener;

/// A server with services, and a source that has told them.
fn services(watch_cache: WatchCache) -> Option<(Real, Listener)> {
    let real = real(watch_cache)?;
    real.server.create(&shop()).expect("a namespace");
    for number in 1..=5 {
        let made = service(&format!("s{number}"), &format!("10.96.1.{number}"));
        real.server.create(&made).expect("a service");
    }
    real.define_policies();
    let listener = real.synced();
    assert_eq!(listener.known.names(&Kind::Service).len(), 6);
    Some((real, listener))
}

#[track_caller]
fn until_all_fail(listener: &mut Listener) {
    listener.until(|known| known.failing_watches().len() == RESOURCES.len());
}

/// One changed, one deleted, one made.
fn change_everything(server: &RealApiServer) {
    let port = json!({ "spec": { "ports": [{ "name": "http", "port": 8888 }] } });
    server.patch(&at("s1"), &port).expect("a change");
    server.delete(&at("s2")).expect("a deletion");
    server.create(&service("s6", "10.96.1.6")).expect("a service");
}

/// How often the source has asked for a list of services, as the server's own log has it.
fn lists(real: &Real) -> usize {
    let requests = real.server.requests_of(ADMINISTRATOR).expect("an audit log");
    let is_list = |it: &&Value| it["verb"] == "list" && it["objectRef"]["resource"] == "services";
    requests.iter().filter(is_list).count()
}

const LATER: [&str; 6] =
    ["default/kubernetes", "shop/s1", "shop/s3", "shop/s4", "shop/s5", "shop/s6"];

#[test]
fn nothing_is_removed_while_the_server_is_killed_and_starts_again() {
    let Some((mut real, mut listener)) = services(WatchCache::On) else { return };
    listener.invariant = |known| known.names(&Kind::Service).len() == 6;
    let before = listener.known.objects.clone();
    real.server.stop();
    until_all_fail(&mut listener);
    real.server.go_on().expect("it starts again");
    listener.until(|known| known.failing_watches().is_empty());
    assert_eq!(listener.known.objects, before);
    listener.invariant = |_| true;
    change_everything(&real.server);
    listener.until(|known| known.names(&Kind::Service) == LATER);
}

#[test]
fn what_changed_while_the_server_was_away_is_told_when_it_comes_back() {
    let Some((mut real, mut listener)) = services(WatchCache::On) else { return };
    real.server.stop();
    until_all_fail(&mut listener);
    real.server.elsewhere(change_everything).expect("it changes");
    listener.invariant = |known| known.names(&Kind::Service).len() >= 5;
    real.server.go_on().expect("it starts again");
    listener.until(|known| known.names(&Kind::Service) == LATER);
    listener.until(|known| known.failing_watches().is_empty());
}

/// Without the watch cache each watch is etcd's, and goes on where it was unless that is compacted.
#[test]
fn a_place_that_etcd_has_forgotten_is_left_for_a_new_list() {
    let Some((mut real, mut listener)) = services(WatchCache::Off) else { return };
    assert_eq!(lists(&real), 0, "the first list is a stream");
    real.server.stop();
    until_all_fail(&mut listener);
    let forget = |server: &RealApiServer| {
        change_everything(server);
        server.compact().expect("etcd compacts");
    };
    real.server.elsewhere(forget).expect("it changes");
    listener.invariant = |known| known.names(&Kind::Service).len() >= 5;
    real.server.go_on().expect("it starts again");
    listener.until(|known| known.names(&Kind::Service) == LATER);
    listener.until(|known| known.failing_watches().is_empty());
    assert!(lists(&real) > 0, "the place was not forgotten");
    let port = json!({ "spec": { "ports": [{ "name": "http", "port": 9999 }] } });
    let before = listener.known.objects.clone();
    real.server.patch(&at("s3"), &port).expect("a change");
    listener.until(|known| known.objects != before);
}
