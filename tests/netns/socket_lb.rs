// SPDX-License-Identifier: Apache-2.0
//! Sockets that are translated when they dial (S27).

use std::io::ErrorKind::ConnectionRefused;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use aya::Pod;
use aya::maps::{HashMap, Map, MapData};
use pintle::datapath::pins::Pins;
use pintle_abi::ABI_VERSION;
use pintle_abi::addr::{V4, V6, proto};
use pintle_abi::counter::{CONNECT, Hook};
use pintle_abi::map::{self, MapSpec};
use pintle_abi::service::{Frontend, FrontendKey, frontend_flags, wildcard_flags};
use pintle_lab::agent::FastPath;
use pintle_lab::cgroup::Cgroup;
use pintle_lab::client::{DEADLINE, HttpConnection, http_get, udp_ask, udp_socket};
use pintle_lab::netns::NetNs;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::kernel_state::BpfObjects;
use pintle_tests::load::{Kind, Load, repeat, short_http, short_udp};
use pintle_tests::variant;
use serde_json::Value;

use crate::company::{alone, beside_others};
use crate::scene::{DNS, HTTP, Scene, endpoints, eventually};

/// A node port, which is written into the maps by hand.
const NODE_PORT: u16 = 30_080;

/// A scene whose agent translates sockets of a cgroup of its own.
pub struct SocketScene {
    pub scene: Scene,
    pub cgroup: Cgroup,
}

impl SocketScene {
    pub fn new(mode: &str) -> SocketScene {
        Self::with_fast_path(mode, FastPath::Auto)
    }

    fn with_fast_path(mode: &str, fast_path: FastPath) -> SocketScene {
        let cgroup = Cgroup::new().expect("a cgroup");
        let mut scene = Scene::without_agent(Cni::Ptp, fast_path).expect("a scene");
        scene.agent.translate_sockets(mode, cgroup.path());
        scene.agent.start().expect("start");
        SocketScene { scene, cgroup }
    }

    /// Runs `work` in the client's pod, in the cgroup.
    pub fn in_pod<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.cgroup.run(|| self.scene.client.run(work))
    }

    /// Runs `work` on the node itself, in the cgroup.
    fn on_node<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.cgroup.run(|| self.scene.world.nodes[0].run(work))
    }

    /// The value of a TCP frontend.
    fn read(&self, addr: SocketAddr) -> Frontend {
        let found = match addr.ip() {
            IpAddr::V4(ip) => {
                self.frontends(&map::FRONTENDS_V4).get(&key(V4::from(ip), addr, 6), 0)
            }
            IpAddr::V6(ip) => {
                self.frontends(&map::FRONTENDS_V6).get(&key(V6::from(ip), addr, 6), 0)
            }
        };
        found.expect("the frontend is in the map")
    }

    /// Writes a frontend behind the agent's back.
    fn write(&self, addr: SocketAddr, proto: u8, value: Frontend) {
        let written = match addr.ip() {
            IpAddr::V4(ip) => {
                let key = key(V4::from(ip), addr, proto);
                self.frontends(&map::FRONTENDS_V4).insert(key, value, 0)
            }
            IpAddr::V6(ip) => {
                let key = key(V6::from(ip), addr, proto);
                self.frontends(&map::FRONTENDS_V6).insert(key, value, 0)
            }
        };
        written.expect("write a frontend");
    }

    fn frontends<A>(&self, spec: &MapSpec) -> HashMap<MapData, FrontendKey<A>, Frontend>
    where
        FrontendKey<A>: Pod,
    {
        let maps = Pins::new(self.scene.agent.bpf_root());
        let data = MapData::from_pin(maps.map(spec)).expect("open the map");
        HashMap::try_from(Map::HashMap(data)).expect("a hash")
    }

    fn packets(&self) -> u64 {
        let count = |hook: &Hook, name| self.scene.agent.counter_at(hook.as_str(), name);
        let names = ["to a service", "from a service"];
        let all = Hook::ALL.iter().flat_map(|hook| names.map(|name| count(hook, name)));
        all.map(|count| count.expect("counters")).sum()
    }

    /// Connections that were translated by their packets.
    fn translated_by_packets(&self) -> u64 {
        let count = |hook: &Hook, name| self.scene.agent.counter_at(hook.as_str(), name);
        let all = Hook::ALL.iter().map(|hook| {
            let [new, of_sockets] =
                ["new flows", "flows of sockets"].map(|name| count(hook, name).expect("counters"));
            new - of_sockets
        });
        all.sum()
    }

    fn sockets(&self) -> u64 {
        self.scene.agent.counter_at(CONNECT, "new flows").expect("counters")
    }
}

