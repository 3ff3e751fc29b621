// SPDX-License-Identifier: Apache-2.0
//! New pods: closed until they are known, open in milliseconds, never more open than policies say (P5).

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pintle_lab::agent::FastPath;
use pintle_lab::client::http_get_from;
use pintle_lab::netns::NetNs;
use pintle_lab::objects::PodObject;
use pintle_lab::server::Server;
use pintle_lab::topology::{Cni, Family, Pod};

use super::in_both_layouts;
use super::nine_pods::{NinePods, policy};
use super::probe::reaches_both;
use super::server::{PORTS, Servers};
use crate::company::{alone, beside_others};

in_both_layouts!(a_pod_that_nobody_knows_is_closed, a_new_pod_is_never_more_open_than_policies_say);

/// How long the node takes for its part; containers start later than this.
const WIRED: Duration = Duration::from_millis(300);
/// Within this time a pod that is known is served.
const OPEN: Duration = Duration::from_millis(200);
const HTTP: u16 = 8080;

fn object(nine: &NinePods, namespace: &str, name: &str) -> PodObject {
    PodObject::new(namespace, name, &nine.world.nodes[0].name, &[])
}

#[test]
fn a_new_pod_is_open_at_once_with_ptp() {
    let _company = alone();
    a_new_pod_is_open_at_once(Cni::Ptp);
}

#[test]
fn a_new_pod_is_open_at_once_with_a_bridge() {
    let _company = alone();
    a_new_pod_is_open_at_once(Cni::Bridge);
}

fn a_new_pod_is_open_at_once(cni: Cni) {
    let mut nine = NinePods::new(2, cni, FastPath::Auto);
    nine.set_policies(&[policy("z/p", "policyTypes: [Ingress, Egress]")]);
    for (round, client) in ["x/a", "y/b", "x/c"].into_iter().enumerate() {
        let family = Family::BOTH[round % 2];
        // The server never says anything by itself, so nothing tells where it is.
        let pod = nine.world.nodes[0].wire_pod("new").expect("a pod");
        let _server = Server::http(&pod, HTTP).expect("a server");
        std::thread::sleep(WIRED);
        let name = format!("new-{round}");
        let pod = nine.world.nodes[0].announce(pod, object(&nine, "y", &name)).expect("an object");
        let announced = Instant::now();
        let took = answered_after(nine.pod(client), pod.addr(family, HTTP), announced);
        assert!(took < OPEN, "{client} to a new pod, {family:?}: {took:?}");

        // The other way round: a pod whose first packet goes to a service.
        let pod = nine.world.nodes[0].wire_pod("new").expect("a pod");
        let _server = Server::http(nine.pod(client), HTTP).expect("a server");
        std::thread::sleep(WIRED);
        let name = format!("client-{round}");
        let pod = nine.world.nodes[0].announce(pod, object(&nine, "y", &name)).expect("an object");
        let announced = Instant::now();
        let took = answered_after(&pod, nine.pod(client).addr(family, HTTP), announced);
        assert!(took < OPEN, "a new pod to {client}, {family:?}: {took:?}");
    }
}

/// When the first of many attempts is answered, counted from `start`.
fn answered_after(from: &NetNs, target: SocketAddr, start: Instant) -> Duration {
    from.run(|| {
        let end = start + Duration::from_secs(5);
        while Instant::now() < end {
            if http_get_from(0, target, Duration::from_millis(10)).is_ok() {
                return start.elapsed();
            }
        }
        panic!("{target} does not answer within 5 s");
    })
}

fn a_pod_that_nobody_knows_is_closed(nine: &mut NinePods) {
    let pod = nine.world.nodes[0].wire_pod("new").expect("a pod");
    let _servers = Servers::start(&pod, "new").expect("servers");
    std::thread::sleep(WIRED);
    let in_and_out = |nine: &NinePods, pod: &Pod, other: &str| {
        let to = reaches_both(nine.pod(other), |family| pod.ip(family), &PORTS);
        let from = reaches_both(pod, |family| nine.pod(other).ip(family), &PORTS);
        [to, from]
    };
    for other in ["x/a", "y/b"] {
        assert_eq!(in_and_out(nine, &pod, other), [false; 2], "{other}");
    }
    let own = |nine: &NinePods, pod: &Pod| {
        reaches_both(&nine.world.nodes[0], |family| pod.ip(family), &PORTS)
    };
    assert!(own(nine, &pod), "the kubelet of its node reaches it");
    let pod = nine.world.nodes[0].announce(pod, object(nine, "x", "new")).expect("an object");
    nine.settle();
    for other in ["x/a", "y/b"] {
        assert_eq!(in_and_out(nine, &pod, other), [true; 2], "{other}");
    }
    let file = pod.object.as_ref().expect("an object").file();
    nine.world.objects().remove(&file).expect("remove");
    nine.settle();
    assert_eq!(in_and_out(nine, &pod, "x/a"), [false; 2], "forgotten");
    assert!(own(nine, &pod));
    nine.world.nodes[0].ip(&[format!("link del {}", pod.host_device)]).expect("unplug");
}

