// SPDX-License-Identifier: Apache-2.0
//! Input that cannot be used is told by object and reason, and costs nothing else anything.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use pintle_lab::agent::FastPath;
use pintle_lab::manifest::{Endpoint, Service};
use pintle_lab::topology::{Cni, Family};
use pintle_tests::load::{repeat, short_http};

use crate::company::beside_others;
use crate::scene::{HTTP, Scene, web};

#[test]
fn every_mistake_is_named_and_everything_else_works() {
    let _company = beside_others();
    let mut scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let [broken_slice, no_slice, older, newer] = services();
    write_mistakes(&scene, &broken_slice);
    scene.agent.manifests.service(&no_slice).expect("write");
    let first = [Endpoint::ready(&scene.backends[0].pod)];
    let second = [Endpoint::ready(&scene.backends[1].pod)];
    for (service, endpoints, created) in
        [(&newer, &second, "2026-02-02"), (&older, &first, "2026-01-01")]
    {
        let stamp = format!("metadata:\n  creationTimestamp: {created}T00:00:00Z\n");
        let text = service.yaml().replacen("metadata:\n", &stamp, 1);
        scene
            .agent
            .manifests
            .write(&format!("{}-service.yaml", service.name), &text)
            .expect("write");
        scene.agent.manifests.endpoints(service, endpoints).expect("write");
    }
    scene.agent.settle().expect("ready in spite of all");

    expect_named(&scene);
    let only = |service: &Service, pod: &str| {
        let target = SocketAddr::new(service.ip(Family::V4), HTTP.port);
        let report = scene.client.run(|| repeat(20, || short_http(target)));
        report.expect_no_failure(&service.name);
        assert_eq!(report.by_pod.keys().collect::<Vec<_>>(), [pod], "{}", service.name);
    };
    only(&older, "web-1");
    only(&broken_slice, "web-1");
    let http = scene.vip(Family::V4, &HTTP);
    let others = scene.client.run(|| repeat(300, || short_http(http)));
    others.expect_no_failure("the service without mistakes");
    others.expect_even(3);
    let start = Instant::now();
    let target = SocketAddr::new(no_slice.ip(Family::V4), HTTP.port);
    let error = scene.client.run(|| short_http(target)).expect_err("no backend");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(start.elapsed() < Duration::from_millis(200));
    assert!(readiness(&scene).starts_with("HTTP/1.0 200"), "{}", readiness(&scene));

    scene.agent.manifests.delete(&older).expect("delete");
    scene.agent.manifests.remove("broken.yaml").expect("remove");
    scene.agent.settle().expect("settle");
    only(&newer, "web-2");
    let left = rejected(&scene);
    assert!(!left.iter().any(|(_, reason)| reason.contains("broken.yaml")), "{left:?}");
    assert!(!left.iter().any(|(object, _)| object.contains(&newer.name)), "{left:?}");
}

/// The last two share their addresses.
fn services() -> [Service; 4] {
    let [broken_slice, no_slice, older] = [31, 32, 33].map(web);
    let newer = Service { name: "web-34".into(), ..older.clone() };
    [broken_slice, no_slice, older, newer]
}

fn write_mistakes(scene: &Scene, broken_slice: &Service) {
    let manifests = &scene.agent.manifests;
    manifests.write("broken.yaml", "apiVersion: v1\nkind: Service\n  spec: [\n").expect("write");
    let unknown = "apiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: thing\n";
    manifests.write("unknown.yaml", unknown).expect("write");
    manifests.service(broken_slice).expect("write");
    let good = Endpoint::ready(&scene.backends[0].pod);
    let slice = pintle_lab::manifest::slice_yaml(broken_slice, &[good], Family::V4);
    let bad = "  - addresses: [\"10.244.1.300\"]\n    conditions:\n      ready: true\n";
    manifests.write("bad-address.yaml", &(slice + bad)).expect("write");
}

fn rejected(scene: &Scene) -> Vec<(String, String)> {
    let status = scene.agent.json(&["status"]).expect("status");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = status["rejected"].as_array().expect("rejections").clone();
    all.iter().map(|one| (text(&one["object"]), text(&one["reason"]))).collect()
}

fn expect_named(scene: &Scene) {
    let all = rejected(scene);
    for (object, reason) in [
        ("", "broken.yaml:"),
        ("thing", "kind example.com/v1 Widget is unknown"),
        ("EndpointSlice shop/web-31-v4", "'10.244.1.300' is not an IP address"),
        ("Service shop/web-34", "shop/web-33"),
    ] {
        let named = all.iter().any(|(o, r)| o.contains(object) && r.contains(reason));
        assert!(named, "{object} / {reason} is not in {all:#?}");
    }
    let screen = scene.agent.text(&["status"]).expect("status");
    assert!(screen.matches("REJECTED").count() >= 4, "{screen}");
    assert!(screen.contains("OK"), "the node itself is fine: {screen}");
}

fn readiness(scene: &Scene) -> String {
    scene.world.nodes[0].run(|| {
        let mut stream = TcpStream::connect("127.0.0.1:10256").expect("connect");
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    })
}