fn key<A>(ip: A, addr: SocketAddr, proto: u8) -> FrontendKey<A> {
    FrontendKey { addr: ip, port: addr.port().to_be(), proto, scope: 0 }
}

/// An IPv4 address as IPv6 sockets write it.
fn mapped(target: SocketAddr) -> SocketAddr {
    match target.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), target.port()),
        IpAddr::V6(_) => target,
    }
}

/// Everything that clients of a service see of it, over TCP and both kinds of UDP socket.
fn a_service_looks_like_itself(http: SocketAddr, dns: SocketAddr, client: IpAddr) {
    let stream = TcpStream::connect_timeout(&http, DEADLINE).expect("connect");
    assert_eq!(stream.peer_addr().expect("peer"), http, "getpeername over TCP");
    let answer = HttpConnection::over(stream).and_then(|mut open| open.get()).expect("an answer");
    assert_eq!(answer.peer.ip().to_canonical(), client, "the server sees the client");

    let socket = udp_socket(dns).expect("a socket");
    socket.connect(dns).expect("connect");
    assert_eq!(socket.peer_addr().expect("peer"), dns, "getpeername over UDP");
    let mut buffer = [0; 64];
    for _ in 0..3 {
        socket.send(b"hello").expect("send");
        assert_eq!(socket.recv_from(&mut buffer).expect("an answer").1, dns);
        // Naming the peer again must not lead elsewhere: the socket hears its backend only.
        socket.send_to(b"hello", dns).expect("send to the peer");
        assert_eq!(socket.recv_from(&mut buffer).expect("an answer").1, dns);
    }

    for _ in 0..30 {
        udp_ask(dns, b"hello").expect("the answer comes from the service");
    }
    let spread = repeat(150, || short_http(http));
    spread.expect_no_failure("new connections");
    spread.expect_even(3);
    repeat(60, || short_udp(dns)).expect_no_failure("new UDP sockets");
}

fn from_the_node_in_every_form(scene: &SocketScene) {
    for family in Family::BOTH {
        let (http, dns) = (scene.scene.vip(family, &HTTP), scene.scene.vip(family, &DNS));
        let client = scene.scene.world.nodes[0].ip_of(family);
        scene.on_node(|| a_service_looks_like_itself(http, dns, client));
    }
    let client = scene.scene.world.nodes[0].ip_of(Family::V4);
    let [http, dns] = [&HTTP, &DNS].map(|port| mapped(scene.scene.vip(Family::V4, port)));
    scene.on_node(|| a_service_looks_like_itself(http, dns, client));
}

fn from_a_pod_in_every_form(scene: &SocketScene) {
    for family in Family::BOTH {
        let (http, dns) = (scene.scene.vip(family, &HTTP), scene.scene.vip(family, &DNS));
        let client = scene.scene.client.ip(family);
        scene.in_pod(|| a_service_looks_like_itself(http, dns, client));
    }
    let client = scene.scene.client.ip(Family::V4);
    let [http, dns] = [&HTTP, &DNS].map(|port| mapped(scene.scene.vip(Family::V4, port)));
    scene.in_pod(|| a_service_looks_like_itself(http, dns, client));
}

