// SPDX-License-Identifier: Apache-2.0
//! Who gets which set of backends: traffic policies, source ranges, and whose addresses are refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pintle_abi::{
    counter::Hook,
    device::{Device, device_flags},
    drop_reason::DropReason,
    service::{frontend_flags, scope},
    settings::{Settings, detect},
    source_range::Prefix,
};

use super::{
    Ip, PROTOCOLS, first,
    scene::{Kind, put_near, put_remote},
};
use crate::world::{Exit, Forget, FrontendSpec, Range, World, device, settings};

const EXPOSED: [Kind; 3] = [Kind::NodePort, Kind::LoadBalancer, Kind::External];

/// A service of which pods and the host get all backends, others only those of this node.
fn expose_split(world: &mut dyn World, ip: Ip, kind: Kind, proto: u8, local: u32) {
    put_remote(world, 1, ip.backend(5, 8080));
    put_near(world, 2, ip.backend(6, 8080));
    kind.expose(world, ip, proto, (1, 1));
    let inside = FrontendSpec::new(kind.frontend(ip), proto, (1, 1));
    world.put_frontend(&inside.flags(frontend_flags::SPLIT));
    let outside = FrontendSpec {
        scope: scope::EXTERNAL,
        slots: (2, local),
        flags: frontend_flags::DROP,
        ..inside
    };
    world.put_frontend(&outside);
}

/// The destination of a client's first packet, and where it goes.
fn dial(world: &mut dyn World, ip: Ip, hook: Hook, kind: Kind, proto: u8) -> Option<SocketAddr> {
    let client = match hook {
        Hook::FromNet | Hook::Xdp => ip.outside(7, 40000),
        Hook::ToNet => ip.node(40000),
        Hook::FromPod | Hook::ToPod => ip.client(40000),
    };
    let packet = first(proto, client, kind.address(ip));
    let (verdict, sent) = world.send(hook, &packet);
    world.forget_flows(Forget::Everything);
    (verdict != Exit::Drop.verdict()).then_some(sent.dst)
}

fn pods_are_known_by_interface(world: &mut dyn World) {
    let flags = device_flags::FAST | device_flags::POD;
    world.put_device(&Device { flags, ..device() });
}

/// S12.
pub fn clients_outside_get_backends_of_this_node_only(world: &mut dyn World, ip: Ip) {
    let (remote, local) = (Some(ip.backend(5, 8080)), Some(ip.backend(6, 8080)));
    for (kind, proto) in EXPOSED.into_iter().flat_map(|kind| PROTOCOLS.map(|proto| (kind, proto))) {
        expose_split(world, ip, kind, proto, 1);
        world.put_device(&device());
        assert_eq!(dial(world, ip, Hook::FromNet, kind, proto), local);
        // Without a detector nobody is known to be a pod.
        assert_eq!(dial(world, ip, Hook::FromPod, kind, proto), local);
        pods_are_known_by_interface(world);
        assert_eq!(dial(world, ip, Hook::FromPod, kind, proto), remote);
        assert_eq!(dial(world, ip, Hook::ToNet, kind, proto), remote);
    }
    world.expect(
        "from_pod: 12 to a service, from_pod: 6 redirected, from_pod: 12 new flows, \
         from_net: 6 to a service, from_net: 6 redirected, from_net: 6 new flows, \
         to_net: 6 to a service, to_net: 6 redirected, to_net: 6 new flows",
    );
}

/// S12: pods and the host never notice that this node has none.
pub fn clients_outside_are_dropped_without_backends_of_this_node(world: &mut dyn World, ip: Ip) {
    let remote = Some(ip.backend(5, 8080));
    for (kind, proto) in EXPOSED.into_iter().flat_map(|kind| PROTOCOLS.map(|proto| (kind, proto))) {
        expose_split(world, ip, kind, proto, 0);
        pods_are_known_by_interface(world);
        assert_eq!(dial(world, ip, Hook::FromPod, kind, proto), remote);
        assert_eq!(dial(world, ip, Hook::ToNet, kind, proto), remote);
        world.put_device(&device());
        assert_eq!(dial(world, ip, Hook::FromNet, kind, proto), None);
    }
    assert_eq!(world.dropped(Hook::FromNet, DropReason::NoBackend), 6);
    world.expect(
        "from_pod: 6 to a service, from_pod: 6 new flows, \
         from_net: 6 dropped (no backend), to_net: 6 to a service, to_net: 6 redirected, \
         to_net: 6 new flows",
    );
}

