// SPDX-License-Identifier: Apache-2.0
//! Requests that are refused: storms, tokens, roles, and kinds that are not there.

use pintle_tests::api_server::{ApiServer, Kind, Refusal, Verb};
use serde_json::{Value, json};

use crate::client::{Watch, failure, get, get_json, names, request, service};

const LIST: &str = "/api/v1/services";
const WATCH: &str = "/api/v1/services?watch=true";
const POLICIES: &str = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";

#[test]
fn a_storm_refuses_the_next_watches_and_then_is_over() {
    for (refusal, code, reason) in [
        (Refusal::Gone, 410, "Gone"),
        (Refusal::InternalError, 500, "InternalError"),
        (Refusal::Unavailable, 503, "ServiceUnavailable"),
    ] {
        let server = ApiServer::start().unwrap();
        server.refuse_next(Verb::Watch, 2, refusal);
        // Lists are not concerned, nor do they use the storm up.
        get_json(&server, LIST);
        for path in [WATCH, "/api/v1/nodes?watch=true"] {
            let status = failure(&server, path);
            assert_eq!((&status["code"], &status["reason"]), (&code.into(), &reason.into()));
        }
        Watch::open(&server, WATCH);
    }
}

#[test]
fn an_expired_watch_is_refused_in_its_stream_and_a_list_by_its_status() {
    let server = ApiServer::start().unwrap();
    server.refuse_next(Verb::Watch, 1, Refusal::Expired);
    server.refuse_next(Verb::List, 1, Refusal::Expired);
    let mut watch = Watch::open(&server, WATCH);
    let event = watch.next();
    assert_eq!((&event["type"], &event["object"]["code"]), (&"ERROR".into(), &410.into()));
    watch.ends();
    assert_eq!(failure(&server, LIST)["reason"], "Expired");
    get_json(&server, LIST);
}

#[test]
fn a_busy_server_says_when_to_come_again_and_has_no_status_object() {
    let server = ApiServer::start().unwrap();
    server.refuse_next(Verb::Watch, 1, Refusal::TooManyRequests { retry_after: 7 });
    let answer = get(&server, WATCH);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
    assert_eq!(answer.text().unwrap(), "Too many requests, please try again later.\n");
}

#[test]
fn refusals_come_one_after_the_other_and_can_be_taken_back() {
    let server = ApiServer::start().unwrap();
    server.refuse_next(Verb::List, 1, Refusal::Gone);
    server.refuse_next(Verb::List, 10, Refusal::InternalError);
    assert_eq!([get(&server, LIST).status, get(&server, LIST).status], [410, 500]);
    server.refuse_nothing();
    assert_eq!(get(&server, LIST).status, 200);
}

#[test]
fn only_the_good_token_is_accepted_and_open_watches_go_on() {
    let server = ApiServer::start().unwrap();
    let ask = |token: &str| {
        let header = format!("Bearer {token}");
        let answer = request(&server, "GET", LIST, &[("authorization", &header)], "").unwrap();
        (answer.status, answer.json()["reason"].take())
    };
    let unauthorized = (401, Value::from("Unauthorized"));
    let mut watch = Watch::open(&server, WATCH);
    server.accept_only("two");
    assert_eq!(ask("one"), unauthorized);
    assert_eq!(ask("two"), (200, Value::Null));
    assert_eq!(failure(&server, LIST)["reason"], "Unauthorized");
    server.put(service("web", "web")).unwrap();
    assert_eq!(watch.brief().0, "ADDED");
    server.accept_everybody();
    assert_eq!(ask("one"), (200, Value::Null));
    let tokens: Vec<_> = server.requests().into_iter().map(|request| request.token).collect();
    let expected = [None, Some("one"), Some("two"), None, Some("one")];
    assert_eq!(tokens, expected.map(|token| token.map(str::to_owned)));
}

