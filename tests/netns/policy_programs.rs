// SPDX-License-Identifier: Apache-2.0
//! What the programs make of compiled policies, over real sockets: own-node traffic by where it was
//! made, changes under established connections, the fast path. The test writes the maps itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aya::Pod as Plain;
use aya::maps::{Array, HashMap, Map, MapData};
use pintle_abi::ABI_VERSION;
use pintle_abi::addr::{V4, V6};
use pintle_abi::map::{self, MapSpec};
use pintle_abi::policy::{Endpoint, Row, RowKey, policy_mode};
use pintle_abi::settings::Settings;
use pintle_lab::agent::FastPath;
use pintle_lab::client::{HttpConnection, http_get, http_get_from, udp_ask};
use pintle_lab::netns::NetNs;
use pintle_lab::topology::{Cni, Family, Pod};

use crate::scene::{DNS, HTTP, Scene, endpoints, in_two_layouts};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_millis(400);

const EGRESS: u32 = 10;
const INGRESS: u32 = 11;
const FRIEND: u32 = 5;

/// The maps of the scene's agent, which does not write these.
struct Policies<'a> {
    scene: &'a Scene,
    epoch: u32,
}

impl Policies<'_> {
    fn map(&self, spec: &MapSpec) -> MapData {
        let root = self.scene.agent.bpf_root().join(format!("v{ABI_VERSION}/maps"));
        MapData::from_pin(root.join(spec.name)).expect("a pinned map")
    }

    fn put<K: Plain, V: Plain>(&self, spec: &MapSpec, key: K, value: V) {
        let map = Map::HashMap(self.map(spec));
        let mut map = HashMap::<_, K, V>::try_from(map).expect("a hash map");
        map.insert(key, value, 0).expect("an insert");
    }

    fn pod(&self, pod: &Pod, egress: u32, ingress: u32) {
        let device = std::ffi::CString::new(pod.host_device.as_str()).expect("a name");
        // SAFETY: the name ends with a zero byte and lives through the call.
        let ifindex =
            self.scene.world.nodes[0].run(|| unsafe { libc::if_nametoindex(device.as_ptr()) });
        let (v4, v6) = (pod.v4.into(), pod.v6.into());
        let endpoint = Endpoint { v4, v6, egress, ingress, ..Endpoint::default() };
        self.put(&map::ENDPOINTS, ifindex, endpoint);
    }

    fn class(&self, pod: &Pod, class: u32) {
        self.put(&map::PEERS_V4, V4::from(pod.v4), class);
        self.put(&map::PEERS_V6, V6::from(pod.v6), class);
    }

    /// What a ruleset says about friends, and about everybody else.
    fn rule(&self, ruleset: u32, friends: bool, others: bool) {
        for (class, allowed) in [(FRIEND, friends), (0, others)] {
            let bits = [if allowed { u64::MAX } else { 0 }; 4];
            let row = Row { allow: bits, staged: bits };
            self.put(&map::POLICY_ROWS, RowKey { ruleset, class }, row);
        }
    }

    /// Lets them hold from now on.
    fn hold(&mut self) {
        self.epoch += 1;
        let map = Map::Array(self.map(&map::SETTINGS));
        let mut map = Array::<_, Settings>::try_from(map).expect("the settings");
        let settings = map.get(&0, 0).expect("the settings");
        let (policy, policy_epoch) = (policy_mode::CLOSED, self.epoch);
        map.set(0, Settings { policy, policy_epoch, ..settings }, 0).expect("settings");
    }
}

/// Whether both protocols are answered; both must agree.
#[track_caller]
fn reaches(client: &NetNs, ip: IpAddr, ports: [u16; 2]) -> bool {
    let tcp = client.run(|| http_get_from(0, SocketAddr::new(ip, ports[0]), PATIENCE));
    let udp = client.run(|| udp_ask(SocketAddr::new(ip, ports[1]), b"who"));
    if let Err(error) = &tcp {
        assert!(is_silence(error), "{ip}: {error}");
    }
    assert_eq!(tcp.is_ok(), udp.is_ok(), "{ip}: {tcp:?}, {udp:?}");
    tcp.is_ok()
}