#[test]
fn sockets_are_translated_and_no_packet_of_theirs_is() {
    let _company = beside_others();
    let scene = SocketScene::new("all");
    let flows = || scene.scene.agent.json(&["get", "flows", "--limit=0"]).expect("flows");
    from_the_node_in_every_form(&scene);
    assert_eq!(scene.packets(), 0, "no packet of the node was seen");
    assert_eq!(flows().to_string(), "[]");
    from_a_pod_in_every_form(&scene);
    assert_eq!(scene.translated_by_packets(), 0, "no packet of the pod was translated");
    assert!(scene.sockets() > 1000, "{} sockets were", scene.sockets());
    let flows = flows();
    let flows = flows.as_array().expect("a list");
    assert!(!flows.is_empty(), "connections of the pod to its own node are redirected");
    for flow in flows {
        assert_eq!((&flow["frontend"], &flow["path"]), (&Value::Null, &"fast".into()), "{flow}");
        assert!(flow["service"].is_string(), "{flow}");
    }
}

#[test]
fn without_the_fast_path_translated_sockets_leave_no_flows() {
    let _company = beside_others();
    let scene = SocketScene::with_fast_path("all", FastPath::Off);
    from_a_pod_in_every_form(&scene);
    assert_eq!(scene.packets(), 0);
    assert_eq!(scene.scene.agent.json(&["get", "flows"]).expect("flows").to_string(), "[]");
}

#[test]
fn pods_and_the_node_see_the_same_without_translated_sockets() {
    let _company = beside_others();
    let scene = SocketScene::new("off");
    from_a_pod_in_every_form(&scene);
    from_the_node_in_every_form(&scene);
    assert_eq!(scene.sockets(), 0, "no socket was translated");
    assert!(scene.packets() > 2000, "{} packets were", scene.packets());
}

#[test]
fn in_host_mode_the_node_s_sockets_are_translated_and_those_of_pods_left_to_packets() {
    let _company = beside_others();
    let scene = SocketScene::new("host");
    from_a_pod_in_every_form(&scene);
    assert_eq!(scene.sockets(), 0, "no socket of a pod was translated");
    let packets = scene.packets();
    assert!(packets > 1000, "{packets} packets of pods were");
    from_the_node_in_every_form(&scene);
    assert!(scene.sockets() > 500, "{} sockets of the node were", scene.sockets());
    assert_eq!(scene.packets(), packets, "no packet of the node was translated");
    let status = scene.scene.agent.json(&["status"]).expect("status");
    assert_eq!(status["sockets"]["mode"], "host", "{status}");
}

#[test]
fn dialling_a_service_without_endpoints_is_refused_at_once() {
    let _company = beside_others();
    let mut scene = SocketScene::new("all");
    scene.scene.set_endpoints(&[]);
    for family in Family::BOTH {
        let (http, dns) = (scene.scene.vip(family, &HTTP), scene.scene.vip(family, &DNS));
        for (http, dns) in [(http, dns), (mapped(http), mapped(dns))] {
            scene.in_pod(|| {
                let refused = TcpStream::connect(http).expect_err("TCP").kind();
                assert_eq!(refused, ConnectionRefused);
                let socket = udp_socket(dns).expect("a socket");
                assert_eq!(socket.connect(dns).expect_err("UDP").kind(), ConnectionRefused);
                let refused = socket.send_to(b"hello", dns).expect_err("UDP, unconnected").kind();
                assert_eq!(refused, ConnectionRefused);
            });
        }
    }
    let refused = scene.scene.agent.counter_at(CONNECT, "refused, no backend").expect("counters");
    assert_eq!(refused, 2 * 2 * 3, "each refusal counts once");
    assert_eq!((scene.packets(), scene.sockets()), (0, 0));

    let all = endpoints(&scene.scene.backends);
    scene.scene.set_endpoints(&all);
    let http = scene.scene.vip(Family::V4, &HTTP);
    scene.in_pod(|| http_get(http)).expect("an answer once endpoints are back");
}

#[test]
fn what_is_no_service_is_dialled_as_it_is() {
    let _company = beside_others();
    let scene = SocketScene::new("all");
    let backend = &scene.scene.backends[0].pod;
    for family in Family::BOTH {
        let (http, dns) = (backend.addr(family, HTTP.target), backend.addr(family, DNS.target));
        scene.in_pod(|| {
            assert_eq!(http_get(http).expect("an answer").pod, backend.name);
            udp_ask(dns, b"hello").expect("an answer from where it was asked");
        });
    }
    assert_eq!((scene.packets(), scene.sockets()), (0, 0));
}

