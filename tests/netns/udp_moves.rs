// SPDX-License-Identifier: Apache-2.0
//! A stream of datagrams from one port, without a pause, never stays with a backend that is gone
//! (S5, S29): from a pod, from the node and from outside, to backends here and on another node.

use std::time::Duration;

use pintle_lab::{
    agent::FastPath,
    manifest::Service,
    topology::{Cni, Family},
};
use pintle_tests::stream::{Fate, Peer, Stream, expect_answers, expect_refusals, expect_silence};

use crate::{
    company::beside_others,
    exposed::{Exposed, From},
    scene::{DNS, endpoints, web},
};

const RATE: u32 = 200;
/// So many datagrams between two changes.
const STEP: usize = 30;
/// So many may be underway when the next change comes.
const UNDERWAY: usize = 10;
const ALL: [&str; 3] = ["web-1", "web-2", "web-3"];
/// Without it a datagram to an address that no service has goes round between node and router.
const CLUSTER: &str = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\n\
     metadata:\n  name: kubernetes\nspec:\n  cidrs: [\"10.96.0.0/16\", \"fd00:10:96::/64\"]\n";

/// When a stream has to have moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moves {
    /// With the first datagram after the change was programmed.
    AtOnce,
    /// Once its socket was closed, within this time.
    Within(Duration),
}

/// Streams from some ways, of each family, with what is known about them.
struct Streams {
    streams: Vec<(String, Stream)>,
    moves: Moves,
    /// Where each stream was after each change.
    parts: Vec<Vec<usize>>,
}

impl Streams {
    /// Starts them in the cgroup whose sockets the agent translates.
    fn start(scene: &Exposed, ways: &[From], peer: Peer, moves: Moves) -> Streams {
        let mut streams = Vec::new();
        for (from, family) in ways.iter().flat_map(|from| Family::BOTH.map(|of| (*from, of))) {
            let (ns, target) = scene.way(from, family, &DNS);
            let start = || Stream::start(ns, (40_000, target), peer, RATE);
            streams.push((format!("{from:?} {family:?}"), scene.cgroup.run(start)));
        }
        let mut streams = Streams { streams, moves, parts: Vec::new() };
        streams.go_on();
        streams
    }

    /// A change was programmed: lets each send some more.
    fn go_on(&mut self) {
        if let Moves::Within(time) = self.moves {
            std::thread::sleep(time);
        }
        let part: Vec<usize> = self.streams.iter().map(|(_, stream)| stream.sent()).collect();
        for ((_, stream), from) in self.streams.iter().zip(&part) {
            stream.wait_for(from + STEP + UNDERWAY);
        }
        self.parts.push(part);
    }

    /// Hands the datagrams that were sent after each change, and before the next one, to `check`.
    fn stop(self, check: impl Fn(&str, &[&[Fate]])) {
        for (index, (name, stream)) in self.streams.into_iter().enumerate() {
            let fates = stream.stop();
            let part = |part: &Vec<usize>| &fates[part[index]..][..STEP];
            check(&name, &self.parts.iter().map(part).collect::<Vec<_>>());
        }
    }
}

fn streams_follow_the_endpoints(scene: &mut Exposed, ways: &[From], peer: Peer, moves: Moves) {
    let mut streams = Streams::start(scene, ways, peer, moves);
    for ready in [&[0, 1][..], &[2], &[], &[1], &[0, 1, 2]] {
        scene.set_ready(ready);
        streams.go_on();
    }
    streams.stop(|name, parts| {
        let pods = [&ALL[..], &ALL[..2], &ALL[2..], &[], &ALL[1..2], &ALL[..]];
        for (number, (part, pods)) in parts.iter().zip(pods).enumerate() {
            let what = format!("{name}, part {number}, {pods:?}");
            match pods {
                [] => expect_refusals(&what, part),
                _ => expect_answers(&what, part, pods),
            }
        }
    });
}

#[test]
fn a_stream_moves_with_the_next_datagram_past_the_stack() {
    let _company = beside_others();
    let mut scene = Exposed::new(Cni::Ptp, FastPath::Auto, "off");
    streams_follow_the_endpoints(&mut scene, &From::ALL, Peer::Connected, Moves::AtOnce);
}

#[test]
fn a_stream_moves_with_the_next_datagram_through_the_stack() {
    let _company = beside_others();
    let mut scene = Exposed::new(Cni::Bridge, FastPath::Off, "off");
    streams_follow_the_endpoints(&mut scene, &From::ALL, Peer::Connected, Moves::AtOnce);
}

