// SPDX-License-Identifier: Apache-2.0
//! One client port talks to two ClusterIPs with the same single backend at the same time (S23).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use pintle_lab::agent::FastPath;
use pintle_lab::client::{DEADLINE, HttpConnection, connect_from, udp_ask_on, udp_pod};
use pintle_lab::manifest::Endpoint;
use pintle_lab::topology::{Cni, Family};

use crate::scene::{DNS, HTTP, Scene, in_every_layout, web};

const SOURCE_PORT: u16 = 4242;

in_every_layout!(two_services_answer_one_client_port);

fn two_services_answer_one_client_port(cni: Cni, fast_path: FastPath) {
    let mut scene = Scene::new(cni, fast_path);
    let only = [Endpoint::ready(&scene.backends[0].pod)];
    let services = [web(14), web(15)];
    for service in &services {
        scene.add_service(service, &only);
    }
    for family in Family::BOTH {
        let targets = |port| services.each_ref().map(|s| SocketAddr::new(s.ip(family), port));
        scene.client.run(|| {
            let mut open = targets(HTTP.port).map(|target| {
                let stream = connect_from(SOURCE_PORT, target).expect("connect");
                HttpConnection::over(stream).expect("a connection")
            });
            for _ in 0..20 {
                for connection in &mut open {
                    assert_eq!(connection.get().expect("an answer").pod, "web-1");
                }
            }
            let socket = bind_udp(family);
            for _ in 0..20 {
                for target in targets(DNS.port) {
                    let answer = udp_ask_on(&socket, target, b"hello").expect("an answer");
                    assert_eq!(udp_pod(&answer), "web-1");
                }
            }
        });
    }
}

fn bind_udp(family: Family) -> UdpSocket {
    let any: SocketAddr = match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED, SOURCE_PORT).into(),
        Family::V6 => (Ipv6Addr::UNSPECIFIED, SOURCE_PORT).into(),
    };
    let socket = UdpSocket::bind(any).expect("bind the source port");
    socket.set_read_timeout(Some(DEADLINE)).expect("set the deadline");
    socket
}
