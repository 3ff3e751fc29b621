// SPDX-License-Identifier: Apache-2.0
//! Policies from the agent's directory hold in the kernel: through changes, the agent's death and
//! return, and where the maps are too small for all of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::client::{HttpConnection, http_get_from, udp_ask};
use pintle_lab::netns::NetNs;
use pintle_lab::topology::{Cni, Family, Pod};
use pintle_tests::api_server::ApiServer;
use pintle_tests::load::{Kind, Load};

use crate::company::beside_others;
use crate::scene::{DNS, HTTP, Scene, eventually};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_millis(400);

const DENY_ALL: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  \
    name: deny\n  namespace: shop\nspec:\n  podSelector: {}\n  policyTypes: [Ingress]\n";

/// Gives a pod's object the label `app`.
fn label(scene: &Scene, pod: &Pod, app: &str) {
    let mut object = pod.object.clone().expect("an object");
    object.labels.insert("app".into(), app.into());
    scene.world.nodes[0].objects().put_pod(&object).expect("write the pod");
}

/// A policy that lets pods with a label into pods with another.
fn allow(name: &str, from: &str, to: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {name}\n  \
         namespace: shop\nspec:\n  podSelector: {{matchLabels: {{app: {to}}}}}\n  ingress:\n  \
         - from: [{{podSelector: {{matchLabels: {{app: {from}}}}}}}]\n"
    )
}

/// Whether TCP and UDP are answered at a pod's address; both must agree, and what is not answered
/// must be silence.
#[track_caller]
fn reaches_ip(client: &NetNs, ip: IpAddr, ports: [u16; 2]) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    let tcp = client.run(|| http_get_from(0, SocketAddr::new(ip, ports[0]), PATIENCE));
    let udp = client.run(|| udp_ask(SocketAddr::new(ip, ports[1]), b"who"));
    for error in tcp.as_ref().err().into_iter().chain(udp.as_ref().err()) {
        assert!(matches!(error.kind(), TimedOut | WouldBlock), "{ip}: {error}");
    }
    assert_eq!(tcp.is_ok(), udp.is_ok(), "{ip}: {tcp:?}, {udp:?}");
    tcp.is_ok()
}

/// Whether a pod is reached; both families must agree.
#[track_caller]
pub fn reaches(client: &NetNs, pod: &Pod) -> bool {
    let [v4, v6] =
        Family::BOTH.map(|family| reaches_ip(client, pod.ip(family), [HTTP.target, DNS.target]));
    assert_eq!(v4, v6, "{}", pod.name);
    v4
}

/// A scene in which `client` and the first backend have labels of their names.
fn labelled(cni: Cni, fast_path: FastPath, flags: &[&str]) -> Scene {
    let mut scene = labelled_without_agent(cni, fast_path, flags);
    scene.agent.start().expect("start");
    scene
}

fn labelled_without_agent(cni: Cni, fast_path: FastPath, flags: &[&str]) -> Scene {
    let mut scene = Scene::without_agent(cni, fast_path).expect("build the scene");
    label(&scene, &scene.client, "client");
    for (number, backend) in (1..).zip(&scene.backends) {
        label(&scene, &backend.pod, &format!("web-{number}"));
    }
    scene.agent.extra_args = flags.iter().map(|flag| (*flag).to_owned()).collect();
    scene
}

mod from_yaml {
    use super::policies_of_the_directory_hold as check;
    use crate::scene::in_two_layouts;
    use pintle_lab::agent::FastPath;
    use pintle_lab::topology::Cni;

    in_two_layouts!(check);
}

fn policies_of_the_directory_hold(cni: Cni, fast_path: FastPath) {
    let mut scene = labelled(cni, fast_path, &[]);
    let Scene { agent, client, backends, world, web, .. } = &mut scene;
    let [server, other, stranger] = [0, 1, 2].map(|number: usize| &backends[number].pod);
    assert!(reaches(client, server), "no policy yet");
    let known = client.run(|| HttpConnection::open((server.v4, HTTP.target).into()));
    let mut known = known.expect("a connection");
    client.run(|| known.get()).expect("an answer");

    agent.manifests.write("deny.yaml", DENY_ALL).expect("write");
    agent.settle().expect("settle");
    assert!(!reaches(client, server), "nobody is let in");
    client.run(|| known.get()).expect_err("an established connection is not, either");
    assert!(reaches(&world.nodes[0], server), "the node is");
    for family in Family::BOTH {
        let service = [HTTP.port, DNS.port];
        assert!(!reaches_ip(client, web.ip(family), service), "through the service");
    }

    agent.manifests.write("allow.yaml", &allow("allow", "client", "web-1")).expect("write");
    agent.settle().expect("settle");
    assert!(reaches(client, server), "the client is let in");
    assert!(!reaches(stranger, server), "others are not");
    assert!(!reaches(client, other), "nor is the client elsewhere");

    agent.manifests.remove("deny.yaml").expect("remove");
    agent.manifests.remove("allow.yaml").expect("remove");
    agent.settle().expect("settle");
    assert!(reaches(stranger, server), "no policy any more");
}

mod without_agent {
    use super::the_last_state_holds_while_there_is_no_agent as check;
    use crate::scene::in_two_layouts;
    use pintle_lab::agent::FastPath;
    use pintle_lab::topology::Cni;

    in_two_layouts!(check);
}

