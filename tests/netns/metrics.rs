// SPDX-License-Identifier: Apache-2.0
//! The rules and the dashboard in `manifests/monitoring` ask only for metrics that the agent exports.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use pintle_lab::agent::FastPath;
use pintle_lab::client::http_get_from;
use pintle_lab::manifest::slice_yaml;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::load::short_http;
use pintle_tests::monitoring::metrics;

use crate::company::beside_others;
use crate::scene::{HTTP, Scene, endpoints};

const DENY_ALL: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  \
    name: deny\n  namespace: shop\nspec:\n  podSelector: {}\n  policyTypes: [Ingress]\n";

const TRIGGER: &str = "metadata:\n  annotations:\n    \
    endpoints.kubernetes.io/last-change-trigger-time: \"2099-01-01T00:00:00Z\"\n";

fn get(scene: &Scene, port: u16, path: &str) -> String {
    scene.world.nodes[0].run(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    })
}

/// The names of samples that the agent gives.
fn exported(scene: &Scene) -> BTreeSet<String> {
    let answer = get(scene, 10249, "/metrics");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    samples.map(name).collect()
}

#[test]
fn every_metric_that_is_asked_for_is_exported() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
    scene.agent.extra_args = vec!["--metrics-bind-address=127.0.0.1:10249".into()];
    scene.agent.start().expect("start");
    // Some are there only once what they count has happened.
    let http = scene.vip(Family::V4, &HTTP);
    scene.client.run(|| short_http(http)).expect("a connection");
    for path in ["/healthz", "/livez"] {
        get(&scene, 10256, path);
    }
    // A change whose time is told; one in the future counts as made at once.
    let slices = slice_yaml(&scene.web, &endpoints(&scene.backends[1..]), Family::V4);
    let annotated = slices.replacen("metadata:\n", TRIGGER, 1);
    let file = format!("{}-endpoints.yaml", scene.web.name);
    scene.agent.manifests.write(&file, &annotated).expect("write the slices");
    scene.agent.manifests.write("deny.yaml", DENY_ALL).expect("a policy");
    scene.agent.settle().expect("settle");
    let server = SocketAddr::from((scene.backends[0].pod.v4, HTTP.target));
    let silence = scene.client.run(|| http_get_from(0, server, Duration::from_millis(400)));
    assert!(silence.is_err(), "the policy holds");
    let asked = metrics().expect("expressions");
    assert!(asked.len() > 20, "{asked:?}");
    let missing = |scene: &Scene| -> Vec<String> {
        let exported = exported(scene);
        asked.iter().filter(|name| !exported.contains(*name)).cloned().collect()
    };
    // Denials are read once a second.
    let end = Instant::now() + Duration::from_secs(20);
    while !missing(&scene).is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(missing(&scene), [""; 0]);
}
