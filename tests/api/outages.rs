// SPDX-License-Identifier: Apache-2.0
//! A server that is away, and one that is back.

use std::io;
use std::time::Duration;

use pintle_tests::api_server::{ApiServer, Kind};

use crate::client::{Watch, get_json, names, request, service};

#[test]
fn a_server_that_is_away_refuses_connections_and_has_cut_those_it_had() {
    let server = ApiServer::start().unwrap();
    let watch = Watch::open(&server, "/api/v1/services?watch=true");
    server.go_away().unwrap();
    watch.breaks_off();
    let refused = request(&server, "GET", "/api/v1/services", &[], "").map(|answer| answer.status);
    assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionRefused));
    assert!(server.requests().iter().all(|request| !request.is_open));
}

#[test]
fn a_server_comes_back_on_its_port_with_what_happened_meanwhile() {
    let server = ApiServer::start().unwrap();
    let seen = server.put(service("web", "one")).unwrap();
    let url = server.url();
    for round in 0..3 {
        server.go_away().unwrap();
        server.put(service(&format!("s{round}"), "web")).unwrap();
        server.come_back().unwrap();
    }
    assert_eq!(server.url(), url);
    assert_eq!(names(&get_json(&server, "/api/v1/services")), ["s0", "s1", "s2", "web"]);
    let path = format!("/api/v1/services?watch=true&resourceVersion={seen}");
    let mut watch = Watch::open(&server, &path);
    server.wait_for_watch(Kind::Service, Duration::from_secs(10)).unwrap();
    assert_eq!([watch.brief().1, watch.brief().1, watch.brief().1], ["s0", "s1", "s2"]);
}

#[test]
fn a_server_that_is_away_twice_or_back_twice_is_so_once() {
    let server = ApiServer::start().unwrap();
    server.go_away().unwrap();
    server.go_away().unwrap();
    server.come_back().unwrap();
    get_json(&server, "/api/v1/services");
    server.come_back().unwrap();
    get_json(&server, "/api/v1/services");
}

#[test]
fn a_server_that_is_dropped_is_gone() {
    let server = ApiServer::start().unwrap();
    let address = server.address();
    let watch = Watch::open(&server, "/api/v1/services?watch=true");
    drop(server);
    watch.breaks_off();
    let refused = std::net::TcpStream::connect(address).map(|_| ());
    assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionRefused));
}
