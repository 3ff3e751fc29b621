// SPDX-License-Identifier: Apache-2.0
//! The server keeps up: it must not be what a measurement of the agent measures.

use std::time::{Duration, Instant};

use pintle_tests::api_server::ApiServer;
use serde_json::{Value, json};

use crate::client::{Watch, get_json, names, service};

/// Half of the changes must reach a watch within this time, even in a debug build on a busy machine.
const SOON: Duration = Duration::from_millis(1);

#[test]
fn thousands_of_slices_are_put_listed_paged_and_streamed() {
    let server = ApiServer::start().unwrap();
    let count = 2_000;
    for number in 0..count {
        server.put(slice(number)).unwrap();
    }
    let path = "/apis/discovery.k8s.io/v1/endpointslices";
    assert_eq!(names(&get_json(&server, path)).len(), count);
    let mut watch = Watch::open(
        &server,
        &format!(
            "{path}?watch=true&allowWatchBookmarks=true&sendInitialEvents=true\
             &resourceVersionMatch=NotOlderThan"
        ),
    );
    for _ in 0..count {
        assert_eq!(watch.brief().0, "ADDED");
    }
    assert_eq!(watch.brief().0, "BOOKMARK");
    let mut seen = 0;
    let mut next = format!("{path}?limit=500");
    loop {
        let page = get_json(&server, &next);
        seen += names(&page).len();
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        next = format!("{path}?limit=500&continue={token}");
    }
    assert_eq!(seen, count);
}

#[test]
fn a_change_reaches_a_watch_at_once() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, "/api/v1/services?watch=true");
    let mut times: Vec<Duration> = (0..200)
        .map(|number| {
            let begun = Instant::now();
            server.put(service("web", &number.to_string())).unwrap();
            watch.line().unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[100] < SOON, "{times:?}");
}

#[test]
fn a_flood_arrives_whole_at_a_client_that_reads_late() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, "/api/v1/services?watch=true");
    for number in 0..5_000 {
        server.put(service("web", &number.to_string())).unwrap();
    }
    let first = watch.brief().2;
    for later in 1..5_000 {
        assert_eq!(watch.brief().2, first + later);
    }
}

fn slice(number: usize) -> Value {
    let endpoints: Vec<Value> = (0..10)
        .map(|endpoint| {
            json!({
                "addresses": [format!("10.{}.{}.{endpoint}", number / 256, number % 256)],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": "worker-1",
                "targetRef": { "kind": "Pod", "name": format!("p{number}-{endpoint}") },
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("s{number}-abcde"), "namespace": "shop",
            "labels": { "kubernetes.io/service-name": format!("s{number}") },
        },
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "name": "", "port": 8080 }],
    })
}
