// SPDX-License-Identifier: Apache-2.0
//! The live view of a node's network: ptp and bridge CNIs, bandwidth limits, pods that come and go.

use std::{
    io::Write,
    net::IpAddr,
    process::{Child, Command},
    time::{Duration, Instant},
};

use pintle::node::{Ineligible, NodeView, Probes, Selection, Snapshot, Solicitor, solicit::Asked};
use pintle_lab::netns::NetNs;
use tokio::{sync::watch, time::timeout};

use crate::company::alone;

/// A pod's network namespace: that of a process that does nothing.
struct Pod(Child);

impl Pod {
    fn new() -> Self {
        let pod = Self(Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap());
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let namespace = format!("/proc/{}/ns/net", pod.0.id());
        while std::fs::read_link(&namespace).is_ok_and(|namespace| namespace == own) {
            std::thread::sleep(Duration::from_millis(1));
        }
        pod
    }

    fn run(&self, line: &str) {
        run(&format!("nsenter --net=/proc/{}/ns/net {line}", self.0.id()));
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{line}");
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The number that a snapshot has for an interface.
fn named(snapshot: &Snapshot, name: &str) -> Option<pintle::node::IfIndex> {
    let mut interfaces = snapshot.interfaces.values();
    interfaces.find(|interface| interface.name == name).map(|interface| interface.index)
}

fn reason(snapshot: &Snapshot, name: &str) -> Option<Ineligible> {
    snapshot.interfaces.get(&named(snapshot, name)?)?.ineligible.clone()
}

async fn until(
    what: &str,
    receiver: &mut watch::Receiver<Snapshot>,
    fact: impl FnMut(&Snapshot) -> bool,
) {
    let found = timeout(Duration::from_secs(2), receiver.wait_for(fact)).await.is_ok();
    assert!(found, "{what}: {:#?}", receiver.borrow());
}

#[test]
fn pods_are_found_resolved_and_forgotten() {
    let _company = alone();
    NetNs::new().expect("run as root: cargo xtask test netns").run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(in_an_empty_namespace());
    });
}

async fn in_an_empty_namespace() {
    let (first, mut receiver) = NodeView::start(Selection::default(), Probes::NONE).unwrap();
    assert!(first.interfaces.is_empty());
    uplink(&mut receiver).await;
    ptp(&mut receiver).await;
    bridge(&mut receiver).await;
    solicited(&mut receiver).await;
    overflow(&mut receiver).await;
}

async fn uplink(receiver: &mut watch::Receiver<Snapshot>) {
    let outside = Pod::new();
    run("ip link add up0 type veth peer name eth0");
    run(&format!("ip link set eth0 netns {}", outside.0.id()));
    run("ip address add 192.0.2.2/24 dev up0");
    run("ip link set up0 up");
    outside.run("ip link set eth0 up");
    run("ip route add default via 192.0.2.1 dev up0");
    let default = |snapshot: &Snapshot| snapshot.default_route_interfaces() == ["up0"];
    until("default route", receiver, default).await;
    assert_eq!(named(&receiver.borrow(), "up0"), None, "the node's own veth is no pod's");
}

async fn ptp(receiver: &mut watch::Receiver<Snapshot>) {
    let pod = Pod::new();
    // As CNIs do it: both ends are made in one namespace, then one of them moves.
    run("ip link add ptp0 type veth peer name eth0");
    run(&format!("ip link set eth0 netns {}", pod.0.id()));
    until("peer moved", receiver, |snapshot| named(snapshot, "ptp0").is_some()).await;
    assert_eq!(reason(&receiver.borrow(), "ptp0"), Some(Ineligible::Down));
    run("ip link set ptp0 up");
    pod.run("ip link set eth0 up");
    run("ip route add 10.244.0.9/32 dev ptp0");
    run("ip route add fd00:244::9/128 dev ptp0");
    until("ptp route", receiver, |snapshot| {
        let index = named(snapshot, "ptp0");
        reason(snapshot, "ptp0").is_none()
            && index.is_some()
            && snapshot.resolve(ip("10.244.0.9")) == index
            && snapshot.resolve(ip("fd00:244::9")) == index
    })
    .await;

    run("tc qdisc add dev ptp0 root tbf rate 1mbit burst 10k latency 50ms");
    let limited =
        |snapshot: &Snapshot| reason(snapshot, "ptp0") == Some(Ineligible::Queued("tbf".into()));
    until("bandwidth limit", receiver, limited).await;
    run("tc qdisc del dev ptp0 root");
    until("limit lifted", receiver, |snapshot| reason(snapshot, "ptp0").is_none()).await;
    run("tc qdisc add dev ptp0 clsact");

    run("ip link del ptp0");
    until("pod gone", receiver, |snapshot| {
        named(snapshot, "ptp0").is_none() && snapshot.resolve(ip("10.244.0.9")).is_none()
    })
    .await;
}

