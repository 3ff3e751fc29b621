// SPDX-License-Identifier: Apache-2.0
//! S10, S11: session affinity by client address.

use pintle_abi::{
    addr::proto::{TCP, UDP},
    counter::Hook,
};

use super::{
    Ip, first,
    scene::{Kind, put_near},
};
use crate::world::{BackendSpec, Forget, FrontendSpec, IFINDEX, Place, Verdict, World};

const SERVICE: u32 = 77;
const TIMEOUT_S: u32 = 100;
const SECOND: u64 = 1_000_000_000;

/// Six backends, in as many slots; ids and slots begin at 1.
const BACKENDS: u32 = 6;

fn put_backends(world: &mut dyn World, ip: Ip) {
    for id in 1..=BACKENDS {
        put_near(world, id, ip.backend(id as u8, 8080));
    }
}

/// Exposes the service port at a kind of address.
fn expose(world: &mut dyn World, ip: Ip, kind: Kind, proto: u8, slots: (u32, u32)) {
    kind.expose(world, ip, proto, slots);
    put_frontend(world, ip, kind, proto, slots);
}

fn put_frontend(world: &mut dyn World, ip: Ip, kind: Kind, proto: u8, slots: (u32, u32)) {
    let frontend = FrontendSpec {
        service: SERVICE,
        affinity_seconds: TIMEOUT_S,
        ..FrontendSpec::new(kind.frontend(ip), proto, slots)
    };
    world.put_frontend(&frontend.flags(kind.flags()));
}

/// The backend of a new connection, by number.
#[track_caller]
fn backend(world: &mut dyn World, ip: Ip, kind: Kind, proto: u8, port: u16) -> u8 {
    let packet = first(proto, ip.client(port), kind.address(ip));
    let (verdict, sent) = world.send(Hook::FromPod, &packet);
    assert_eq!(verdict, Verdict::Deliver);
    (1..=BACKENDS as u8)
        .find(|number| sent.dst == ip.backend(*number, 8080))
        .unwrap_or_else(|| panic!("sent to {}", sent.dst))
}

/// S10: whatever port the client uses; another client may get another.
pub fn client_keeps_its_backend(world: &mut dyn World, ip: Ip) {
    put_backends(world, ip);
    for proto in [TCP, UDP] {
        expose(world, ip, Kind::ClusterIp, proto, (1, BACKENDS));
        let kept = backend(world, ip, Kind::ClusterIp, proto, 40000);
        for port in 40001..40020 {
            assert_eq!(backend(world, ip, Kind::ClusterIp, proto, port), kept);
        }
        let others = (1..=20).filter(|number| {
            let packet = first(proto, ip.outside(*number, 40000), ip.service(80));
            world.send(Hook::FromNet, &packet).1.dst != ip.backend(kept, 8080)
        });
        assert!(others.count() > 10);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 40 to a service, from_pod: 40 redirected, from_pod: 40 new flows, \
         from_net: 40 to a service, from_net: 40 redirected, from_net: 40 new flows",
    );
}

/// S11: a service port's addresses share it, for they have one number.
pub fn addresses_of_a_service_port_share_it(world: &mut dyn World, ip: Ip) {
    put_backends(world, ip);
    let kinds = Kind::ALL;
    for kind in kinds {
        expose(world, ip, kind, TCP, (1, BACKENDS));
    }
    let kept = backend(world, ip, Kind::ClusterIp, TCP, 40000);
    for (port, kind) in (40001..40009).zip(kinds.into_iter().cycle()) {
        assert_eq!(backend(world, ip, kind, TCP, port), kept, "{kind:?}");
    }
    world.expect(
        "from_pod: 9 to a service, from_pod: 9 redirected, from_pod: 9 new flows, \
         18 tcp flows",
    );
}

/// S11: another port of the service has affinity of its own.
pub fn service_ports_do_not_share_it(world: &mut dyn World, ip: Ip) {
    put_backends(world, ip);
    let affinity = |service, port| FrontendSpec {
        service,
        affinity_seconds: TIMEOUT_S,
        ..FrontendSpec::new(ip.service(port), TCP, (1, BACKENDS))
    };
    Kind::ClusterIp.expose(world, ip, TCP, (1, BACKENDS));
    let mut chosen = Vec::new();
    for (service, port) in (100..110).zip(1000..) {
        world.put_frontend(&affinity(service, port));
        let packet = first(TCP, ip.client(40000 + port), ip.service(port));
        let (_, sent) = world.send(Hook::FromPod, &packet);
        let again = first(TCP, ip.client(50000 + port), ip.service(port));
        assert_eq!(world.send(Hook::FromPod, &again).1.dst, sent.dst);
        chosen.push(sent.dst);
    }
    chosen.sort();
    chosen.dedup();
    assert!(chosen.len() > 1, "ten service ports, one backend");
    world.expect(
        "from_pod: 20 to a service, from_pod: 20 redirected, from_pod: 20 new flows, \
         40 tcp flows",
    );
}