fn the_last_state_holds_while_there_is_no_agent(cni: Cni, fast_path: FastPath) {
    let mut scene = labelled(cni, fast_path, &[]);
    let Scene { agent, client, backends, .. } = &mut scene;
    let [server, stranger] = [0, 2].map(|number: usize| &backends[number].pod);
    agent.manifests.write("deny.yaml", DENY_ALL).expect("write");
    agent.manifests.write("allow.yaml", &allow("allow", "client", "web-1")).expect("write");
    agent.settle().expect("settle");
    assert!(reaches(client, server) && !reaches(stranger, server));
    agent.kill().expect("kill -9");
    assert!(reaches(client, server) && !reaches(stranger, server), "without an agent");
    agent.start().expect("start");
    assert!(reaches(client, server) && !reaches(stranger, server), "with another agent");
}

mod restart {
    use super::what_changed_while_there_was_no_agent_comes_without_a_gap as check;
    use crate::company::alone;
    use pintle_lab::agent::FastPath;
    use pintle_lab::topology::Cni;

    #[test]
    fn with_ptp_and_fast_path() {
        let _company = alone();
        check(Cni::Ptp, FastPath::Auto);
    }

    #[test]
    fn with_a_bridge_through_the_stack() {
        let _company = alone();
        check(Cni::Bridge, FastPath::Off);
    }
}

fn what_changed_while_there_was_no_agent_comes_without_a_gap(cni: Cni, fast_path: FastPath) {
    let mut scene = labelled(cni, fast_path, &[]);
    let Scene { agent, client, backends, .. } = &mut scene;
    let [server, stranger] = [0, 2].map(|number: usize| &backends[number].pod);
    agent.manifests.write("deny.yaml", DENY_ALL).expect("write");
    for (file, from) in [("client.yaml", "client"), ("stranger.yaml", "web-3")] {
        agent.manifests.write(file, &allow(from, from, "web-1")).expect("write");
    }
    agent.settle().expect("settle");
    assert!(reaches(client, server) && reaches(stranger, server));

    let pause = Duration::from_millis(20);
    let loads = [
        (
            "long-lived",
            Load::start(
                client,
                server.addr(Family::V4, HTTP.target),
                20,
                Kind::LongLived { pause },
            ),
        ),
        (
            "short",
            Load::start(
                client,
                server.addr(Family::V6, HTTP.target),
                2,
                Kind::Short { per_second: 200 },
            ),
        ),
        (
            "UDP",
            Load::start(
                client,
                server.addr(Family::V4, DNS.target),
                1,
                Kind::UdpNewPort { per_second: 100 },
            ),
        ),
    ];
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 20));
    agent.kill().expect("kill -9");
    // The client is let in by another rule of another ruleset, and the stranger by none.
    agent.manifests.remove("client.yaml").expect("remove");
    agent.manifests.remove("stranger.yaml").expect("remove");
    agent.manifests.write("new.yaml", &allow("new", "client", "web-1")).expect("write");
    agent.start().expect("start");
    assert!(!reaches(stranger, server), "what is not allowed any more");
    std::thread::sleep(Duration::from_millis(1500));
    for (what, load) in loads {
        load.stop().expect_no_failure(what);
    }
}

#[test]
fn where_rows_are_too_few_only_the_pod_is_closed_that_needs_them_and_an_event_tells() {
    let _company = beside_others();
    let flags = ["--map-size=POLICY_ROWS=12"];
    let mut scene = labelled_without_agent(Cni::Ptp, FastPath::Auto, &flags);
    let api = ApiServer::beside(&mut scene.agent).expect("an API server");
    scene.agent.start().expect("start");
    let Scene { agent, client, backends, .. } = &mut scene;
    let [server, greedy, free] = [0, 1, 2].map(|number: usize| &backends[number].pod);
    agent.manifests.write("first.yaml", &allow("first", "client", "web-1")).expect("write");
    agent.settle().expect("settle");
    assert!(reaches(client, server) && !reaches(free, server));

    let many: Vec<String> = (1..=12)
        .map(|number| format!("  - from: [{{ipBlock: {{cidr: 192.0.2.{number}/32}}}}]\n"))
        .collect();
    let many = allow("greedy", "client", "web-2") + &many.concat();
    agent.manifests.write("greedy.yaml", &many).expect("write");
    let status = |agent: &Agent| {
        String::from_utf8_lossy(&agent.cli(&["status"]).expect("status").stdout).into_owned()
    };
    eventually("the status tells", || status(agent).contains("Pod shop/web-2"));
    assert!(!reaches(client, greedy), "its policies do not fit");
    assert!(reaches(client, server) && !reaches(free, server), "the other one's do");
    assert!(reaches(greedy, free), "and who has none is free");
    let told = status(agent);
    assert!(told.contains("Pod shop/web-2") && !told.contains("Pod shop/web-1"), "{told}");
    eventually("an Event tells", || !api.events().is_empty());
    let events = api.events();
    let [event] = &events[..] else { panic!("{events:#?}") };
    assert_eq!(event["reason"], "PolicyNotInForce");
    assert_eq!(event["involvedObject"]["kind"], "Node", "it is so on this one");
    let note = event["message"].as_str().expect("words");
    assert!(note.contains("Pod shop/web-2") && !note.contains("Pod shop/web-1"), "{note}");

    agent.manifests.remove("greedy.yaml").expect("remove");
    agent.settle().expect("settle");
    assert!(reaches(client, greedy) && reaches(client, server) && !reaches(free, server));
}