/// Written into the maps by hand: whatever the API makes, the programs see no more than this.
#[test]
fn node_ports_answer_on_loopback_for_the_node_and_not_for_pods() {
    let _company = beside_others();
    let scene = SocketScene::new("all");
    for family in Family::BOTH {
        let (loopback, any): (IpAddr, IpAddr) = match family {
            Family::V4 => (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into()),
            Family::V6 => (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()),
        };
        let value = scene.read(scene.scene.vip(family, &HTTP));
        scene.write(SocketAddr::new(any, NODE_PORT), proto::TCP, value);
        let node = Frontend { flags: wildcard_flags::NODE, ..Frontend::default() };
        let own = scene.scene.world.nodes[0].ip_of(family);
        scene.write(SocketAddr::new(loopback, 0), 0, node);
        scene.write(SocketAddr::new(own, 0), 0, node);
        let [loopback, own, any] = [loopback, own, any].map(|ip| SocketAddr::new(ip, NODE_PORT));
        for target in [loopback, own, mapped(loopback), mapped(own)] {
            let dial = || TcpStream::connect(target).map(|open| open.peer_addr().expect("peer"));
            assert_eq!(scene.on_node(dial).expect("from the node"), target);
            let report = scene.on_node(|| repeat(30, || short_http(target)));
            report.expect_no_failure("from the node");
        }
        // Linux takes the unspecified address for loopback.
        scene.on_node(|| http_get(any)).expect("from the node, unspecified");
        scene.in_pod(|| http_get(own)).expect("the node's address from a pod");
        for in_pod in [loopback, any] {
            let refused = scene.in_pod(|| http_get(in_pod)).expect_err("a pod's own loopback");
            assert_eq!(refused.kind(), ConnectionRefused, "nobody listens in the pod");
        }
        for ip in [loopback.ip(), own.ip()] {
            let other = SocketAddr::new(ip, NODE_PORT + 1);
            let refused = scene.on_node(|| http_get(other)).expect_err("another port").kind();
            assert_eq!(refused, ConnectionRefused, "the node itself says so");
        }
    }
    let unknown = scene.scene.agent.counter_at(CONNECT, "refused, unknown port").expect("counters");
    assert_eq!(unknown, 0, "a node's other ports are not ours");
    assert_eq!(scene.translated_by_packets(), 0);
}

#[test]
fn what_needs_packets_is_left_to_them() {
    let _company = beside_others();
    let scene = SocketScene::new("all");
    for family in Family::BOTH {
        let http = scene.scene.vip(family, &HTTP);
        let unknown = SocketAddr::new(http.ip(), 81);
        let plain = scene.read(http);
        let cluster = Frontend { flags: wildcard_flags::CLUSTER, ..Frontend::default() };
        scene.write(SocketAddr::new(http.ip(), 0), 0, cluster);
        let refused = scene.in_pod(|| TcpStream::connect(unknown)).expect_err("no such port");
        assert_eq!(refused.kind(), ConnectionRefused);
        let before = scene.sockets();
        for value in [
            Frontend { affinity_seconds: 10, ..plain },
            Frontend { flags: frontend_flags::SOURCE_RANGES, ..plain },
            Frontend { flags: frontend_flags::MASQUERADE, ..plain },
            Frontend { flags: frontend_flags::MASQUERADE_LOCAL, ..plain },
        ] {
            scene.write(http, proto::TCP, value);
            // What the packets' programs make of it is not the matter here.
            let _ = scene.in_pod(|| TcpStream::connect_timeout(&http, DEADLINE / 5));
            assert_eq!(scene.sockets(), before, "{value:?}");
        }
        scene.write(http, proto::TCP, plain);
        scene.in_pod(|| http_get(http)).expect("an answer");
        assert_eq!(scene.sockets(), before + 1);
    }
    let unknown = scene.scene.agent.counter_at(CONNECT, "refused, unknown port").expect("counters");
    assert_eq!(unknown, 2, "each refusal counts once");
}

