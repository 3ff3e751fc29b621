// SPDX-License-Identifier: Apache-2.0
//! Sockets that dial, on the host build of the programs: every decision, in both families (S27).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pintle_abi::addr::{V4, V6, proto};
use pintle_abi::counter::{CONNECT_ROW, Counter, counter_in, drop_in};
use pintle_abi::drop_reason::DropReason;
use pintle_abi::service::{
    Frontend, FrontendKey, frontend_flags as flag, wildcard_flags as wildcard,
};
use pintle_abi::settings::Settings;
use pintle_abi::socket::{UdpSocket, socket_scope};
use pintle_ebpf::kernel::{self, IfPresent, SocketHandle};
use pintle_ebpf::maps;
use pintle_ebpf::socket::{self, Peer, Socket, SocketFamily, Verdict};
use pintle_tests::host_world::{HostWorld, Offload};
use pintle_tests::vectors::Ip;
use pintle_tests::world::{BackendSpec, Place, World};

const NODE: u64 = 1;
const POD: u64 = 2;

/// A family, with the addresses of the vectors.
trait Tested: SocketFamily + std::fmt::Debug {
    const IP: Ip;
    fn of(addr: SocketAddr) -> Peer<Self>;
}

impl Tested for V4 {
    const IP: Ip = Ip::V4;
    fn of(addr: SocketAddr) -> Peer<Self> {
        let IpAddr::V4(ip) = addr.ip() else { panic!("{addr} is not of IPv4") };
        Peer { addr: ip.into(), port: addr.port().to_be() }
    }
}

impl Tested for V6 {
    const IP: Ip = Ip::V6;
    fn of(addr: SocketAddr) -> Peer<Self> {
        let IpAddr::V6(ip) = addr.ip() else { panic!("{addr} is not of IPv6") };
        Peer { addr: ip.into(), port: addr.port().to_be() }
    }
}

#[derive(Clone, Copy)]
struct Fake {
    cookie: u64,
    netns: u64,
    proto: u8,
}

impl Socket for Fake {
    fn handle(&self) -> SocketHandle {
        self.cookie
    }
    fn cookie(&self) -> u64 {
        self.cookie
    }
    fn netns(&self) -> u64 {
        self.netns
    }
    fn proto(&self) -> u8 {
        self.proto
    }
}

fn tcp(cookie: u64) -> Fake {
    Fake { cookie, netns: POD, proto: proto::TCP }
}

fn udp(cookie: u64) -> Fake {
    Fake { cookie, netns: POD, proto: proto::UDP }
}

/// A world in which `scope` says whose sockets are translated: a service of three backends, over both
/// protocols, in slots and ids 1 to 3.
fn world<F: Tested>(scope: u32) -> HostWorld {
    let mut world = HostWorld::new(Offload::None);
    // SAFETY: an element of this thread's maps.
    let settings: &mut Settings = unsafe { &mut *maps::SETTINGS.get(0).expect("settings") };
    (settings.socket_scope, settings.node_netns) = (scope, NODE);
    let backends = [1, 2, 3].map(|number| F::IP.backend(number, 8080));
    let service = F::IP.service(80);
    for proto in [proto::TCP, proto::UDP] {
        (&mut world as &mut dyn World).service(service, proto, 1, &backends);
    }
    world
}

fn put<F: Tested>(addr: SocketAddr, proto: u8, value: Frontend) {
    let Peer { addr, port } = F::of(addr);
    let key = FrontendKey { addr, port, proto, scope: 0 };
    F::frontends().insert(&key, &value, IfPresent::Replace).expect("room");
}

fn plain() -> Frontend {
    Frontend { service: 80, base: 1, count: 3, ..Frontend::default() }
}

fn backend<F: Tested>(world: &mut HostWorld, id: u32, generation: u32) {
    let addr = F::IP.backend(id as u8, 8080);
    world.put_backend(BackendSpec { id, addr, generation, ifindex: 0, place: Place::Remote });
}

/// Sockets for which a backend was chosen, and refusals by reason.
fn counted(world: &HostWorld) -> (u64, BTreeMap<&'static str, u64>) {
    let refused = DropReason::ALL
        .iter()
        .map(|reason| (reason.as_str(), world.counter(drop_in(CONNECT_ROW, *reason))));
    let chosen = world.counter(counter_in(CONNECT_ROW, Counter::NewFlow));
    (chosen, refused.filter(|(_, count)| *count > 0).collect())
}

fn backends<F: Tested>() -> [Verdict<F>; 3] {
    [1, 2, 3].map(|number| Verdict::Translate(F::of(F::IP.backend(number, 8080))))
}

