// SPDX-License-Identifier: Apache-2.0
//! Streams that are slow, silent, or over.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pintle_tests::api_server::{ApiServer, Kind, Pace};

use crate::client::{Watch, get_json, names, request, service};

const WATCH: &str = "/api/v1/services?watch=true";
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn watches_that_are_cut_end_in_the_middle() {
    let server = ApiServer::start().unwrap();
    let watch = Watch::open(&server, WATCH);
    let nodes = Watch::open(&server, "/api/v1/nodes?watch=true");
    server.cut_watches();
    watch.breaks_off();
    nodes.breaks_off();
    assert!(server.requests().iter().all(|request| !request.is_open));
    // The server itself is there.
    get_json(&server, "/api/v1/services");
}

#[test]
fn a_cut_is_not_an_end_whatever_the_watch_is_doing() {
    let server = ApiServer::start().unwrap();
    for _ in 0..200 {
        let watch = Watch::open(&server, WATCH);
        server.cut_watches();
        watch.breaks_off();
    }
}

#[test]
fn a_watch_is_cut_in_the_middle_of_a_line() {
    let server = ApiServer::start().unwrap();
    server.set_pace(Pace::Trickle { bytes: 10, every: Duration::from_millis(20) });
    let mut watch = Watch::open(&server, WATCH);
    server.put(service("web", "web")).unwrap();
    thread::sleep(Duration::from_millis(100));
    server.cut_watches();
    assert_eq!(watch.line().map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
}

#[test]
fn watches_that_are_ended_say_first_what_was_to_say() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, WATCH);
    server.put(service("web", "web")).unwrap();
    server.end_watches();
    assert_eq!(watch.brief().0, "ADDED");
    watch.ends();
}

#[test]
fn a_silent_watch_says_nothing_and_does_not_end_and_a_new_one_speaks() {
    let server = ApiServer::start().unwrap();
    let mut silent = Watch::open(&server, &format!("{WATCH}&timeoutSeconds=1"));
    server.silence_watches();
    let start = server.revision();
    server.put(service("web", "web")).unwrap();
    thread::sleep(Duration::from_millis(1200));
    silent.stays_quiet();
    let mut new = Watch::open(&server, &format!("{WATCH}&resourceVersion={start}"));
    assert_eq!(new.brief().0, "ADDED");
}

#[test]
fn a_body_trickles() {
    let server = ApiServer::start().unwrap();
    server.put(service("web", "web")).unwrap();
    server.set_pace(Pace::Trickle { bytes: 20, every: Duration::from_millis(5) });
    let begun = Instant::now();
    assert_eq!(names(&get_json(&server, "/api/v1/services")), ["web"]);
    // More than 200 bytes.
    assert!(begun.elapsed() > Duration::from_millis(50));
    let begun = Instant::now();
    let mut watch = Watch::open(&server, WATCH);
    assert_eq!(watch.brief().1, "web");
    assert!(begun.elapsed() > Duration::from_millis(50));
}

#[test]
fn events_come_after_a_pause() {
    let server = ApiServer::start().unwrap();
    let mut watch = Watch::open(&server, WATCH);
    server.set_pace(Pace::PauseBefore(Duration::from_millis(100)));
    let begun = Instant::now();
    server.put(service("web", "one")).unwrap();
    server.put(service("web", "two")).unwrap();
    assert_eq!(watch.brief().0, "ADDED");
    assert_eq!(watch.brief().0, "MODIFIED");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    server.set_pace(Pace::AtOnce);
    server.put(service("web", "three")).unwrap();
    assert_eq!(watch.brief().0, "MODIFIED");
}

#[test]
fn a_request_that_is_not_answered_stays_so() {
    let server = ApiServer::start().unwrap();
    server.stop_answering();
    let (answered, wait) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            // Ends when the server cuts the connection.
            let answer = request(&server, "GET", "/api/v1/services", &[], "");
            answered.send(answer.map(|answer| answer.status).map_err(|error| error.kind()))
        });
        let quiet = wait.recv_timeout(Duration::from_millis(200));
        assert_eq!(quiet, Err(mpsc::RecvTimeoutError::Timeout));
        assert_eq!(server.requests()[0].status, None);
        server.answer_again();
        get_json(&server, "/api/v1/services");
        let quiet = wait.recv_timeout(Duration::from_millis(100));
        assert_eq!(quiet, Err(mpsc::RecvTimeoutError::Timeout));
        server.go_away().unwrap();
        assert_eq!(wait.recv_timeout(PATIENCE), Ok(Err(io::ErrorKind::UnexpectedEof)));
    });
}

#[test]
fn a_client_that_leaves_is_noticed() {
    let server = ApiServer::start().unwrap();
    let watch = Watch::open(&server, WATCH);
    server.wait_for_watch(Kind::Service, PATIENCE).unwrap();
    drop(watch);
    let end = Instant::now() + PATIENCE;
    while server.requests().iter().any(|request| request.is_open) {
        assert!(Instant::now() < end, "the watch is still open");
        thread::sleep(Duration::from_millis(1));
    }
}