/// S12: with `detectLocalMode: ClusterCIDR` a pod of any node is one, wherever its packet comes in.
pub fn pods_are_known_by_their_addresses(world: &mut dyn World, ip: Ip) {
    let (remote, local) = (Some(ip.backend(5, 8080)), Some(ip.backend(6, 8080)));
    let kind = Kind::LoadBalancer;
    let mut settings = Settings { detect: detect::ADDRESS, ..settings() };
    match ip.client(0).ip() {
        IpAddr::V4(_) => {
            let (addr, mask) = (Ipv4Addr::new(10, 244, 0, 0), Ipv4Addr::new(255, 255, 0, 0));
            settings.pods_v4 = Prefix { addr: addr.into(), mask: mask.into() };
        }
        IpAddr::V6(addr) => {
            let mask = Ipv6Addr::from_bits(u128::MAX);
            settings.pods_v6 = Prefix { addr: addr.into(), mask: mask.into() };
        }
    }
    world.put_settings(&settings);
    for proto in PROTOCOLS {
        expose_split(world, ip, kind, proto, 1);
        assert_eq!(dial(world, ip, Hook::FromPod, kind, proto), remote);
        assert_eq!(dial(world, ip, Hook::FromNet, kind, proto), local);
        let packet = first(proto, ip.client(40000), kind.address(ip));
        assert_eq!(world.send(Hook::FromNet, &packet).1.dst, ip.backend(5, 8080));
        world.forget_flows(Forget::Everything);
        let stranger = first(proto, ip.outside(7, 40000), kind.address(ip));
        assert_eq!(Some(world.send(Hook::FromPod, &stranger).1.dst), local);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 4 to a service, from_pod: 2 redirected, from_pod: 4 new flows, \
         from_net: 4 to a service, from_net: 4 redirected, from_net: 4 new flows, \
         from_net: 2 masqueraded flows",
    );
}

/// S13: silence, not another set.
pub fn clients_inside_are_dropped_without_backends_of_this_node(world: &mut dyn World, ip: Ip) {
    let kind = Kind::ClusterIp;
    for proto in PROTOCOLS {
        put_remote(world, 1, ip.backend(5, 8080));
        kind.expose(world, ip, proto, (1, 1));
        let silent = FrontendSpec::new(kind.frontend(ip), proto, (1, 0));
        world.put_frontend(&silent.flags(frontend_flags::DROP));
        for hook in [Hook::FromPod, Hook::FromNet, Hook::ToNet] {
            assert_eq!(dial(world, ip, hook, kind, proto), None);
        }
    }
    world.expect(
        "from_pod: 2 dropped (no backend), from_net: 2 dropped (no backend), \
         to_net: 2 dropped (no backend)",
    );
}

/// A load balancer's address that only some clients may use.
fn expose_restricted(world: &mut dyn World, ip: Ip, proto: u8) {
    put_near(world, 1, ip.backend(5, 8080));
    let kind = Kind::LoadBalancer;
    kind.expose(world, ip, proto, (1, 1));
    let frontend = FrontendSpec::new(kind.frontend(ip), proto, (1, 1));
    let flags = frontend_flags::SOURCE_RANGES | frontend_flags::MASQUERADE;
    world.put_frontend(&frontend.flags(flags));
}

/// The load balancer's port is the number of its service in every vector.
const RESTRICTED: u32 = 80;

/// S14: in a range, at its edges, in one of two that overlap; and out of them.
pub fn only_clients_in_a_source_range_are_served(world: &mut dyn World, ip: Ip) {
    let arrives = |world: &mut dyn World, proto, number| {
        let packet = first(proto, ip.outside(number, 40000), ip.load_balancer(80));
        let (verdict, _) = world.send(Hook::FromNet, &packet);
        world.forget_flows(Forget::Everything);
        verdict != Exit::Drop.verdict()
    };
    let whole = if ip.is_v6() { 128 } else { 32 };
    // 16 to 31, 24 to 27 again, and 200.
    let ranges = [(16, whole - 4), (24, whole - 2), (200, whole)];
    for proto in PROTOCOLS {
        expose_restricted(world, ip, proto);
        assert!(!arrives(world, proto, 20), "no range is nobody's");
        for (number, bits) in ranges {
            world.put_source_range(RESTRICTED, Range { ip: ip.outside(number, 0).ip(), bits });
        }
        // Another service's ranges are its own.
        world.put_source_range(RESTRICTED + 1, Range { ip: ip.outside(0, 0).ip(), bits: 0 });
        for (number, served) in [
            (15, false),
            (16, true),
            (23, true),
            (24, true),
            (27, true),
            (28, true),
            (31, true),
            (32, false),
            (199, false),
            (200, true),
            (201, false),
        ] {
            assert_eq!(arrives(world, proto, number), served, "client {number}");
        }
        world.clear();
    }
}

