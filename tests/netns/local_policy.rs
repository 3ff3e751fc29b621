// SPDX-License-Identifier: Apache-2.0
//! A rolling update of a service whose external policy is Local: whoever comes from outside always meets a
//! pod of node 1, and the health check tells the load balancer what is to come.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use pintle_lab::agent::FastPath;
use pintle_lab::client::http_get;
use pintle_lab::manifest::{Condition, Endpoint};
use pintle_lab::topology::{Cni, Family};
use pintle_tests::load::{Kind, Load};

use crate::scene::{Backend, in_two_layouts};
use crate::three_nodes::{MIRROR_NODE_PORT, NODE_PORT, Policy, ThreeNodes};

const HEALTH_PORT: u16 = 31_000;

/// Status and weight that the load balancer is told, from outside.
fn health(scene: &ThreeNodes) -> (u16, u32) {
    let target = scene.node(Family::V4, HEALTH_PORT);
    let answer = scene.outside.run(|| {
        let mut stream = TcpStream::connect(target).expect("connect");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    });
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let mut lines = answer.lines();
    let weight = lines.find_map(|line| line.strip_prefix("x-load-balancing-endpoint-weight: "));
    let weight = weight.and_then(|number| number.parse().ok());
    (status.expect("a status"), weight.expect("a weight"))
}

/// The pods that new connections from outside meet; each sees the client.
fn met(scene: &ThreeNodes, target: SocketAddr, client: IpAddr) -> Vec<String> {
    let ask = || scene.outside.run(|| http_get(target)).expect("an answer");
    let mut pods: Vec<_> = (0..20)
        .map(|_| ask())
        .inspect(|answer| assert_eq!(answer.peer.ip(), client))
        .map(|answer| answer.pod)
        .collect();
    pods.sort();
    pods.dedup();
    pods
}

in_two_layouts!(a_rolling_update_loses_no_connection);

fn a_rolling_update_loses_no_connection(cni: Cni, fast_path: FastPath) {
    let mut scene = ThreeNodes::on(ThreeNodes::world(cni), fast_path, |_| {});
    let new = Backend::new(&mut scene.world.nodes[0], 9).expect("the new pod");
    // What the update does to the endpoints of node 1; another node has one all the time.
    let steps = [
        ([Condition::Ready, Condition::NotReady], (200, 1), ["web-1"].as_slice()),
        ([Condition::Ready, Condition::Ready], (200, 2), &["web-1", "web-9"]),
        ([Condition::ServingTerminating, Condition::Ready], (200, 1), &["web-9"]),
        (
            [Condition::ServingTerminating, Condition::ServingTerminating],
            (503, 0),
            &["web-1", "web-9"],
        ),
        ([Condition::Terminating, Condition::ServingTerminating], (503, 0), &["web-9"]),
        ([Condition::Terminating, Condition::Ready], (200, 1), &["web-9"]),
    ];
    let endpoints = |scene: &ThreeNodes, [old, young]: [Condition; 2]| {
        let own = [Endpoint::with(scene.pod(1), old), Endpoint::with(&new.pod, young)];
        [own.as_slice(), &scene.ready(&[2])].concat()
    };
    let policies = [Policy::Local, Policy::Cluster];
    let first = endpoints(&scene, steps[0].0);
    scene.set(policies, &first);
    let pause = Duration::from_millis(5);
    let tcp = scene.node(Family::V4, NODE_PORT);
    let udp = scene.node(Family::V6, MIRROR_NODE_PORT);
    let loads = [
        ("new connections", Load::start(&scene.outside, tcp, 2, Kind::Short { per_second: 100 })),
        ("long ones", Load::start(&scene.outside, tcp, 4, Kind::LongLived { pause })),
        ("new ports", Load::start(&scene.outside, udp, 2, Kind::UdpNewPort { per_second: 100 })),
    ];
    for (conditions, told, pods) in steps {
        let endpoints = endpoints(&scene, conditions);
        scene.set(policies, &endpoints);
        assert_eq!(health(&scene), told, "{conditions:?}");
        assert_eq!(met(&scene, tcp, scene.outside.ip(Family::V4)), pods, "{conditions:?}");
    }
    for (what, load) in loads {
        load.stop().expect_no_failure(what);
    }
}