#[track_caller]
fn translated<F: Tested>(verdict: Verdict<F>) -> Peer<F> {
    match verdict {
        Verdict::Translate(peer) => peer,
        Verdict::Pass | Verdict::Refuse => panic!("{verdict:?}"),
    }
}

macro_rules! in_both_families {
    ($($name:ident)*) => {$(
        mod $name {
            use pintle_abi::addr::{V4, V6};

            #[test]
            fn v4() {
                super::$name::<V4>();
            }

            #[test]
            fn v6() {
                super::$name::<V6>();
            }
        }
    )*};
}

in_both_families! {
    sockets_spread_evenly_and_are_told_of_the_service
    what_is_no_service_is_dialled_as_it_is
    nobody_is_refused_but_where_the_answer_is_known
    node_ports_are_for_the_node_s_addresses
    what_needs_packets_is_left_to_them
    the_scope_says_whose_sockets_are_translated
    a_connected_udp_socket_is_known_until_it_is_closed
    what_cannot_be_recorded_is_left_to_packets
    a_udp_socket_keeps_its_backend_until_that_is_gone
    two_services_of_one_backend_are_kept_apart
    a_connected_udp_socket_that_names_its_peer_hears_it
}

fn sockets_spread_evenly_and_are_told_of_the_service<F: Tested>() {
    let world = world::<F>(socket_scope::ALL);
    let service = F::of(F::IP.service(80));
    let mut found = [0; 3];
    for cookie in 1..=900 {
        let socket = tcp(cookie);
        let verdict = socket::connect(&socket, service);
        let place = backends::<F>().iter().position(|backend| *backend == verdict);
        found[place.unwrap_or_else(|| panic!("{verdict:?}"))] += 1;
        assert_eq!(socket::peer_name(&socket, translated(verdict)), Some(service));
        let other = F::of(F::IP.client(80));
        assert_eq!(socket::peer_name(&socket, other), None, "it is connected elsewhere by now");
    }
    assert!(found.iter().all(|count| (250..350).contains(count)), "{found:?}");
    assert_eq!(counted(&world), (900, BTreeMap::new()));
}

fn what_is_no_service_is_dialled_as_it_is<F: Tested>() {
    let world = world::<F>(socket_scope::ALL);
    let (service, other) = (F::of(F::IP.service(80)), F::of(F::IP.client(80)));
    let socket = udp(7);
    let before = translated(socket::connect(&socket, service));
    assert_eq!(socket::connect(&socket, other), Verdict::Pass);
    assert_eq!(socket::peer_name(&socket, before), None, "the earlier connection is forgotten");
    assert!(maps::UDP_SOCKETS.is_empty());
    assert_eq!(socket::send(&socket, other), Verdict::Pass);
    assert_eq!(socket::receive(&socket, other), None);
    let sctp = Fake { cookie: 8, netns: POD, proto: proto::SCTP };
    assert_eq!(socket::connect(&sctp, service), Verdict::Pass);
    // An address that others may use, too.
    put::<F>(F::IP.service(0), 0, Frontend::default());
    assert_eq!(socket::connect(&tcp(9), F::of(F::IP.service(81))), Verdict::Pass);
    assert_eq!(counted(&world), (1, BTreeMap::new()));
}

fn nobody_is_refused_but_where_the_answer_is_known<F: Tested>() {
    let world = world::<F>(socket_scope::ALL);
    let [empty, silent, unknown] = [81, 82, 83].map(|port| F::IP.service(port));
    for proto in [proto::TCP, proto::UDP] {
        put::<F>(empty, proto, Frontend { count: 0, ..plain() });
        put::<F>(silent, proto, Frontend { count: 0, flags: flag::DROP, ..plain() });
    }
    let cluster = Frontend { flags: wildcard::CLUSTER, ..Frontend::default() };
    put::<F>(F::IP.service(0), 0, cluster);
    let [empty, silent, unknown] = [empty, silent, unknown].map(F::of);
    for socket in [tcp(1), udp(2)] {
        assert_eq!(socket::connect(&socket, empty), Verdict::Refuse);
        assert_eq!(socket::connect(&socket, silent), Verdict::Pass);
        assert_eq!(socket::connect(&socket, unknown), Verdict::Refuse);
    }
    assert_eq!(socket::send(&udp(3), empty), Verdict::Refuse);
    assert_eq!(socket::send(&udp(3), silent), Verdict::Pass);
    assert_eq!(socket::send(&udp(3), unknown), Verdict::Refuse);
    let refused = [("refused, no backend", 3), ("refused, unknown port", 3)];
    assert_eq!(counted(&world), (0, BTreeMap::from(refused)));
}

