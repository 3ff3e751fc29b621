// SPDX-License-Identifier: Apache-2.0
//! UDP sockets connected to a backend that is gone are closed at once, and no others (S28).

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use pintle_lab::client::{udp_ask_on, udp_pod, udp_socket};
use pintle_lab::manifest::{Condition, Endpoint};
use pintle_lab::netns::NetNs;
use pintle_lab::topology::Family;

use crate::company::beside_others;
use crate::scene::{DNS, endpoints, eventually};
use crate::socket_lb::SocketScene;

/// So many sockets that each of three backends has some.
const SOCKETS: usize = 40;

#[test]
fn sockets_of_pods_are_closed_with_their_backend() {
    let _company = beside_others();
    let mut scene = SocketScene::new("all");
    let client = scene.scene.client.ns().clone();
    only_sockets_of_a_gone_backend_are_closed(&mut scene, &client);
}

#[test]
fn sockets_of_the_node_are_closed_with_their_backend() {
    let _company = beside_others();
    let mut scene = SocketScene::new("host");
    let node = (*scene.scene.world.nodes[0]).clone();
    only_sockets_of_a_gone_backend_are_closed(&mut scene, &node);
}

fn only_sockets_of_a_gone_backend_are_closed(scene: &mut SocketScene, ns: &NetNs) {
    let SocketScene { scene, cgroup } = scene;
    for family in Family::BOTH {
        let dns = scene.vip(family, &DNS);
        let direct = scene.backends[0].pod.addr(family, DNS.target);
        // The sockets' own thread stays in their namespace, as a process in a pod would.
        cgroup.run(|| {
            ns.run(|| {
                let connected: Vec<UdpSocket> = (0..SOCKETS).map(|_| connected(dns)).collect();
                let pods: Vec<String> = connected.iter().map(pod_of).collect();
                let count = |name: &str| pods.iter().filter(|pod| *pod == name).count();
                assert!(count("web-1") > 0 && count("web-2") > 0, "{pods:?}");
                let unconnected: Vec<UdpSocket> =
                    (0..SOCKETS).map(|_| udp_socket(dns).expect("a socket")).collect();
                let before = ask_each(&unconnected, dns);
                assert_eq!(ask_each(&unconnected, dns), before, "each keeps its backend");
                let foreign = self::connected(direct);
                ask(&foreign).expect("an answer from the backend itself");

                // One that drains is not gone.
                let mut draining = endpoints(&scene.backends);
                let serving = Condition::ServingTerminating;
                draining[0] = Endpoint::with(&scene.backends[0].pod, serving);
                scene.set_endpoints(&draining);
                std::thread::sleep(Duration::from_millis(300));
                let still: Vec<String> = connected.iter().map(pod_of).collect();
                assert_eq!(still, pods, "all go on while their backend answers");

                let left = endpoints(&scene.backends[1..]);
                scene.set_endpoints(&left);
                for (socket, pod) in connected.iter().zip(&pods) {
                    if pod == "web-1" {
                        eventually("the socket is closed", || is_closed(socket));
                    } else {
                        assert_eq!(&pod_of(socket), pod, "not touched");
                    }
                }
                ask(&foreign).expect("not touched: it does not use the service");
                let after = ask_each(&unconnected, dns);
                for (index, pod) in &after {
                    assert_ne!(pod, "web-1");
                    assert!(*pod == before[index] || before[index] == "web-1", "moved needlessly");
                }

                // A closed socket may be used again.
                let again = connected.iter().zip(&pods).find(|(_, pod)| *pod == "web-1");
                let (again, _) = again.expect("there was one");
                let told = again.take_error().expect("the error").expect("there is one").kind();
                assert_eq!(told, ErrorKind::ConnectionAborted);
                again.connect(dns).expect("connect again");
                assert_ne!(pod_of(again), "web-1");
                scene.set_endpoints(&endpoints(&scene.backends));
            });
        });
        let maps = scene.agent.json(&["get", "maps"]).expect("maps");
        let rows = maps.as_array().expect("rows");
        let row = rows.iter().find(|row| row["name"] == "UDP_SOCKETS").expect("a row");
        assert_eq!(row["entries"], 0, "sockets that were closed are forgotten");
    }
}

#[test]
fn what_was_missed_while_no_agent_ran_is_made_up_for() {
    let _company = beside_others();
    let mut scene = SocketScene::new("host");
    let node = (*scene.scene.world.nodes[0]).clone();
    let dns = scene.scene.vip(Family::V4, &DNS);
    let SocketScene { scene, cgroup } = &mut scene;
    let sockets: Vec<UdpSocket> =
        cgroup.run(|| node.run(|| (0..SOCKETS).map(|_| connected(dns)).collect()));
    let pods: Vec<String> = sockets.iter().map(pod_of).collect();
    scene.agent.kill().expect("kill");
    let left = endpoints(&scene.backends[1..]);
    scene.agent.manifests.endpoints(&scene.web, &left).expect("write the slices");
    scene.agent.start().expect("start");
    for (socket, pod) in sockets.iter().zip(&pods) {
        match pod.as_str() {
            "web-1" => eventually("the socket is closed", || is_closed(socket)),
            _ => assert_eq!(&pod_of(socket), pod, "not touched"),
        }
    }
}

#[test]
fn sockets_are_closed_when_the_last_endpoint_and_when_the_service_goes() {
    let _company = beside_others();
    let mut scene = SocketScene::new("host");
    let node = (*scene.scene.world.nodes[0]).clone();
    let dns = scene.scene.vip(Family::V4, &DNS);
    let SocketScene { scene, cgroup } = &mut scene;
    let open = || cgroup.run(|| node.run(|| (connected(dns), udp_socket(dns).expect("a socket"))));
    let (connected, unconnected) = open();
    ask(&connected).expect("an answer");
    udp_ask_on(&unconnected, dns, b"hello").expect("an answer");
    scene.set_endpoints(&[]);
    eventually("the socket is closed", || is_closed(&connected));
    let refused = unconnected.send_to(b"hello", dns).expect_err("nobody is left").kind();
    assert_eq!(refused, ErrorKind::ConnectionRefused);
    scene.set_endpoints(&endpoints(&scene.backends));
    udp_ask_on(&unconnected, dns, b"hello").expect("an answer once endpoints are back");

    let (connected, _) = open();
    ask(&connected).expect("an answer");
    scene.agent.manifests.delete(&scene.web).expect("remove the service");
    scene.agent.settle().expect("settle");
    eventually("the socket is closed", || is_closed(&connected));
}

pub fn connected(target: SocketAddr) -> UdpSocket {
    let socket = udp_socket(target).expect("a socket");
    socket.connect(target).expect("connect");
    socket
}

fn ask(socket: &UdpSocket) -> io::Result<String> {
    let mut buffer = [0; 64];
    socket.send(b"hello")?;
    let length = socket.recv(&mut buffer)?;
    Ok(udp_pod(&buffer[..length]))
}

pub fn pod_of(socket: &UdpSocket) -> String {
    ask(socket).expect("an answer")
}

/// The kernel has disconnected it: the application is told once, and cannot send any more.
pub fn is_closed(socket: &UdpSocket) -> bool {
    socket.peer_addr().is_err_and(|error| error.kind() == ErrorKind::NotConnected)
}

fn ask_each(sockets: &[UdpSocket], target: SocketAddr) -> BTreeMap<usize, String> {
    let ask = |(index, socket)| {
        let answer = udp_ask_on(socket, target, b"hello").expect("an answer");
        (index, udp_pod(&answer))
    };
    sockets.iter().enumerate().map(ask).collect()
}