/// S14: pods and the host are clients like others.
pub fn source_ranges_bind_pods_and_the_host(world: &mut dyn World, ip: Ip) {
    let kind = Kind::LoadBalancer;
    let bits = if ip.is_v6() { 128 } else { 32 };
    for (hook, client) in [(Hook::FromPod, ip.client(0)), (Hook::ToNet, ip.node(0))] {
        for proto in PROTOCOLS {
            expose_restricted(world, ip, proto);
            pods_are_known_by_interface(world);
            assert_eq!(dial(world, ip, hook, kind, proto), None);
            world.put_source_range(RESTRICTED, Range { ip: client.ip(), bits });
            assert_eq!(dial(world, ip, hook, kind, proto), Some(ip.backend(5, 8080)));
            world.clear();
        }
    }
}

/// S14: it is only for new connections, and only for this kind of address.
pub fn source_ranges_leave_connections_and_other_addresses_alone(world: &mut dyn World, ip: Ip) {
    let (client, kind) = (ip.outside(7, 40000), Kind::LoadBalancer);
    for proto in PROTOCOLS {
        put_near(world, 1, ip.backend(5, 8080));
        kind.expose(world, ip, proto, (1, 1));
        let packet = first(proto, client, kind.address(ip));
        let arrived = first(proto, client, ip.backend(5, 8080)).ttl(63);
        world.takes(Hook::FromNet, &packet, Exit::Pod, &arrived);
        expose_restricted(world, ip, proto);
        world.takes(Hook::FromNet, &packet, Exit::Pod, &arrived);
        Kind::NodePort.expose(world, ip, proto, (1, 1));
        let node_port = dial(world, ip, Hook::FromNet, Kind::NodePort, proto);
        assert_eq!(node_port, Some(ip.backend(5, 8080)));
    }
    world.expect(
        "from_net: 6 to a service, from_net: 6 redirected, from_net: 4 new flows, \
         from_net: 2 moved source ports",
    );
}

/// An address of the cluster's range that no service has: dropped, for everybody who begins there.
pub fn unallocated_cluster_address_is_dropped(world: &mut dyn World, ip: Ip) {
    put_near(world, 1, ip.backend(5, 8080));
    for proto in PROTOCOLS {
        Kind::ClusterIp.expose(world, ip, proto, (1, 1));
        for (hook, client) in [
            (Hook::FromPod, ip.client(40000)),
            (Hook::FromNet, ip.outside(7, 40000)),
            (Hook::ToNet, ip.node(40000)),
        ] {
            let unallocated = first(proto, client, ip.other_service(80));
            world.untouched(hook, &unallocated.bytes());
            let bits = if ip.is_v6() { 112 } else { 24 };
            world.put_cluster_range(0, Range { ip: ip.service_range(), bits });
            world.takes(hook, &unallocated, Exit::Drop, &unallocated);
            assert_eq!(dial(world, ip, hook, Kind::ClusterIp, proto), Some(ip.backend(5, 8080)));
            world.untouched(hook, &first(proto, client, ip.backend(6, 80)).bytes());
            world.clear();
            put_near(world, 1, ip.backend(5, 8080));
            Kind::ClusterIp.expose(world, ip, proto, (1, 1));
        }
    }
    // What is forwarded was let through where it came in.
    let bits = if ip.is_v6() { 112 } else { 24 };
    world.put_cluster_range(0, Range { ip: ip.service_range(), bits });
    let forwarded = first(PROTOCOLS[0], ip.client(40000), ip.other_service(80));
    world.forwards(&forwarded, &forwarded);
    world.expect("to_net: 1 passed");
}