async fn bridge(receiver: &mut watch::Receiver<Snapshot>) {
    let pod = Pod::new();
    run("ip link add cni0 type bridge");
    run("ip address add 10.244.1.1/24 dev cni0");
    run("ip link set cni0 up");
    run(&format!("ip link add br0p type veth peer name eth0 netns {}", pod.0.id()));
    run("ip link set br0p master cni0 up");
    pod.run("ip address add 10.244.1.9/24 dev eth0");
    pod.run("ip link set eth0 up");
    until("bridge port", receiver, |snapshot| named(snapshot, "br0p").is_some()).await;
    assert_eq!(receiver.borrow().resolve(ip("10.244.1.9")), None, "nothing learned yet");
    // Refused, and thereby answered: neighbour and bridge now know the pod.
    let refused = std::net::TcpStream::connect("10.244.1.9:9").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    until("learned", receiver, |snapshot| {
        let index = named(snapshot, "br0p");
        index.is_some() && snapshot.resolve(ip("10.244.1.9")) == index
    })
    .await;
    run("ip link del br0p");
    until("unlearned", receiver, |snapshot| snapshot.resolve(ip("10.244.1.9")).is_none()).await;
}

/// A pod that has never sent anything, and to which nobody wants to send anything, is found.
async fn solicited(receiver: &mut watch::Receiver<Snapshot>) {
    let pod = Pod::new();
    run("ip address add fd00:244:1::1/64 dev cni0 nodad");
    run(&format!("ip link add br1p type veth peer name eth0 netns {}", pod.0.id()));
    run("ip link set br1p master cni0 up");
    pod.run("ip link set eth0 up");
    pod.run("ip address add 10.244.1.10/24 dev eth0");
    pod.run("ip address add fd00:244:1::10/64 dev eth0 nodad");
    until("bridge port", receiver, |snapshot| {
        named(snapshot, "br1p").is_some() && snapshot.solicitation(ip("fd00:244:1::10")).is_some()
    })
    .await;
    let addresses = [ip("10.244.1.10"), ip("fd00:244:1::10")];
    let mut solicitor = Solicitor::open().unwrap();
    let is_found = |snapshot: &Snapshot| {
        let index = named(snapshot, "br1p");
        addresses.iter().all(|ip| snapshot.resolve(*ip) == index)
    };
    assert!(!is_found(&receiver.borrow()), "nobody has asked yet");
    // Once more than once: a port may not forward yet when it is first asked.
    for _ in 0..10 {
        let snapshot = receiver.borrow().clone();
        solicitor.ask(&snapshot, addresses, Asked::New);
        assert!(solicitor.expects_until(Instant::now()).is_some() || is_found(&snapshot));
        if timeout(Duration::from_millis(500), receiver.wait_for(is_found)).await.is_ok() {
            break;
        }
    }
    until("asked for", receiver, is_found).await;
    // The bridge forgets, the neighbour table does not; who starts then finds only half of it.
    run("bridge fdb flush dev cni0 dynamic");
    let (late, mut receiver) = NodeView::start(Selection::default(), Probes::NONE).unwrap();
    assert!(!is_found(&late), "the bridge has forgotten");
    let mut solicitor = Solicitor::open().unwrap();
    solicitor.ask(&late, addresses, Asked::Lost);
    assert_eq!(solicitor.expects_until(Instant::now()), None, "those may be gone");
    until("asked for again", &mut receiver, is_found).await;
    solicitor.ask(&receiver.borrow(), addresses, Asked::New);
    assert_eq!(solicitor.expects_until(Instant::now()), None, "all have answered");
    run("ip link del br1p");
}

/// While nobody reads, more events arrive than the socket has room for; nothing is missed.
async fn overflow(receiver: &mut watch::Receiver<Snapshot>) {
    const ROUTES: u32 = 60_000;
    let pod = Pod::new();
    run(&format!("ip link add ptp1 type veth peer name eth0 netns {}", pod.0.id()));
    run("ip link set ptp1 up");
    until("new pod", receiver, |snapshot| named(snapshot, "ptp1").is_some()).await;
    let mut batch = tempfile::NamedTempFile::new().unwrap();
    for route in 0..ROUTES {
        let address = std::net::Ipv4Addr::from(0x0a80_0000 + route);
        writeln!(batch, "route add {address}/32 dev ptp1").unwrap();
    }
    // Blocks the runtime, too.
    run(&format!("ip -batch {}", batch.path().display()));
    until("last route", receiver, |snapshot| {
        let last = std::net::Ipv4Addr::from(0x0a80_0000 + ROUTES - 1);
        snapshot.resolve(last.into()) == named(snapshot, "ptp1")
    })
    .await;
}
