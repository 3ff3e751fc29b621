// SPDX-License-Identifier: Apache-2.0
//! Connections that are there when policies change: silent from the next packet on (C8); and what needs
//! no rule: replies and errors about what is allowed (P7, P9).

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use pintle_lab::client::{HttpConnection, connect_from};
use pintle_lab::server::Server;
use pintle_lab::topology::Family;

use super::in_both_layouts;
use super::nine_pods::{NinePods, SERVICE_PORT, policy};

in_both_layouts!(
    established_connections_fall_silent_with_the_change,
    datagrams_of_a_flow_fall_silent_with_the_change,
    replies_need_no_rule,
    errors_about_what_is_allowed_need_no_rule,
);

const PATIENCE: Duration = Duration::from_millis(400);
const HTTP: u16 = 8080;
const TICKS: u16 = 8081;

fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// Policies that keep `x/a` from `y`, by either end.
fn denials() -> [(&'static str, String); 3] {
    [
        ("egress", policy("x/p", "policyTypes: [Egress]")),
        ("ingress", policy("y/p", "policyTypes: [Ingress]")),
        ("a port", policy("y/p", "ingress: [{ports: [{port: 79}, {port: 79, protocol: UDP}]}]")),
    ]
}

/// What holds when a connection begins. Where nothing selects its pods it is not tracked, and who began
/// it shows only by its ports; these are of the kernel's usual range for clients.
fn beginnings() -> [(&'static str, Vec<String>); 2] {
    let selected = [policy("x/p", "egress: [{}]"), policy("y/p", "ingress: [{}]")];
    [("not tracked", vec![]), ("tracked", selected.to_vec())]
}

fn established_connections_fall_silent_with_the_change(nine: &mut NinePods) {
    let mut ports = 40_000..;
    for server in ["y/a", "y/b"] {
        let http = Server::http(nine.pod(server), HTTP).expect("a server");
        let _ticker = Server::ticker(nine.pod(server), TICKS).expect("a server");
        for (number, (what, denial)) in denials().into_iter().enumerate() {
            for (begun, beginning) in beginnings() {
                let family = Family::BOTH[number % 2];
                let what = format!("{what} {server} {family:?} {begun}");
                nine.set_policies(&beginning);
                let mut connect = |port| {
                    let (from, to) =
                        (ports.next().expect("a port"), nine.pod(server).addr(family, port));
                    nine.pod("x/a").run(|| connect_from(from, to)).expect("connect")
                };
                let mut asks = HttpConnection::over(connect(HTTP)).expect("a connection");
                let mut hears = connect(TICKS);
                asks.get().expect("an answer");
                hears.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                hears.read_exact(&mut [0; 10]).expect("two lines");

                let other = policy("z/p", "policyTypes: [Ingress, Egress]");
                nine.set_policies(&[&beginning[..], &[other]].concat());
                asks.get().expect("somebody else's policy changes nothing");

                nine.set_policies(std::slice::from_ref(&denial));
                let before = http.requests();
                let error = asks.get().expect_err(&what);
                assert!(is_silence(&error), "{what}: {error}");
                assert_eq!(http.requests(), before, "{what}");
                // What the server says by itself does not come through either.
                let error = read_to_the_end(&mut hears);
                assert!(is_silence(&error), "{what}: {error}");
            }
        }
    }
}

/// Reads what has come, and what still comes, until nothing does.
fn read_to_the_end(stream: &mut TcpStream) -> std::io::Error {
    loop {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return ErrorKind::UnexpectedEof.into(),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

fn datagrams_of_a_flow_fall_silent_with_the_change(nine: &mut NinePods) {
    for (what, denial) in denials() {
        for (server, family) in [("y/a", Family::V4), ("y/b", Family::V6)] {
            let direct = nine.pod(server).addr(family, 80);
            let number = if server == "y/a" { 3 } else { 4 };
            let service = SocketAddr::new(nine.services[number].ip(family), SERVICE_PORT + 80);
            let sockets = [direct, service].map(|target| {
                let any: SocketAddr =
                    if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().expect("any");
                let socket = nine.pod("x/a").run(|| UdpSocket::bind(any)).expect("a socket");
                socket.connect(target).expect("connect");
                socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                socket
            });
            let ask = |socket: &UdpSocket| {
                socket.send(b"who")?;
                socket.recv(&mut [0; 64])
            };
            for socket in &sockets {
                ask(socket).expect("an answer");
            }
            nine.set_policies(std::slice::from_ref(&denial));
            let before = nine.server(server).asked();
            for socket in &sockets {
                let error = ask(socket).expect_err("silence");
                assert!(is_silence(&error), "{what} {server}: {error}");
            }
            // A denial by the server's end may let nothing reach it; nor does one by the client's.
            assert_eq!(nine.server(server).asked(), before, "{what} {server}");
            nine.set_policies(&[]);
            for socket in &sockets {
                ask(socket).expect("an answer again");
            }
        }
    }
}

fn replies_need_no_rule(nine: &mut NinePods) {
    let only_out = policy("x/p", "policyTypes: [Ingress, Egress], egress: [{}]");
    nine.check("x dials and is not dialled", &[only_out], |cell| cell.dst_ns() != "x");
    let only_in = policy("x/p", "policyTypes: [Ingress, Egress], ingress: [{}]");
    nine.check("x is dialled and does not dial", &[only_in], |cell| cell.src_ns() != "x");
}

fn errors_about_what_is_allowed_need_no_rule(nine: &mut NinePods) {
    let to_y = "policyTypes: [Ingress, Egress], egress: [{to: [{namespaceSelector: {matchLabels: \
                {ns: y}}}], ports: [{protocol: UDP}]}]";
    nine.set_policies(&[
        policy("x/p", to_y),
        policy("y/p", "policyTypes: [Ingress, Egress], ingress: [{ports: [{protocol: UDP}]}]"),
    ]);
    for (server, family) in
        [("y/a", Family::V4), ("y/b", Family::V4), ("y/a", Family::V6), ("y/b", Family::V6)]
    {
        let nobody = nine.pod(server).addr(family, 9);
        let any: SocketAddr =
            if nobody.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().expect("any");
        let socket = nine.pod("x/a").run(|| UdpSocket::bind(any)).expect("a socket");
        socket.connect(nobody).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.send(b"who").expect("send");
        let error = socket.recv(&mut [0; 8]).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{server} {family:?}");
    }
}