#[test]
fn a_stream_of_a_translated_socket_moves_and_ends_with_the_next_datagram() {
    let _company = beside_others();
    let mut scene = Exposed::new(Cni::Ptp, FastPath::Auto, "all");
    let ways = [From::Pod, From::Node];
    streams_follow_the_endpoints(&mut scene, &ways, Peer::Named, Moves::AtOnce);
    streams_follow_the_service(&mut scene, &ways, Peer::Named, Moves::AtOnce);
}

#[test]
fn a_stream_of_a_translated_socket_that_is_connected_moves_once_that_is_closed() {
    let _company = beside_others();
    let mut scene = Exposed::new(Cni::Ptp, FastPath::Auto, "all");
    let ways = [From::Pod, From::Node];
    let moves = Moves::Within(Duration::from_millis(700));
    streams_follow_the_endpoints(&mut scene, &ways, Peer::Connected, moves);
}

fn streams_follow_the_service(scene: &mut Exposed, ways: &[From], peer: Peer, moves: Moves) {
    scene.agent.manifests.write("cidr.yaml", CLUSTER).expect("write the ServiceCIDR");
    scene.agent.settle().expect("settle");
    let (here, elsewhere) = (scene.web.clone(), Service::clone(&scene.web));
    let elsewhere = Service { cluster_ips: web(11).cluster_ips, ..elsewhere };
    let mut streams = Streams::start(scene, ways, peer, moves);
    scene.agent.manifests.delete(&here).expect("delete the service");
    scene.agent.settle().expect("settle");
    streams.go_on();
    for service in [&here, &elsewhere, &here] {
        // Removed and made again between two looks of the agent: it sees another address.
        scene.agent.manifests.service(service).expect("write the service");
        scene.web = service.clone();
        scene.set_ready(&[0, 1, 2]);
        streams.go_on();
    }
    streams.stop(|name, parts| {
        let what = |part| format!("{name}, {part}");
        expect_answers(&what("at first"), parts[0], &ALL);
        expect_silence(&what("deleted"), parts[1]);
        expect_answers(&what("made again"), parts[2], &ALL);
        // The node port is the same.
        match name.starts_with("Outside") {
            true => expect_answers(&what("other address"), parts[3], &ALL),
            false => expect_silence(&what("other address"), parts[3]),
        }
        expect_answers(&what("back again"), parts[4], &ALL);
    });
}

#[test]
fn a_stream_ends_with_its_service_and_goes_on_when_that_is_back() {
    let _company = beside_others();
    let mut scene = Exposed::new(Cni::Ptp, FastPath::Auto, "off");
    streams_follow_the_service(&mut scene, &From::ALL, Peer::Connected, Moves::AtOnce);
}

/// A backend that another service keeps is not gone, but it is none of this service's any more (S30).
/// The same goes for one that the service keeps, at another address than the one that was dialled.
#[test]
fn a_stream_leaves_a_backend_that_only_others_lead_to() {
    let _company = beside_others();
    let mut scene = Exposed::new(Cni::Ptp, FastPath::Auto, "off");
    backends_stay_with_another_service(&mut scene);
    an_address_goes_to_another_service(&mut scene);
}

fn backends_stay_with_another_service(scene: &mut Exposed) {
    let other = web(20);
    scene.agent.manifests.service(&other).expect("write a service");
    let all = endpoints(&scene.backends);
    scene.agent.manifests.endpoints(&other, &all).expect("write its slices");
    scene.agent.settle().expect("settle");
    let mut streams = Streams::start(scene, &From::ALL, Peer::Connected, Moves::AtOnce);
    for ready in [&[0][..], &[2], &[1]] {
        scene.set_ready(ready);
        streams.go_on();
    }
    streams.stop(|name, parts| {
        expect_answers(name, parts[0], &ALL);
        for (part, pod) in parts[1..].iter().zip(["web-1", "web-3", "web-2"]) {
            expect_answers(&format!("{name}, {pod}"), part, &[pod]);
        }
    });
}

/// The address goes to another service, while the first one goes on elsewhere with its backends.
fn an_address_goes_to_another_service(scene: &mut Exposed) {
    scene.set_ready(&[0, 1]);
    let ways = [From::Pod, From::Node];
    let mut streams = Streams::start(scene, &ways, Peer::Connected, Moves::AtOnce);
    let moved = Service { cluster_ips: web(11).cluster_ips, ..scene.web.clone() };
    let other = Service { name: "other".into(), ..web(10) };
    let last = endpoints([&scene.backends[2]]);
    scene.agent.manifests.endpoints(&other, &last).expect("write the slices");
    scene.agent.manifests.service(&moved).expect("move the service");
    scene.agent.settle().expect("settle");
    scene.agent.manifests.service(&other).expect("write the other service");
    scene.agent.settle().expect("settle");
    streams.go_on();
    streams.stop(|name, parts| {
        expect_answers(name, parts[0], &ALL[..2]);
        expect_answers(name, parts[1], &ALL[2..]);
    });
}