#[test]
fn nothing_fails_while_the_agent_dies_returns_and_is_replaced() {
    let _company = alone();
    let mut scene = SocketScene::new("all");
    let node = (*scene.scene.world.nodes[0]).clone();
    let (v4, v6) = (scene.scene.vip(Family::V4, &HTTP), scene.scene.vip(Family::V6, &HTTP));
    let dns = scene.scene.vip(Family::V4, &DNS);
    let short = Kind::Short { per_second: 200 };
    let loads = scene.cgroup.run(|| {
        let client: &NetNs = &scene.scene.client;
        [
            ("pod, IPv4", Load::start(client, v4, 2, short)),
            ("pod, IPv6", Load::start(client, v6, 2, short)),
            ("node, IPv4", Load::start(&node, v4, 2, short)),
            ("pod, UDP", Load::start(client, dns, 2, Kind::UdpNewPort { per_second: 100 })),
        ]
    });
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 50));
    let root = scene.scene.agent.bpf_root().to_owned();
    let links =
        || std::fs::read_dir(root.join(format!("v{ABI_VERSION}/links"))).expect("links").count();
    let before = (links(), BpfObjects::pinned_below(&root).expect("objects"));

    let agent = &mut scene.scene.agent;
    agent.kill().expect("kill -9");
    std::thread::sleep(DEADLINE / 5);
    agent.start().expect("start after kill -9");
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (agent.binary(), folder.path().join("pintle"));
    variant::write(&old, &new).expect("a binary with other programs");
    agent.upgrade(&new).expect("upgrade");
    let upgraded = BpfObjects::pinned_below(&root).expect("objects");
    assert_ne!(upgraded.tags, before.1.tags, "the programs are new");
    agent.upgrade(&old).expect("downgrade");
    let after = BpfObjects::pinned_below(&root).expect("objects");
    assert_eq!((links(), &after.tags), (before.0, &before.1.tags), "links and programs");
    for (what, load) in loads {
        load.stop().expect_no_failure(what);
    }
    assert_eq!(scene.translated_by_packets(), 0, "there was no moment without programs");
}

#[test]
fn a_start_with_another_mode_and_cleanup_remove_the_programs() {
    let _company = beside_others();
    let mut scene = SocketScene::new("all");
    let http = scene.scene.vip(Family::V4, &HTTP);
    let root = scene.scene.agent.bpf_root().to_owned();
    let pinned = || root.join(format!("v{ABI_VERSION}/links/connect4")).exists();
    scene.in_pod(|| http_get(http)).expect("an answer");
    assert!(pinned() && scene.sockets() == 1);

    scene.scene.agent.stop().expect("stop");
    scene.scene.agent.translate_sockets("off", scene.cgroup.path());
    scene.scene.agent.start().expect("start");
    scene.in_pod(|| http_get(http)).expect("an answer");
    assert!(!pinned() && scene.sockets() == 1 && scene.packets() > 0);

    // To another cgroup and back: the first one's sockets are left alone meanwhile.
    let other = Cgroup::new().expect("a cgroup");
    for (path, expected) in [(other.path(), 1), (scene.cgroup.path(), 2)] {
        scene.scene.agent.stop().expect("stop");
        scene.scene.agent.translate_sockets("all", path);
        scene.scene.agent.start().expect("start");
        scene.in_pod(|| http_get(http)).expect("an answer");
        assert_eq!(scene.sockets(), expected);
    }

    let objects = BpfObjects::pinned_below(&root).expect("objects");
    scene.scene.agent.kill().expect("kill");
    scene.scene.agent.cleanup().expect("cleanup");
    assert!(!root.exists());
    eventually("programs, maps and links are gone", || objects.still_alive().is_empty());
    scene.in_pod(|| http_get(http)).expect_err("nothing serves the ClusterIP any more");
}

#[test]
fn an_agent_whose_cgroup_is_missing_translates_packets_and_says_why() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
    scene.agent.translate_sockets("all", "/nonexistent".as_ref());
    scene.agent.start().expect("start");
    let text = scene.agent.text(&["status"]).expect("status");
    assert!(text.contains("packets are: open the cgroup /nonexistent"), "{text}");
    let http = scene.vip(Family::V4, &HTTP);
    scene.client.run(|| http_get(http)).expect("an answer");
}
