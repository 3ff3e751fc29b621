// SPDX-License-Identifier: Apache-2.0
//! Packets of pods' sockets that were translated when they dialled: nothing has to be rewritten, but
//! those to a pod of the same node skip the host's stack like any other service connection.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::{
    addr::{V4, V6, proto},
    counter::Hook,
    device::Device,
    flow::flow_flags,
    policy::Endpoint,
    settings::Settings,
    socket::{Connection, socket_scope},
};
use pintle_ebpf::{kernel::PerSocket, maps};
use pintle_tests::{
    frame::{Frame, flag, icmp, tcp},
    host_world::{HostWorld, Place},
    policies::{EGRESS, INGRESS, WEB, pod},
    vectors::{Ip, PROTOCOLS, data, first, scene::put_remote},
    world::{BackendSpec, Exit, IFINDEX, Place as At, Table, World, device, settings},
};

const FROM_POD: Hook = Hook::FromPod;
/// The socket, its backend's id, and the number of the service that it dialled.
const SOCKET: u64 = 77;
const BACKEND: u32 = 1;
const SERVICE: u32 = 9;
/// The interface of the backend's pod.
const BEHIND: u32 = IFINDEX + 70;

/// A pod's socket that has dialled a service and was sent to a backend.
struct Scene {
    world: HostWorld,
    client: SocketAddr,
    backend: SocketAddr,
}

impl Scene {
    fn new(ip: Ip) -> Self {
        let mut world = crate::world();
        let (client, backend) = (ip.client(40000), ip.backend(5, 8080));
        world.put_backend(at(backend, 1));
        world.put_settings(&Settings { socket_scope: socket_scope::ALL, ..settings() });
        world.place(Place { ifindex: IFINDEX, way_out: 0, socket: Some(SOCKET) });
        dialled(backend);
        Self { world, client, backend }
    }

    fn all() -> impl Iterator<Item = (Self, Ip, u8)> {
        let both = [Ip::V4, Ip::V6].into_iter();
        both.flat_map(|ip| PROTOCOLS.into_iter().map(move |proto| (Self::new(ip), ip, proto)))
    }

    fn world(&mut self) -> &mut dyn World {
        &mut self.world
    }

    fn request(&self, proto: u8) -> Frame {
        first(proto, self.client, self.backend)
    }

    fn reply(&self, proto: u8) -> Frame {
        data(proto, self.backend, self.client)
    }

    /// Goes to the pod past the stack, as it is.
    #[track_caller]
    fn skips_the_stack(&mut self, frame: &Frame) {
        let expected = frame.clone().ttl(63);
        self.world().takes(FROM_POD, frame, Exit::Pod, &expected);
    }

    #[track_caller]
    fn passes(&mut self, frame: &Frame) {
        self.world().untouched(FROM_POD, &frame.bytes());
    }

    /// The flags of all flow entries.
    fn flows(&self, proto: u8) -> Vec<u16> {
        let flows = self.world.flows(self.client.is_ipv6(), proto, Table::Main);
        flows.into_iter().map(|flow| flow.flags & !flow_flags::CLIENT_FIRST).collect()
    }
}

/// A backend behind another pod's interface.
fn at(addr: SocketAddr, generation: u32) -> BackendSpec {
    BackendSpec { id: BACKEND, addr, generation, ifindex: BEHIND, place: At::Local }
}

/// What the socket's program has noted.
fn dialled(backend: SocketAddr) {
    let (backend_port, service_port) = (backend.port().to_be(), 80_u16.to_be());
    let (id, generation, number) = (BACKEND, 1, SERVICE);
    let noted = match backend.ip() {
        IpAddr::V4(ip) => {
            let (service, backend) = (V4::default(), V4::from(ip));
            let value =
                Connection { service, backend, service_port, backend_port, id, generation, number };
            maps::SOCKETS_V4.insert(SOCKET, &value)
        }
        IpAddr::V6(ip) => {
            let (service, backend) = (V6::default(), V6::from(ip));
            let value =
                Connection { service, backend, service_port, backend_port, id, generation, number };
            maps::SOCKETS_V6.insert(SOCKET, &value)
        }
    };
    noted.expect("room for a socket");
}

