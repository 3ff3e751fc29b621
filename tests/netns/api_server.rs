// SPDX-License-Identifier: Apache-2.0
//! The tests' own API server listens inside a network namespace, and nowhere else.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pintle_lab::netns::NetNs;
use pintle_tests::api_server::ApiServer;

use crate::company::beside_others;

#[test]
fn the_api_server_is_reached_inside_its_namespace_only() {
    let _company = beside_others();
    let ns = NetNs::new().expect("a namespace");
    ns.ip(&["address add 198.51.100.7/32 dev lo".into()]).expect("an address");
    for address in ["198.51.100.7:6443", "[::1]:6443"] {
        let address: SocketAddr = address.parse().expect("an address");
        let server = ApiServer::start_in(&ns, address).expect("a server");
        assert_eq!(server.url(), format!("http://{address}"));
        // The port stays in the namespace when the server has been away.
        server.go_away().expect("away");
        let refused = ns.run(|| ask(address)).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
        server.come_back().expect("back");
        assert!(ns.run(|| ask(address)).expect("an answer").ends_with("ok"));
        let outside = NetNs::new().expect("another namespace");
        assert!(outside.run(|| ask(address)).is_err());
    }
}

#[test]
fn an_address_that_the_namespace_does_not_have_is_refused() {
    let _company = beside_others();
    let ns = NetNs::new().expect("a namespace");
    let address = "198.51.100.7:6443".parse().expect("an address");
    assert!(ApiServer::start_in(&ns, address).is_err());
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
