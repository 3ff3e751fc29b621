// SPDX-License-Identifier: Apache-2.0
//! The API server of the tests answers as the real one does: the same requests to both, and what a
//! client sees of the answers, but for numbers, times and what specs are filled with.

use pintle_tests::api_server::{ApiServer, Kind, Verb};
use pintle_tests::real_api_server::{Answer, Asker, WatchCache};
use serde_json::{Value, json};

use super::{Real, cluster_policy, real, service, shop};

/// Collections that have the same objects at both.
const SERVICES: &str = "/api/v1/namespaces/shop/services";
const POLICIES: &str = super::POLICIES;
const EVENTS: &str = "/api/v1/namespaces/shop/events";

/// Lists and objects, as queries of the services.
const LISTS: &[&str] = &[
    "",
    "?limit=1",
    "?limit=2",
    "?limit=1&resourceVersion=0",
    "?limit=1&labelSelector=app",
    "?labelSelector=%21app",
    "?labelSelector=app%20in%20(web)",
    "?labelSelector=%21",
    "?fieldSelector=spec.clusterIP%21%3DNone",
    "?fieldSelector=metadata.name%3Dweb",
    "?fieldSelector=spec.color%3Dred",
    "?resourceVersion=0",
    "?resourceVersion=0&resourceVersionMatch=NotOlderThan",
    "?resourceVersion=x",
    "?resourceVersion=999999999",
    "?resourceVersionMatch=Exact",
    "?resourceVersionMatch=Exact&resourceVersion=0",
    "?resourceVersionMatch=Newest&resourceVersion=1",
    "?sendInitialEvents=true",
    "?continue=x",
    "/web",
    "/nobody",
];

/// Watches, which end after a second or at once.
const WATCHES: &[&str] = &[
    "",
    "&resourceVersion=0",
    "&allowWatchBookmarks=true",
    "&labelSelector=app",
    "&sendInitialEvents=true",
    "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
    "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
    "&sendInitialEvents=true&resourceVersionMatch=Exact&allowWatchBookmarks=true",
    "&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
    "&resourceVersionMatch=NotOlderThan",
    "&resourceVersion=x",
];

/// Both servers, with the same objects.
struct Pair {
    real: Real,
    ours: ApiServer,
    askers: [Asker; 2],
}

impl Pair {
    fn new() -> Option<Pair> {
        let real = real(WatchCache::On)?;
        real.define_policies();
        let ours = ApiServer::start().expect("a server");
        let mut labelled = service("web", "10.96.0.10");
        labelled["metadata"]["labels"] = json!({ "app": "web" });
        let headless = service("headless", "None");
        for object in [shop(), labelled, headless, cluster_policy("deny")] {
            real.server.create(&object).expect("it is made");
            ours.put(object).expect("it is put");
        }
        // Both have forgotten how they began.
        ours.compact();
        let kubeconfig = ours.write_kubeconfig(real.directory.path()).expect("a kubeconfig");
        let askers = [real.server.administrator_kubeconfig(), kubeconfig].map(Asker::new);
        Some(Pair { real, ours, askers })
    }

    /// What both answer, the real one first.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> [Answer; 2] {
        let ask = |asker: &Asker| asker.ask(method, path, body);
        self.askers
            .each_ref()
            .map(|asker| ask(asker).unwrap_or_else(|error| panic!("{method} {path}: {error:#}")))
    }

    /// How answers differ, in words.
    fn difference(&self, method: &str, path: &str, body: Option<&Value>) -> Option<String> {
        let [real, ours] = self.ask(method, path, body).map(|answer| seen(&answer));
        (real != ours).then(|| format!("{method} {path}\n  real: {real:#}\n  ours: {ours:#}"))
    }
}

/// What a client sees: status and words, kinds and names, what marks a page or a bookmark.
fn seen(answer: &Answer) -> Value {
    // When a bookmark comes that marks nothing is the server's affair.
    let is_told = |line: &&Value| {
        line["type"] != "BOOKMARK" || line["object"]["metadata"]["annotations"].is_object()
    };
    let lines: Vec<_> = answer.lines.iter().filter(is_told).map(shape).collect();
    json!({ "code": answer.code, "lines": lines })
}

fn shape(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let items = object["items"].as_array().map(|items| items.iter().map(shape).collect::<Vec<_>>());
    let inner = Some(&object["object"]).filter(|inner| inner.is_object()).map(shape);
    json!({
        "text": object.as_str(), "type": object["type"], "object": inner, "items": items,
        "kind": object["kind"], "apiVersion": object["apiVersion"], "name": metadata["name"],
        "namespace": metadata["namespace"],
        "continue": metadata["continue"].as_str().map(str::is_empty), "remaining": metadata["remainingItemCount"],
        "version": metadata["resourceVersion"].is_string(), "uid": metadata["uid"].is_string(),
        "annotations": metadata["annotations"], "labels": metadata["labels"],
        "reason": object["reason"], "status": object["status"].as_str(), "code": object["code"],
        "message": object["message"].as_str().map(without_numbers),
        "details": object["details"], "involved": object["involvedObject"]["name"],
    })
}

/// Revisions differ from server to server.
fn without_numbers(text: &str) -> String {
    let mut words = String::new();
    for character in text.chars() {
        match character.is_ascii_digit() {
            true if words.ends_with('N') => {}
            true => words.push('N'),
            false => words.push(character),
        }
    }
    words
}