/// Flags of no flow.
const NONE: [u16; 0] = [];
/// Flags of a flow that was dialled by a socket.
const OF_SOCKET: u16 = flow_flags::SOCKET | flow_flags::FAST;

#[test]
fn connection_to_a_pod_of_the_node_skips_the_stack_both_ways_with_one_entry() {
    for (mut scene, _, proto) in Scene::all() {
        scene.skips_the_stack(&scene.request(proto));
        scene.skips_the_stack(&scene.reply(proto));
        scene.skips_the_stack(&data(proto, scene.client, scene.backend));
        assert_eq!(scene.flows(proto), [OF_SOCKET]);
        scene.world().expect(&format!(
            "from_pod: 2 to a service, from_pod: 1 from a service, from_pod: 3 redirected, \
             from_pod: 1 new flows, from_pod: 1 flows of sockets, 1 {} flows",
            if proto == proto::TCP { "tcp" } else { "udp" },
        ));
    }
}

#[test]
fn nothing_is_tracked_where_the_stack_cannot_be_skipped() {
    for (mut scene, _, proto) in Scene::all() {
        let request = scene.request(proto);
        scene.world.put_device_at(IFINDEX, &Device { flags: 0, ..device() });
        scene.passes(&request);
        scene.world.put_device_at(IFINDEX, &device());
        let backend = scene.backend;
        put_remote(&mut scene.world, BACKEND, backend);
        scene.passes(&request);
        assert_eq!(scene.flows(proto), NONE);
    }
}

#[test]
fn only_what_the_socket_has_dialled_is_tracked() {
    for (mut scene, ip, proto) in Scene::all() {
        // A UDP socket may name somebody else.
        scene.passes(&first(proto, scene.client, ip.backend(6, 8080)));
        scene.passes(&first(proto, scene.client, ip.backend(5, 8081)));
        // In its middle the stack may know a connection already.
        scene.passes(&tcp(scene.client, scene.backend, flag::ACK));
        scene.world.place(Place { ifindex: IFINDEX, way_out: 0, socket: None });
        scene.passes(&scene.request(proto));
        scene.world.place(Place { ifindex: IFINDEX, way_out: 0, socket: Some(SOCKET + 1) });
        scene.passes(&scene.request(proto));
        assert_eq!(scene.flows(proto), NONE);
    }
}

#[test]
fn sockets_of_pods_are_asked_only_while_they_are_translated() {
    for (mut scene, _, proto) in Scene::all() {
        let settings = Settings { socket_scope: socket_scope::HOST, ..settings() };
        scene.world.put_settings(&settings);
        scene.passes(&scene.request(proto));
        assert_eq!(scene.flows(proto), NONE);
    }
}

#[test]
fn next_connection_takes_the_place_of_one_that_has_ended() {
    for ip in [Ip::V4, Ip::V6] {
        let mut scene = Scene::new(ip);
        let request = scene.request(proto::TCP);
        for _ in 0..2 {
            scene.skips_the_stack(&request);
            scene.skips_the_stack(&tcp(scene.client, scene.backend, flag::RST));
        }
        let flows = scene.world.flows(ip.is_v6(), proto::TCP, Table::Main);
        let [flow] = &flows[..] else { panic!("{flows:?}") };
        assert_eq!((flow.backend, flow.packets), (BACKEND, 2), "the second one's alone");
    }
}