/// S10: the time counts from the last connection.
pub fn affinity_ends_and_is_refreshed(world: &mut dyn World, ip: Ip) {
    put_backends(world, ip);
    expose(world, ip, Kind::ClusterIp, TCP, (1, BACKENDS));
    let kept = backend(world, ip, Kind::ClusterIp, TCP, 40000);
    for port in 40001..40010 {
        world.age_affinity(99 * SECOND);
        assert_eq!(backend(world, ip, Kind::ClusterIp, TCP, port), kept);
    }
    let moved = (40010..40040).any(|port| {
        world.age_affinity(101 * SECOND);
        backend(world, ip, Kind::ClusterIp, TCP, port) != kept
    });
    assert!(moved);
    world.expect(
        "from_pod: 11 to a service, from_pod: 11 redirected, from_pod: 11 new flows, \
         22 tcp flows",
    );
}

/// S10: a client whose backend takes no more connections gets another, and keeps that. Where the
/// slots of the set are says nothing: they move with each change, and come back.
pub fn backend_that_left_the_set_is_left(world: &mut dyn World, ip: Ip) {
    put_backends(world, ip);
    expose(world, ip, Kind::ClusterIp, TCP, (1, 3));
    let kept = backend(world, ip, Kind::ClusterIp, TCP, 40000);
    // Others have joined and left: the backend is in the new block.
    let members = |world: &mut dyn World, base: u32, ids: [u32; 3]| {
        for (slot, id) in (base..).zip(ids) {
            world.put_slot(ip.is_v6(), slot, id);
        }
        put_frontend(world, ip, Kind::ClusterIp, TCP, (base, 3));
    };
    members(world, 20, [5, u32::from(kept), 6]);
    assert_eq!(backend(world, ip, Kind::ClusterIp, TCP, 40001), kept);
    // It leaves, but lives: another service has it, or it is terminating. The block is the first again.
    members(world, 1, [4, 5, 6]);
    let moved = backend(world, ip, Kind::ClusterIp, TCP, 40002);
    assert_ne!(moved, kept);
    assert_eq!(backend(world, ip, Kind::ClusterIp, TCP, 40003), moved);
    // The same in place of a block that the client has seen it in.
    let others: Vec<_> = (1..=3).filter(|id| *id != u32::from(moved)).collect();
    members(world, 1, [others[0], others[0], others[1 % others.len()]]);
    assert_ne!(backend(world, ip, Kind::ClusterIp, TCP, 40004), moved);
    world.expect(
        "from_pod: 5 to a service, from_pod: 5 redirected, from_pod: 5 new flows, \
         10 tcp flows",
    );
}

/// S10: an id that was given up may be another backend's by now.
pub fn backend_that_is_gone_is_left(world: &mut dyn World, ip: Ip) {
    put_backends(world, ip);
    expose(world, ip, Kind::ClusterIp, TCP, (1, BACKENDS));
    let kept = backend(world, ip, Kind::ClusterIp, TCP, 40000);
    let other = ip.backend(9, 8080);
    let (id, place) = (u32::from(kept), Place::Local);
    world.put_backend(BackendSpec { id, addr: other, generation: 2, ifindex: IFINDEX, place });
    world.put_slot(ip.is_v6(), 20, id % BACKENDS + 1);
    put_frontend(world, ip, Kind::ClusterIp, TCP, (20, 1));
    assert_eq!(u32::from(backend(world, ip, Kind::ClusterIp, TCP, 40001)), id % BACKENDS + 1);
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         4 tcp flows",
    );
}

/// S10: without backends a client is refused like everybody; afterwards it may choose again.
pub fn affinity_needs_a_backend(world: &mut dyn World, ip: Ip) {
    put_backends(world, ip);
    expose(world, ip, Kind::ClusterIp, UDP, (1, BACKENDS));
    backend(world, ip, Kind::ClusterIp, UDP, 40000);
    put_frontend(world, ip, Kind::ClusterIp, UDP, (1, 0));
    let refused = first(UDP, ip.client(40001), ip.service(80));
    let (_, answer) = world.send(Hook::FromPod, &refused);
    assert_eq!(answer.src.ip(), ip.service(80).ip());
    put_frontend(world, ip, Kind::ClusterIp, UDP, (1, BACKENDS));
    backend(world, ip, Kind::ClusterIp, UDP, 40002);
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         from_pod: 1 dropped (refused, no backend), 4 udp flows",
    );
}
