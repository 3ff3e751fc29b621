// SPDX-License-Identifier: Apache-2.0
//! What has no backend is refused at once, not left to time out (S6, S7).

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use pintle_lab::agent::FastPath;
use pintle_lab::client::{DEADLINE, http_get, udp_socket};
use pintle_lab::topology::{Cni, Family};

use crate::scene::{DNS, HTTP, Scene, in_every_layout, web};

const AT_ONCE: Duration = Duration::from_millis(200);

in_every_layout!(services_without_backends_and_unknown_ports_refuse);

fn services_without_backends_and_unknown_ports_refuse(cni: Cni, fast_path: FastPath) {
    let mut scene = Scene::new(cni, fast_path);
    let empty = web(11);
    scene.add_service(&empty, &[]);
    for family in Family::BOTH {
        let at = |port| SocketAddr::new(empty.ip(family), port);
        scene.client.run(|| {
            expect_refused("TCP without backends", || connect(at(HTTP.port)));
            expect_refused("UDP without backends", || exchange(at(DNS.port)));

            let unknown = SocketAddr::new(scene.web.ip(family), 12345);
            expect_refused("TCP to an unknown port", || connect(unknown));
            expect_refused("UDP to an unknown port", || exchange(unknown));
            http_get(scene.vip(family, &HTTP)).expect("the known port still answers");
        });
    }
    let first = [pintle_lab::manifest::Endpoint::ready(&scene.backends[0].pod)];
    scene.add_service(&empty, &first);
    for family in Family::BOTH {
        let target = SocketAddr::new(empty.ip(family), HTTP.port);
        scene.client.run(|| http_get(target)).expect("answers once it has a backend");
    }
}

#[track_caller]
fn expect_refused(what: &str, operation: impl FnOnce() -> io::Result<()>) {
    let start = Instant::now();
    let error = operation().expect_err(what);
    let took = start.elapsed();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{what}: {error} after {took:?}");
    assert!(took < AT_ONCE, "{what}: refused only after {took:?}");
}

fn connect(target: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&target, DEADLINE).map(drop)
}

/// Over a connected socket, which the kernel tells about ICMP errors.
fn exchange(target: SocketAddr) -> io::Result<()> {
    let socket = udp_socket(target)?;
    socket.connect(target)?;
    socket.send(b"hello")?;
    socket.recv(&mut [0; 16]).map(drop)
}