#[test]
fn connection_to_a_service_keeps_the_tuple_that_it_has() {
    for (mut scene, ip, proto) in Scene::all() {
        let (client, service, backend) = (scene.client, ip.service(80), scene.backend);
        scene.world().service(service, proto, BACKEND, &[backend]);
        let arrived = first(proto, client, backend).ttl(63);
        scene.world().takes(FROM_POD, &first(proto, client, service), Exit::Pod, &arrived);
        let before = scene.flows(proto);
        scene.passes(&scene.request(proto));
        assert_eq!(scene.flows(proto), before);
    }
}

#[test]
fn connection_to_a_service_moves_its_port_beside_one_of_a_socket() {
    for (mut scene, ip, proto) in Scene::all() {
        let (client, service, backend) = (scene.client, ip.service(80), scene.backend);
        scene.skips_the_stack(&scene.request(proto));
        scene.world().service(service, proto, BACKEND, &[backend]);
        let (_, sent) = scene.world().send(FROM_POD, &first(proto, client, service));
        assert_eq!((sent.src.ip(), sent.dst), (client.ip(), backend));
        assert!(sent.src.port() >= 61_000, "{}", sent.src);
        scene.skips_the_stack(&scene.reply(proto));
    }
}

#[test]
fn datagrams_pass_once_the_backend_is_gone_and_segments_go_on() {
    for (mut scene, _, proto) in Scene::all() {
        scene.skips_the_stack(&scene.request(proto));
        scene.world.put_backend(at(scene.backend, 2));
        // Its interface may be another pod's: the stack knows better.
        let more = data(proto, scene.client, scene.backend);
        scene.passes(&more);
        assert_eq!(scene.flows(proto), [OF_SOCKET]);
        scene.skips_the_stack(&scene.reply(proto));
    }
}

#[test]
fn errors_about_its_packets_reach_the_client_as_they_are() {
    for (mut scene, ip, proto) in Scene::all() {
        scene.skips_the_stack(&scene.request(proto));
        let quoted = data(proto, scene.client, scene.backend);
        let too_big = if ip.is_v6() { (2, 0) } else { (3, 4) };
        let (server, client) = (scene.backend.ip(), scene.client.ip());
        scene.skips_the_stack(&icmp(server, client, too_big, 1400, &quoted.quote(100)));
    }
}

/// Past the stack no other hook sees the packet: both ends are judged at once.
#[test]
fn policies_of_both_ends_are_asked() {
    for (mut scene, _, proto) in Scene::all() {
        let (request, reply) = (scene.request(proto), scene.reply(proto));
        let police = |scene: &mut Scene, policy_epoch, egress: &[u32], ingress: &[u32]| {
            let mode = pintle_abi::policy::policy_mode::CLOSED;
            let scope = socket_scope::ALL;
            let policed =
                Settings { policy: mode, policy_epoch, socket_scope: scope, ..settings() };
            scene.world.put_settings(&policed);
            scene.world().ruleset(EGRESS, egress, egress);
            scene.world().ruleset(INGRESS, ingress, ingress);
        };
        let client = Endpoint { egress: EGRESS, ..pod(scene.client.ip()) };
        let backend = Endpoint { ingress: INGRESS, ..pod(scene.backend.ip()) };
        // Where its own pod leaves, the client's end is asked for at the same interface.
        let server = Endpoint { hairpin_egress: EGRESS, ..backend };
        scene.world.put_endpoint(BEHIND, Some(&backend));
        scene.world().at_pod(client);
        police(&mut scene, 1, &[], &[WEB]);
        scene.world().denies(FROM_POD, &request);
        police(&mut scene, 2, &[WEB], &[]);
        scene.world().denies(FROM_POD, &request);
        police(&mut scene, 3, &[WEB], &[WEB]);
        scene.skips_the_stack(&request);
        scene.world().at_pod(server);
        scene.skips_the_stack(&reply);
        scene.world().at_pod(client);
        police(&mut scene, 4, &[WEB], &[]);
        let more = data(proto, scene.client, scene.backend);
        scene.world().denies(FROM_POD, &more);
        assert_eq!(scene.flows(proto), [OF_SOCKET]);
    }
}