fn node_ports_are_for_the_node_s_addresses<F: Tested>() {
    let world = world::<F>(socket_scope::ALL);
    let any = SocketAddr::new(unspecified(F::IP), 30080);
    let own = SocketAddr::new(F::IP.router(), 30080);
    let loopback = SocketAddr::new(loopback_of(F::IP), 30080);
    put::<F>(any, proto::TCP, plain());
    let node = Frontend { flags: wildcard::NODE, ..Frontend::default() };
    for ip in [own.ip(), loopback.ip()] {
        put::<F>(SocketAddr::new(ip, 0), 0, node);
    }
    let on_node = Fake { netns: NODE, ..tcp(1) };
    for target in [own, loopback, any] {
        let backend = translated(socket::connect(&on_node, F::of(target)));
        assert_eq!(socket::peer_name(&on_node, backend), Some(F::of(target)));
    }
    translated(socket::connect(&tcp(2), F::of(own)));
    assert_eq!(socket::connect(&tcp(2), F::of(loopback)), Verdict::Pass, "the pod's own");
    assert_eq!(socket::connect(&tcp(2), F::of(any)), Verdict::Pass, "the pod's own");
    let other_port = SocketAddr::new(own.ip(), 30081);
    assert_eq!(socket::connect(&on_node, F::of(other_port)), Verdict::Pass);
    let other_address = SocketAddr::new(F::IP.client(0).ip(), 30080);
    assert_eq!(socket::connect(&on_node, F::of(other_address)), Verdict::Pass);
    assert_eq!(counted(&world), (4, BTreeMap::new()));
}