fn is_silence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

const SERVICE: [u16; 2] = [HTTP.port, DNS.port];
const POD: [u16; 2] = [HTTP.target, DNS.target];

mod isolation {
    use super::pods_are_isolated_but_for_their_friends_and_their_node as check;
    use crate::scene::in_two_layouts;
    use pintle_lab::agent::FastPath;
    use pintle_lab::topology::Cni;

    in_two_layouts!(check);
}

fn pods_are_isolated_but_for_their_friends_and_their_node(cni: Cni, fast_path: FastPath) {
    let mut scene = Scene::new(cni, fast_path);
    // The stranger is no backend: it would reach itself.
    scene.set_endpoints(&endpoints(&scene.backends[1..]));
    let mut policies = Policies { scene: &scene, epoch: 0 };
    let (node, client) = (&scene.world.nodes[0], &scene.client);
    let [stranger, server, _] = [0, 1, 2].map(|number| &scene.backends[number].pod);
    policies.rule(INGRESS, true, false);
    policies.rule(EGRESS, false, false);
    policies.class(client, FRIEND);
    policies.pod(client, 0, 0);
    for backend in &scene.backends {
        policies.pod(&backend.pod, EGRESS, INGRESS);
    }
    policies.hold();
    for family in Family::BOTH {
        let (service, pod) = (scene.web.ip(family), server.ip(family));
        assert!(reaches(client, service, SERVICE), "{family:?}: a friend, through the service");
        assert!(reaches(client, pod, POD), "{family:?}: a friend");
        assert!(reaches(node, service, SERVICE), "{family:?}: the node, through the service");
        assert!(reaches(node, pod, POD), "{family:?}: the node");
        assert!(!reaches(stranger, pod, POD), "{family:?}: egress of a stranger");
        assert!(!reaches(stranger, service, SERVICE), "{family:?}: egress, through the service");
    }
    policies.pod(stranger, 0, INGRESS);
    policies.hold();
    for family in Family::BOTH {
        let pod = server.ip(family);
        assert!(!reaches(stranger, pod, POD), "{family:?}: ingress from a stranger");
        assert!(reaches(client, pod, POD), "{family:?}: still a friend");
    }
}

in_two_layouts!(a_change_holds_for_established_connections);

fn a_change_holds_for_established_connections(cni: Cni, fast_path: FastPath) {
    let scene = Scene::new(cni, fast_path);
    let mut policies = Policies { scene: &scene, epoch: 0 };
    let client = &scene.client;
    policies.class(client, FRIEND);
    let isolate = |policies: &Policies<'_>| {
        for backend in &scene.backends {
            policies.pod(&backend.pod, 0, INGRESS);
        }
    };
    policies.pod(client, 0, 0);
    for backend in &scene.backends {
        policies.pod(&backend.pod, 0, 0);
    }
    policies.hold();
    for family in Family::BOTH {
        let targets = [scene.vip(family, &HTTP), scene.backends[0].pod.addr(family, HTTP.target)];
        for target in targets {
            let mut connection = client.run(|| HttpConnection::open(target)).expect("a connection");
            connection.get().expect("an answer");
            // The first policy comes while the connection is in its middle, and allows it.
            policies.rule(INGRESS, true, false);
            isolate(&policies);
            policies.hold();
            connection.get().expect("an answer that policies allow");
            policies.rule(INGRESS, false, false);
            policies.hold();
            let error = connection.get().expect_err("silence");
            assert!(is_silence(&error), "{target}: {error}");
            let denied = client.run(|| http_get_from(0, target, PATIENCE)).expect_err("silence");
            assert!(is_silence(&denied), "{target}: {denied}");
            policies.rule(INGRESS, true, false);
            policies.hold();
            client.run(|| http_get(target)).expect("allowed again");
        }
    }
}
