// SPDX-License-Identifier: Apache-2.0
//! As the manifests' service account, with the manifests' role: everything is heard, Events are taken,
//! and nothing is refused.

use std::thread;
use std::time::{Duration, Instant};

use pintle::model::name::{Kind, ObjectName, ObjectRef};
use pintle::source::event::{Announcement, Whose};
use pintle::source::kube::RESOURCES;
use pintle_tests::kustomize::{build, manifests};
use pintle_tests::real_api_server::WatchCache;
use serde_json::Value;

use super::{Real, cluster_policy, real, service, shop};
use crate::source::{NODE, PATIENCE, listen_at};

const ACCOUNT: &str = "system:serviceaccount:kube-system:pintle";

/// Makes what the manifests say of who the agent is and what it may do.
fn apply_role(real: &Real) {
    for object in build(&manifests().join("base")).expect("the base") {
        if object["kind"] != "DaemonSet" {
            real.server.create(&object).expect("it is made");
        }
    }
}

fn announcement(kind: Kind, name: ObjectName, whose: Whose) -> Announcement {
    let note = format!("{name} is odd");
    Announcement { object: ObjectRef::new(kind, name), reason: "Rejected", note, whose }
}

#[track_caller]
fn events(real: &Real, count: usize) -> Vec<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let events = real.server.list("/api/v1/events").expect("events");
        let ours = events.into_iter().filter(|it| it["source"]["component"] == "pintle");
        let ours: Vec<Value> = ours.collect();
        if ours.len() >= count {
            return ours;
        }
        assert!(Instant::now() < end, "{ours:#?}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_service_account_may_do_all_that_the_agent_does() {
    let Some(real) = real(WatchCache::On) else { return };
    apply_role(&real);
    real.define_policies();
    for object in [shop(), service("web", "10.96.0.10"), cluster_policy("deny")] {
        real.server.create(&object).expect("it is made");
    }
    let token = real.server.token_of("kube-system", "pintle").expect("a token");
    let kubeconfig = real.server.write_kubeconfig(real.directory.path(), &token).expect("a file");
    let (mut listener, announcements) = listen_at(&kubeconfig, NODE, true);
    listener.until(|known| known.is_synced);
    assert!(listener.known.rejected.is_empty(), "{:#?}", listener.known.rejected);
    assert_eq!(listener.known.names(&Kind::ClusterNetworkPolicy), ["deny"]);

    // One in its namespace, one of the cluster, and one that another node has posted already.
    let web = ObjectName::namespaced("shop", "web");
    for said in [
        announcement(Kind::Service, web.clone(), Whose::ThisNode),
        announcement(Kind::ClusterNetworkPolicy, ObjectName::cluster("deny"), Whose::ThisNode),
        announcement(Kind::Service, web.clone(), Whose::Everybody),
    ] {
        announcements.try_send(said).expect("there is room");
    }
    let posted = events(&real, 3);
    let (mut other, announcements) = listen_at(&kubeconfig, "node-2", true);
    other.until(|known| known.is_synced);
    let said = announcement(Kind::Service, web, Whose::Everybody);
    announcements.try_send(said).expect("there is room");
    let creates = conflict(&real);
    assert_eq!(events(&real, 3).len(), 3, "{creates:#?}");
    check_event(&posted, &real);
    let requests = real.server.requests_of(ACCOUNT).expect("an audit log");
    for request in &requests {
        let code = request["responseStatus"]["code"].as_u64().unwrap_or(200);
        let is_second_event = code == 409 && request["objectRef"]["resource"] == "events";
        assert!(code < 400 || is_second_event, "{request:#}");
    }
    assert!(requests.len() > 10, "{requests:#?}");
}

/// Waits until the second node was told that its Event is there.
fn conflict(real: &Real) -> Vec<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let requests = real.server.requests_of(ACCOUNT).expect("an audit log");
        let is_event = |it: &&Value| it["objectRef"]["resource"] == "events";
        let creates: Vec<Value> = requests.iter().filter(is_event).cloned().collect();
        if creates.iter().any(|it| it["responseStatus"]["code"] == 409) {
            return creates;
        }
        assert!(Instant::now() < end, "{creates:#?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// It names the object by its uid, which `kubectl describe` goes by.
fn check_event(posted: &[Value], real: &Real) {
    let of = |kind: &str| {
        let found = posted.iter().find(|event| event["involvedObject"]["kind"] == kind);
        found.unwrap_or_else(|| panic!("none about a {kind}: {posted:#?}"))
    };
    let services = real.server.list("/api/v1/namespaces/shop/services").expect("services");
    let event = of("Service");
    assert_eq!(event["involvedObject"]["uid"], services[0]["metadata"]["uid"]);
    assert_eq!(event["metadata"]["namespace"], "shop");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["message"], "shop/web is odd");
    assert_eq!(of("ClusterNetworkPolicy")["metadata"]["namespace"], "default");
}

/// What the role is good for: without it everything is refused, and the log says so.
#[test]
fn without_the_role_every_watch_fails() {
    let Some(real) = real(WatchCache::On) else { return };
    let account = build(&manifests().join("base")).expect("the base");
    let account = account.iter().find(|object| object["kind"] == "ServiceAccount");
    real.server.create(account.expect("an account")).expect("it is made");
    let token = real.server.token_of("kube-system", "pintle").expect("a token");
    let kubeconfig = real.server.write_kubeconfig(real.directory.path(), &token).expect("a file");
    let (mut listener, _) = listen_at(&kubeconfig, NODE, true);
    listener.until(|known| known.failing_watches().contains(&"services"));
    assert!(!listener.known.is_synced);
    let words: Vec<_> = listener.known.rejected.values().flatten().collect();
    assert!(words[0].starts_with("the API server answers 403 Forbidden: "), "{words:?}");
}

/// Over TLS as well; a server may have been restored, or its keys replaced, while we had a token of it.
#[test]
fn a_token_that_is_refused_is_read_again() {
    let Some(real) = real(WatchCache::On) else { return };
    apply_role(&real);
    let directory = real.directory.path();
    let kubeconfig = real.server.write_kubeconfig(directory, "nobody's").expect("a file");
    let (mut listener, _) = listen_at(&kubeconfig, NODE, true);
    listener.until(|known| known.failing_watches().len() == RESOURCES.len());
    let words: Vec<_> = listener.known.rejected.values().flatten().collect();
    assert!(words[0].starts_with("the API server answers 401 Unauthorized: "), "{words:?}");
    let token = real.server.token_of("kube-system", "pintle").expect("a token");
    real.server.write_kubeconfig(directory, &token).expect("a file");
    listener.until(|known| known.is_synced && known.failing_watches().is_empty());
}