fn loopback_of(ip: Ip) -> IpAddr {
    if ip.is_v6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

fn unspecified(ip: Ip) -> IpAddr {
    if ip.is_v6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

fn what_needs_packets_is_left_to_them<F: Tested>() {
    let world = world::<F>(socket_scope::ALL);
    let service = F::of(F::IP.service(80));
    let affinity = Frontend { affinity_seconds: 10, ..plain() };
    let flagged = |flags| Frontend { flags, ..plain() };
    let masqueraded = [flag::MASQUERADE, flag::MASQUERADE_LOCAL].map(flagged);
    let cases = [
        (affinity, false),
        (flagged(flag::SOURCE_RANGES), false),
        (masqueraded[0], true),
        (masqueraded[1], true),
    ];
    for (value, translated_on_node) in cases {
        put::<F>(F::IP.service(80), proto::UDP, value);
        assert_eq!(socket::connect(&udp(1), service), Verdict::Pass, "{value:?}");
        assert_eq!(socket::send(&udp(2), service), Verdict::Pass, "{value:?}");
        // The node's own sockets have the node's address without masquerading.
        let verdict = socket::connect(&Fake { netns: NODE, ..udp(3) }, service);
        assert_eq!(verdict != Verdict::Pass, translated_on_node, "{value:?}");
    }
    for flags in [flag::SPLIT, flag::MASQUERADE_OTHERS] {
        put::<F>(F::IP.service(80), proto::TCP, flagged(flags));
        translated(socket::connect(&tcp(4), service));
    }
    assert_eq!(counted(&world), (4, BTreeMap::new()));
}

fn the_scope_says_whose_sockets_are_translated<F: Tested>() {
    for (scope, node, pod) in [
        (socket_scope::OFF, false, false),
        (socket_scope::HOST, true, false),
        (socket_scope::ALL, true, true),
    ] {
        let _world = world::<F>(scope);
        let service = F::of(F::IP.service(80));
        for (netns, expected) in [(NODE, node), (POD, pod)] {
            let verdict = socket::connect(&Fake { netns, ..tcp(netns) }, service);
            assert_eq!(verdict != Verdict::Pass, expected, "{scope} {netns}");
            let socket = Fake { netns, ..udp(netns) };
            let verdict = socket::send(&socket, service);
            assert_eq!(verdict != Verdict::Pass, expected, "{scope} {netns}");
            if let Verdict::Translate(backend) = verdict {
                assert_eq!(socket::receive(&socket, backend), Some(service));
            }
        }
    }
}

fn a_connected_udp_socket_is_known_until_it_is_closed<F: Tested>() {
    let _world = world::<F>(socket_scope::ALL);
    let service = F::of(F::IP.service(80));
    let socket = udp(7);
    translated(socket::connect(&tcp(6), service));
    assert!(maps::UDP_SOCKETS.is_empty(), "TCP goes on without its backend");
    let backend = translated(socket::connect(&socket, service));
    let known = maps::UDP_SOCKETS.elements();
    // SAFETY: an element of this thread's maps.
    let (cookie, value) = (known[0].0, unsafe { *known[0].1 });
    let id = backends::<F>().iter().position(|known| *known == Verdict::Translate(backend));
    let id = id.expect("one of them") as u32 + 1;
    let expected = UdpSocket { netns: POD, id, generation: 1, family: F::NUMBER, pad: 0 };
    assert_eq!((known.len(), cookie, value), (1, 7, expected));
    assert_eq!(socket::receive(&socket, backend), Some(service));
    socket::release(&tcp(6));
    socket::release(&udp(8));
    assert_eq!(maps::UDP_SOCKETS.len(), 1, "others are closed");
    socket::release(&socket);
    assert!(maps::UDP_SOCKETS.is_empty());
}

fn what_cannot_be_recorded_is_left_to_packets<F: Tested>() {
    let mut world = world::<F>(socket_scope::ALL);
    let service = F::of(F::IP.service(80));
    kernel::limit(0);
    assert_eq!(socket::connect(&tcp(1), service), Verdict::Pass);
    assert_eq!(socket::connect(&udp(2), service), Verdict::Pass);
    assert_eq!(socket::send(&udp(3), service), Verdict::Pass);
    kernel::limit(1024);
    for id in 1..=3 {
        backend::<F>(&mut world, id, 0);
    }
    assert_eq!(socket::connect(&tcp(4), service), Verdict::Pass, "the backends are free ids");
    assert_eq!(socket::send(&udp(5), service), Verdict::Pass, "the backends are free ids");
    assert_eq!(counted(&world), (0, BTreeMap::new()));
    assert!(maps::UDP_SOCKETS.is_empty() && F::datagrams().is_empty());
}

fn a_udp_socket_keeps_its_backend_until_that_is_gone<F: Tested>() {
    let mut world = world::<F>(socket_scope::ALL);
    let service = F::of(F::IP.service(80));
    let socket = udp(7);
    let first = translated(socket::send(&socket, service));
    for _ in 0..20 {
        assert_eq!(socket::send(&socket, service), Verdict::Translate(first));
    }
    assert_eq!(socket::receive(&socket, first), Some(service));
    assert_eq!(socket::receive(&udp(8), first), None, "another socket talks to the backend itself");
    assert_eq!(counted(&world).0, 1, "a datagram is not counted");

    // The way back was evicted without the way there.
    for (key, _) in F::datagrams().elements() {
        if key.addr == first.addr {
            F::datagrams().remove(&key);
        }
    }
    assert_eq!(socket::receive(&socket, first), None);
    assert_eq!(socket::send(&socket, service), Verdict::Translate(first));
    assert_eq!(socket::receive(&socket, first), Some(service), "it is there again");

    let gone = backends::<F>().iter().position(|known| *known == Verdict::Translate(first));
    let gone = gone.expect("one of them") as u32 + 1;
    backend::<F>(&mut world, gone, 2);
    let left = (1..=3).find(|id| *id != gone).expect("two are left");
    for slot in 1..=3 {
        world.put_slot(F::IP.is_v6(), slot, left);
    }
    let second = translated(socket::send(&socket, service));
    assert_eq!(second, F::of(F::IP.backend(left as u8, 8080)));
    assert_eq!(counted(&world).0, 2);
    assert_eq!(socket::receive(&socket, second), Some(service));
}

fn two_services_of_one_backend_are_kept_apart<F: Tested>() {
    let mut world = world::<F>(socket_scope::ALL);
    let (one, other) = (F::of(F::IP.service(80)), F::of(F::IP.other_service(80)));
    let shared = Frontend { count: 1, ..plain() };
    put::<F>(F::IP.service(80), proto::UDP, shared);
    put::<F>(F::IP.other_service(80), proto::UDP, shared);
    let socket = udp(7);
    let backend = translated(socket::send(&socket, one));
    assert_eq!(socket::send(&socket, other), Verdict::Pass, "packets keep them apart");
    assert_eq!(socket::receive(&socket, backend), Some(one));
    assert_eq!(translated(socket::send(&udp(8), other)), backend, "from another socket");
    assert_eq!(socket::receive(&udp(8), backend), Some(other));
    // What stood in the way is of an earlier backend.
    self::backend::<F>(&mut world, 1, 2);
    assert_eq!(translated(socket::send(&socket, other)), backend);
    assert_eq!(socket::receive(&socket, backend), Some(other));
}

fn a_connected_udp_socket_that_names_its_peer_hears_it<F: Tested>() {
    let mut world = world::<F>(socket_scope::ALL);
    let service = F::of(F::IP.service(80));
    for cookie in 1..=20 {
        let backend = translated(socket::connect(&udp(cookie), service));
        assert_eq!(socket::send(&udp(cookie), service), Verdict::Translate(backend));
    }
    assert!(F::datagrams().is_empty());
    // Disconnected since, which no program sees; its backend is gone, too.
    for id in 1..=3 {
        backend::<F>(&mut world, id, 2);
    }
    translated(socket::send(&udp(1), service));
    assert_eq!(F::datagrams().len(), 2, "it has chosen again");
}