#[track_caller]
fn check(differences: Vec<String>) {
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn lists_and_objects_are_answered_as_a_real_server_does() {
    let Some(pair) = Pair::new() else { return };
    let services = LISTS.iter().map(|query| format!("{SERVICES}{query}"));
    let others = ["", "/deny", "/nobody", "?limit=1", "?fieldSelector=spec.tier%3DAdmin"];
    let others = others.map(|query| format!("{POLICIES}{query}"));
    let nothing = ["/apis/nothing.example.com/v1/things", "/api/v1/nothing", "/nothing"];
    let paths = services.chain(others).chain(nothing.map(str::to_owned));
    check(paths.filter_map(|path| pair.difference("GET", &path, None)).collect());
}

#[test]
fn watches_are_answered_as_a_real_server_does() {
    let Some(pair) = Pair::new() else { return };
    let paths = [SERVICES, POLICIES].into_iter().flat_map(|collection| {
        WATCHES.iter().map(move |query| format!("{collection}?watch=true&timeoutSeconds=1{query}"))
    });
    // What began long before the kind was defined is forgotten for sure.
    let old = format!("{POLICIES}?watch=true&timeoutSeconds=1&resourceVersion=1");
    let paths = paths.chain([old]);
    check(paths.filter_map(|path| pair.difference("GET", &path, None)).collect());
}

#[test]
fn the_next_page_and_a_place_in_a_watch_lead_on_as_at_a_real_server() {
    let Some(pair) = Pair::new() else { return };
    let pages = pair.ask("GET", &format!("{SERVICES}?limit=1"), None);
    let changed = json!({ "metadata": { "labels": { "more": "yes" } } });
    pair.real.server.patch(&super::at("web"), &changed).expect("a change");
    pair.real.server.delete(&super::at("headless")).expect("a deletion");
    let mut web = service("web", "10.96.0.10");
    web["metadata"]["labels"] = json!({ "app": "web", "more": "yes" });
    pair.ours.put(web).expect("a change");
    pair.ours.delete(Kind::Service, "shop", "headless").expect("a deletion");
    let mut answers = Vec::new();
    for (asker, page) in pair.askers.iter().zip(pages) {
        let page = page.object();
        let [token, revision] = ["continue", "resourceVersion"]
            .map(|field| page["metadata"][field].as_str().expect("a text").replace('/', "%2F"));
        let next = asker.ask("GET", &format!("{SERVICES}?limit=1&continue={token}"), None);
        let watch = format!("{SERVICES}?watch=true&timeoutSeconds=1&resourceVersion={revision}");
        let exact = format!("{SERVICES}?resourceVersionMatch=Exact&resourceVersion={revision}");
        let [watch, exact] = [watch, exact].map(|path| asker.ask("GET", &path, None));
        answers.push([next, watch, exact].map(|answer| seen(&answer.expect("an answer"))));
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn events_are_taken_and_refused_as_by_a_real_server() {
    let Some(pair) = Pair::new() else { return };
    let event = |name: &str, namespace: &str| {
        json!({ "apiVersion": "v1", "kind": "Event",
            "metadata": { "name": name, "namespace": "shop" },
            "involvedObject": { "kind": "Service", "name": "web", "namespace": namespace },
            "reason": "Rejected", "message": "it is odd", "type": "Warning",
            "source": { "component": "pintle" }, "reportingComponent": "pintle" })
    };
    let mut differences = Vec::new();
    for body in [event("a", "shop"), event("a", "shop"), event("b", "other"), event("C_", "shop")] {
        differences.extend(pair.difference("POST", EVENTS, Some(&body)));
    }
    let elsewhere = "/api/v1/namespaces/default/events";
    differences.extend(pair.difference("POST", elsewhere, Some(&event("d", "shop"))));
    check(differences);
}

#[test]
fn who_may_not_is_told_so_as_by_a_real_server() {
    let Some(pair) = Pair::new() else { return };
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "pintle", "namespace": "kube-system" } });
    pair.real.server.create(&account).expect("an account");
    let token = pair.real.server.token_of("kube-system", "pintle").expect("a token");
    let directory = tempfile::tempdir().expect("a directory");
    let with = |token: &str| {
        let kubeconfig = pair.real.server.write_kubeconfig(directory.path(), token);
        Asker::new(kubeconfig.expect("a kubeconfig"))
    };
    let [_, ours] = &pair.askers;
    let compare = |real: &Asker, paths: &[&str]| {
        for path in paths {
            let [real, ours] = [real, ours].map(|asker| asker.ask("GET", path, None));
            assert_eq!(seen(&real.expect("an answer")), seen(&ours.expect("an answer")), "{path}");
        }
    };
    let slices = "/apis/discovery.k8s.io/v1/endpointslices";
    let watch = format!("{slices}?watch=true&timeoutSeconds=1");
    for (verb, resource) in [
        (Verb::List, "endpointslices"),
        (Verb::Watch, "endpointslices"),
        (Verb::List, "services"),
        (Verb::Get, "services"),
    ] {
        pair.ours.forbid(verb, resource);
    }
    compare(&with(&token), &[slices, &watch, SERVICES, &super::at("web")]);
    pair.ours.forbid_nothing();
    pair.ours.accept_only("another");
    compare(&with("nobody's"), &[slices, &watch]);
}