/// Somebody who never stops asking, with a new port each time.
struct Insistent {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Insistent {
    fn start(from: &NetNs, target: SocketAddr) -> Insistent {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let any: SocketAddr =
            if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().expect("any");
        let thread = from.spawn({
            let (stop, answers) = (stop.clone(), answers.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let socket = UdpSocket::bind(any).expect("a socket");
                    socket.set_read_timeout(Some(Duration::from_millis(2))).expect("a timeout");
                    // While the pod is being wired there may be no route yet.
                    let asked =
                        socket.send_to(b"who", target).and_then(|_| socket.recv(&mut [0; 64]));
                    answers.fetch_add(u64::from(asked.is_ok()), Ordering::Relaxed);
                }
            }
        });
        Insistent { stop, answers, thread: Some(thread) }
    }

    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }
}

impl Drop for Insistent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn a_new_pod_is_never_more_open_than_policies_say(nine: &mut NinePods) {
    let from_x = "policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}]}], egress: \
                  [{to: [{podSelector: {}}]}]";
    nine.set_policies(&[policy("x/p", from_x)]);
    for family in Family::BOTH {
        let pod = nine.world.nodes[0].wire_pod("new").expect("a pod");
        std::thread::sleep(WIRED);
        // Its container starts.
        let servers = Servers::start(&pod, "new").expect("servers");
        let into = pod.addr(family, 80);
        let denied = [
            Insistent::start(nine.pod("z/a"), into),
            Insistent::start(nine.pod("y/b"), into),
            Insistent::start(&pod, nine.pod("z/c").addr(family, 80)),
            Insistent::start(&pod, nine.pod("y/b").addr(family, 80)),
        ];
        let allowed = [
            Insistent::start(nine.pod("x/a"), into),
            Insistent::start(nine.pod("x/b"), into),
            Insistent::start(&pod, nine.pod("x/c").addr(family, 80)),
        ];
        std::thread::sleep(Duration::from_millis(100));
        assert!(allowed.iter().all(|one| one.answers() == 0), "not known yet");
        let name = format!("new-{family:?}").to_lowercase();
        let pod = nine.world.nodes[0].announce(pod, object(nine, "x", &name)).expect("an object");
        std::thread::sleep(Duration::from_millis(700));
        for (number, one) in allowed.iter().enumerate() {
            assert!(one.answers() > 0, "allowed {number} {family:?}");
        }
        for (number, one) in denied.iter().enumerate() {
            assert_eq!(one.answers(), 0, "denied {number} {family:?}");
        }
        drop((denied, allowed, servers));
        nine.world.nodes[0].remove_pod(pod).expect("remove the pod");
    }
}

#[test]
fn unknown_pods_are_open_where_that_is_asked_for() {
    let _company = beside_others();
    for (flag, is_judged) in [("--policy-startup=open", true), ("--policy=off", false)] {
        let mut nine = NinePods::without_agents(1, Cni::Ptp, FastPath::Auto).expect("nine pods");
        nine.agents[0].extra_args.push(flag.into());
        nine.agents[0].start().expect("start");
        let pod = nine.world.nodes[0].wire_pod("new").expect("a pod");
        let _servers = Servers::start(&pod, "new").expect("servers");
        std::thread::sleep(WIRED);
        assert!(reaches_both(&pod, |family| nine.pod("x/a").ip(family), &PORTS), "{flag}");
        assert!(reaches_both(nine.pod("x/a"), |family| pod.ip(family), &PORTS), "{flag}");
        nine.check(flag, &[policy("x/p", "podSelector: {}")], |cell| {
            !is_judged || cell.dst_ns() != "x"
        });
    }
}