#[test]
fn what_is_forbidden_says_who_may_not_do_what() {
    let server = ApiServer::start().unwrap();
    server.forbid(Verb::Watch, "endpointslices");
    let path = "/apis/discovery.k8s.io/v1/endpointslices";
    get_json(&server, path);
    let status = failure(&server, &format!("{path}?watch=true"));
    assert_eq!((&status["code"], &status["reason"]), (&403.into(), &"Forbidden".into()));
    assert_eq!(
        status["message"],
        "endpointslices.discovery.k8s.io is forbidden: User \
         \"system:serviceaccount:kube-system:pintle\" cannot watch resource \"endpointslices\" in \
         API group \"discovery.k8s.io\" at the cluster scope"
    );
    server.forbid_nothing();
    Watch::open(&server, &format!("{path}?watch=true"));
}

#[test]
fn a_role_allows_what_its_rules_say_and_nothing_else() {
    let server = ApiServer::start().unwrap();
    let role = json!({ "rules": [
        { "apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"] },
        { "apiGroups": [""], "resources": ["nodes"], "resourceNames": ["a"], "verbs": ["list"] },
        { "apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create"] },
    ] });
    server.allow_only(&role).unwrap();
    for (path, status) in [
        (LIST, 200),
        (WATCH, 200),
        ("/api/v1/namespaces/shop/services/web", 403),
        ("/api/v1/pods", 403),
        ("/api/v1/nodes", 403),
        ("/api/v1/nodes?fieldSelector=metadata.name%3Db", 403),
        ("/api/v1/nodes?fieldSelector=metadata.name%3Da", 200),
        ("/readyz", 200),
    ] {
        assert_eq!(get(&server, path).status, status, "{path}");
    }
}

#[test]
fn a_kind_without_definition_is_no_page_and_appears_with_it() {
    let server = ApiServer::start().unwrap();
    server.withdraw(Kind::ClusterNetworkPolicy);
    for path in [
        POLICIES.to_owned(),
        format!("{POLICIES}?watch=true"),
        format!("{POLICIES}/deny"),
        "/apis/policy.networking.k8s.io/v1alpha2".to_owned(),
        "/apis/policy.networking.k8s.io".to_owned(),
        "/apis/nothing.example.com/v1/things".to_owned(),
    ] {
        let answer = get(&server, &path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.text().unwrap(), "404 page not found\n", "{path}");
    }
    server.offer(Kind::ClusterNetworkPolicy);
    server.put(policy()).unwrap();
    assert_eq!(names(&get_json(&server, POLICIES)), ["deny"]);
    let group = get_json(&server, "/apis/policy.networking.k8s.io/v1alpha2");
    assert_eq!(group["resources"][0]["name"], "clusternetworkpolicies");
}

#[test]
fn objects_of_a_definition_that_goes_are_deleted_and_the_watches_end() {
    let server = ApiServer::start().unwrap();
    server.put(policy()).unwrap();
    let mut watch = Watch::open(&server, &format!("{POLICIES}?watch=true"));
    assert_eq!(watch.brief().0, "ADDED");
    server.withdraw(Kind::ClusterNetworkPolicy);
    assert_eq!(watch.brief(), ("DELETED".into(), "deny".into(), server.revision()));
    watch.ends();
    assert!(server.put(policy()).is_err());
}

#[test]
fn what_the_server_cannot_do_it_says() {
    let server = ApiServer::start().unwrap();
    for (method, headers, code) in [
        ("DELETE", &[][..], 405),
        ("POST", &[], 405),
        ("GET", &[("accept", "application/vnd.kubernetes.protobuf")], 406),
        ("GET", &[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")], 406),
        ("GET", &[("accept", "application/json")], 200),
    ] {
        let answer = request(&server, method, LIST, headers, "").unwrap();
        assert_eq!(answer.status, code, "{method} {headers:?}");
    }
}

fn policy() -> Value {
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": { "name": "deny" },
    })
}
