// SPDX-License-Identifier: Apache-2.0
//! The SCTP cells of the reachability matrix: who associates with whom under which policy, by the
//! backend's own address and through the service; and what becomes of an association that is open.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use pintle_lab::topology::{Family, Pod};
use pintle_tests::sctp::{connect, connect_within, echo, greeting};

use crate::{PORT, Scene};

/// Less than the 3 s after which SCTP asks once more, more than an interpreted machine needs.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Several times what SCTP waits before it sends again what was not acknowledged.
const RESUMPTION: Duration = Duration::from_secs(30);

/// Clients and their label, in the order of the scene: one on each node.
const CLIENTS: [&str; 2] = ["friend", "stranger"];

/// What the pods with a label may receive.
fn ingress(rules: &str) -> String {
    policy(&format!("podSelector: {{matchLabels: {{app: server}}}}, ingress: [{rules}]"))
}

/// What friends may send.
fn egress(rules: &str) -> String {
    let subject = "podSelector: {matchLabels: {app: friend}}, policyTypes: [Egress]";
    policy(&format!("{subject}, egress: [{rules}]"))
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: sctp, namespace: shop}}\nspec: {{{spec}}}\n"
    )
}

/// The clients of a scene reach its servers as policies say.
pub fn hold(scene: &mut Scene) {
    let servers = scene.backends.iter().map(|pod| (pod, "server"));
    for (pod, app) in scene.clients.iter().zip(CLIENTS).chain(servers) {
        let mut object = pod.object.clone().expect("an object");
        object.labels.insert("app".into(), app.into());
        scene.world.objects().put_pod(&object).expect("write the pod");
    }
    let (all, friends, strangers, none) = ([true; 2], [true, false], [false, true], [false; 2]);
    let from = "from: [{podSelector: {matchLabels: {app: friend}}}]";
    let to = "to: [{podSelector: {matchLabels: {app: server}}}]";
    let port = format!("ports: [{{protocol: SCTP, port: {}}}]", PORT.target);
    // What clients of the service dial, and nobody listens at.
    let dialled = format!("ports: [{{protocol: SCTP, port: {}}}]", PORT.port);
    check(scene, &policy("podSelector: {matchLabels: {app: nobody}}"), all);
    check(scene, &ingress(&format!("{{{from}, {port}}}")), friends);
    check(scene, &ingress(&format!("{{{dialled}}}")), none);
    check(scene, &ingress("{ports: [{protocol: TCP}]}"), none);
    check(scene, &ingress("{ports: [{protocol: SCTP}]}"), all);
    check(scene, &egress("{ports: [{protocol: UDP}, {protocol: TCP}]}"), strangers);
    check(scene, &egress(&format!("{{{to}, {port}}}")), all);
    an_open_association_is_silent_while_it_is_denied(scene);
}

/// Under a policy, each client reaches all servers, or none of them.
#[track_caller]
fn check(scene: &mut Scene, policy: &str, expected: [bool; 2]) {
    apply(scene, policy);
    let mut cells = Vec::new();
    for (client, is_allowed) in scene.clients.iter().zip(expected) {
        for to in targets(scene) {
            let context = format!("{} to {to} under {policy}", client.name);
            cells.push((context, is_allowed, reach(client, to)));
        }
    }
    for (context, is_allowed, reached) in cells {
        match reached.join().expect("a client") {
            Ok(()) => assert!(is_allowed, "{context}: it is let in"),
            Err(error) => assert!(!is_allowed && is_silence(&error), "{context}: {error}"),
        }
    }
}

fn apply(scene: &mut Scene, policy: &str) {
    scene.world.objects().put("policy.yaml", policy).expect("write the policy");
    scene.settle();
}

/// Every server by its own addresses, and the service by its.
fn targets(scene: &Scene) -> Vec<SocketAddr> {
    let of = |family| {
        let own = scene.backends.iter().map(move |pod| pod.addr(family, PORT.target));
        own.chain([scene.target(family)])
    };
    Family::BOTH.into_iter().flat_map(of).collect()
}

/// Asks for an association and waits for the server's greeting.
fn reach(client: &Pod, to: SocketAddr) -> JoinHandle<io::Result<()>> {
    client.spawn(move || greeting(&mut connect_within(to, PATIENCE)?).map(drop))
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// What is sent meanwhile arrives when it is allowed again.
#[track_caller]
fn an_open_association_is_silent_while_it_is_denied(scene: &mut Scene) {
    apply(scene, &ingress("{}"));
    let mut open: Vec<_> = targets(scene)
        .into_iter()
        .map(|to| {
            let socket = scene.clients[0].run(|| connect(to));
            let mut socket = socket.unwrap_or_else(|error| panic!("{to}: {error}"));
            greeting(&mut socket).expect("a greeting");
            echo(&mut socket, b"before").expect("an answer");
            (to, socket)
        })
        .collect();
    apply(scene, &ingress(""));
    for (to, socket) in &mut open {
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        let error = echo(socket, b"denied").expect_err("nobody is allowed");
        assert!(is_silence(&error), "{to}: {error}");
    }
    apply(scene, &ingress("{}"));
    let end = Instant::now() + RESUMPTION;
    for (to, socket) in &mut open {
        let left = end.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(left.max(PATIENCE))).expect("a timeout");
        let mut back = [0; 6];
        let read = io::Read::read_exact(socket, &mut back);
        assert!(read.is_ok() && &back == b"denied", "{to}: {read:?} {back:?}");
    }
}
