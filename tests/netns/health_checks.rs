// SPDX-License-Identifier: Apache-2.0
//! The port of a node where a load balancer asks whether it has endpoints of a service.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use pintle_lab::agent::FastPath;
use pintle_lab::topology::{Cni, Node};

use crate::company::beside_others;
use crate::scene::Scene;

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: outside, namespace: shop}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 31000
  clusterIP: 10.96.0.77
  clusterIPs: [10.96.0.77]
  ipFamilies: [IPv4]
  ports: [{port: 80, protocol: TCP}]
";

fn slice(node: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: outside-1, namespace: shop, labels: {{kubernetes.io/service-name: outside}}}}
addressType: IPv4
ports: [{{name: '', port: 8080, protocol: TCP}}]
endpoints:
- {{addresses: [10.244.1.11], nodeName: {node}}}
- {{addresses: [10.244.9.11], nodeName: elsewhere}}
"
    )
}

/// What the port answers; `None` if nothing listens.
fn ask(node: &Node) -> Option<String> {
    node.run(|| {
        let mut stream = TcpStream::connect("127.0.0.1:31000").ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        Some(answer)
    })
}

#[test]
fn a_load_balancer_is_told_whether_endpoints_are_here() {
    let _company = beside_others();
    let mut scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let folder = scene.agent.manifests.path().to_owned();
    let write = |scene: &mut Scene, name: &str, text: &str| {
        fs::write(folder.join(name), text).expect("write");
        scene.agent.settle().expect("settle");
    };
    let expect = |scene: &Scene, words: [&str; 2]| {
        let answer = ask(&scene.world.nodes[0]).expect("something listens");
        for word in words {
            assert!(answer.contains(word), "no {word} in {answer}");
        }
    };
    write(&mut scene, "outside.yaml", SERVICE);
    expect(&scene, [" 503 ", "\"localEndpoints\": 0"]);
    write(&mut scene, "slice.yaml", &slice("node-1"));
    expect(&scene, [" 200 ", "x-load-balancing-endpoint-weight: 1"]);
    write(&mut scene, "slice.yaml", &slice("elsewhere"));
    expect(&scene, [" 503 ", "x-load-balancing-endpoint-weight: 0"]);
    write(&mut scene, "outside.yaml", &SERVICE.replace("LoadBalancer", "ClusterIP"));
    assert_eq!(ask(&scene.world.nodes[0]), None, "nobody asks for it any more");
}
