// SPDX-License-Identifier: Apache-2.0
//! What XDP does by itself, and what it leaves to `from_net` as it was. That both together do what `from_net`
//! alone does, all the other vectors tell.

use std::{net::SocketAddr, time::Duration};

use pintle_abi::{
    addr::proto,
    counter::{Counter, Hook},
    flow::{flow_flags, seen},
    service::frontend_flags,
};

use super::{
    Ip, PROTOCOLS, data, first,
    scene::{Kind, is_masqueraded, put_near, put_remote},
};
use crate::{
    frame::{Frame, flag, frame, icmp, tcp},
    world::{BackendSpec, Exit, Forget, FrontendSpec, Place, Range, Table, Verdict, World},
};

const SECOND: u64 = 1_000_000_000;
/// The longest tick that a kernel is built with.
const TICK: Duration = Duration::from_millis(10);

/// A node port with a pod of another node; its first client is connected.
fn connected(world: &mut dyn World, ip: Ip, proto: u8) -> (SocketAddr, SocketAddr, SocketAddr) {
    let (client, service) = (ip.outside(7, 40000), Kind::NodePort.address(ip));
    put_remote(world, 1, ip.backend(5, 8080));
    Kind::NodePort.expose(world, ip, proto, (1, 1));
    let ends = (ip.node(0), ip.backend(5, 8080));
    let node = is_masqueraded(world, (Hook::FromNet, proto), (client, service), ends);
    (client, service, node)
}

/// S21.
pub fn connections_to_other_nodes_do_not_meet_tc(world: &mut dyn World, ip: Ip) {
    for proto in PROTOCOLS {
        let (client, service, node) = connected(world, ip, proto);
        let backend = ip.backend(5, 8080);
        let answer = data(proto, service, client).ttl(63);
        world.takes(Hook::FromNet, &data(proto, backend, node), Exit::Routes, &answer);
        let more = data(proto, node, backend).ttl(63);
        world.takes(Hook::FromNet, &data(proto, client, service), Exit::Routes, &more);
    }
    // The first packets show the kernel that their neighbours are in use.
    world.expect_early(
        "xdp: 2 passed, xdp: 3 to a service, xdp: 1 from a service, xdp: 4 redirected, \
         xdp: 2 new flows, xdp: 2 masqueraded flows, from_net: 1 to a service, \
         from_net: 1 from a service, from_net: 2 redirected",
    );
}

/// No entry is made for them before, either.
pub fn connections_to_this_node_are_left_to_tc(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.outside(7, 40000), ip.backend(5, 8080));
    put_near(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::NodePort.expose(world, ip, proto, (1, 1));
        let service = Kind::NodePort.address(ip);
        for packet in [first, data] {
            let arrived = packet(proto, client, backend).ttl(63);
            world.takes(Hook::FromNet, &packet(proto, client, service), Exit::Pod, &arrived);
        }
    }
    world.expect_early(
        "xdp: 4 passed, from_net: 4 to a service, from_net: 4 redirected, from_net: 2 new flows",
    );
}

/// The kernel notices there that the neighbour is in use, and asks whether it still is where it was: that
/// of each direction, whatever the connection.
pub fn one_packet_a_second_takes_the_way_of_tc(world: &mut dyn World, ip: Ip) {
    let backend = ip.backend(5, 8080);
    let flows = PROTOCOLS.map(|proto| (proto, connected(world, ip, proto)));
    for _ in 0..3 {
        for (proto, (client, service, node)) in flows {
            let more = data(proto, node, backend).ttl(63);
            world.takes(Hook::FromNet, &data(proto, client, service), Exit::Routes, &more);
            let answer = data(proto, service, client).ttl(63);
            world.takes(Hook::FromNet, &data(proto, backend, node), Exit::Routes, &answer);
        }
    }
    world.expect_early(
        "xdp: 2 passed, xdp: 7 to a service, xdp: 5 from a service, xdp: 12 redirected, \
         xdp: 2 new flows, xdp: 2 masqueraded flows, from_net: 1 to a service, \
         from_net: 1 from a service, from_net: 2 redirected",
    );
    world.age_exits(2 * SECOND);
    let (proto, (client, service, node)) = flows[0];
    for _ in 0..2 {
        let more = data(proto, node, backend).ttl(63);
        world.takes(Hook::FromNet, &data(proto, client, service), Exit::Routes, &more);
    }
    world.expect_early(
        "xdp: 3 passed, xdp: 8 to a service, xdp: 5 from a service, xdp: 13 redirected, \
         xdp: 2 new flows, xdp: 2 masqueraded flows, from_net: 2 to a service, \
         from_net: 1 from a service, from_net: 3 redirected",
    );
}

/// I11: only the kernel knows what a device was to complete.
pub fn unfinished_checksums_are_left_to_tc(world: &mut dyn World, ip: Ip) {
    for proto in PROTOCOLS {
        let (client, service, node) = connected(world, ip, proto);
        for sent in [data(proto, client, service), data(proto, ip.backend(5, 8080), node)] {
            let (verdict, _) = world.send_bytes(Hook::FromNet, &sent.partial_bytes());
            assert_eq!(verdict, Verdict::Deliver);
        }
    }
    world.expect_early(
        "xdp: 5 passed, xdp: 1 to a service, xdp: 1 redirected, xdp: 2 new flows, \
         xdp: 2 masqueraded flows, from_net: 3 to a service, from_net: 2 from a service, \
         from_net: 5 redirected",
    );
}

/// At the end of their lives, in pieces, with options, of other protocols.
pub fn rare_packets_are_left_to_tc(world: &mut dyn World, ip: Ip) {
    let (client, service, _) = connected(world, ip, proto::UDP);
    let datagram = data(proto::UDP, client, service);
    let mut rare: Vec<Frame> = datagram.clone().payload([7; 64]).fragments(9, 32);
    rare.push(datagram.clone().ttl(1));
    rare.push(frame(client, service, 47).payload([9; 20]));
    rare.push(first(proto::SCTP, client, service));
    rare.push(icmp(
        client.ip(),
        service.ip(),
        if ip.is_v6() { (1, 4) } else { (3, 3) },
        0,
        &datagram.quote(8),
    ));
    if !ip.is_v6() {
        rare.push(datagram.options([1, 1, 1, 0]));
    }
    let before = world.count(Hook::Xdp, Counter::Passed);
    for frame in &rare {
        world.send_bytes(Hook::FromNet, &frame.bytes());
    }
    let after = world.count(Hook::Xdp, Counter::Passed);
    assert_eq!(after - before, rare.len() as u64);
}

/// S6, S7, S24: with what the packet itself is made of.
pub fn refused_clients_are_answered_at_once(world: &mut dyn World, ip: Ip) {
    let client = ip.outside(7, 40000);
    for proto in PROTOCOLS {
        Kind::LoadBalancer.expose(world, ip, proto, (1, 0));
        for service in [Kind::LoadBalancer.address(ip), ip.load_balancer(81)] {
            let (verdict, answer) = world.send(Hook::FromNet, &first(proto, client, service));
            assert_eq!((verdict, answer.src.ip()), (Verdict::Deliver, service.ip()));
            let is_reset = answer.flags & flag::RST != 0;
            assert_eq!((answer.dst.ip(), is_reset), (client.ip(), proto == proto::TCP));
        }
    }
    world.expect_early(
        "xdp: 2 dropped (refused, no backend), xdp: 2 dropped (refused, unknown port)",
    );
}

/// S20, I12.
pub fn unwelcome_clients_are_dropped_at_once(world: &mut dyn World, ip: Ip) {
    const SERVICE: u32 = 9;
    put_remote(world, 1, ip.backend(5, 8080));
    let (welcome, other) = (ip.outside(7, 40000), ip.outside(8, 40000));
    world.put_source_range(
        SERVICE,
        Range { ip: welcome.ip(), bits: if ip.is_v6() { 128 } else { 32 } },
    );
    for proto in PROTOCOLS {
        Kind::LoadBalancer.expose(world, ip, proto, (1, 1));
        let service = Kind::LoadBalancer.address(ip);
        let flags = frontend_flags::SOURCE_RANGES | frontend_flags::MASQUERADE;
        let restricted = FrontendSpec::new(service, proto, (1, 1)).flags(flags);
        world.put_frontend(&FrontendSpec { service: SERVICE, ..restricted });
        let (verdict, _) = world.send(Hook::FromNet, &first(proto, other, service));
        assert_eq!(verdict, Verdict::Drop);
        let ends = (ip.node(0), ip.backend(5, 8080));
        is_masqueraded(world, (Hook::FromNet, proto), (welcome, service), ends);
        let silent = FrontendSpec::new(service, proto, (0, 0)).flags(frontend_flags::DROP);
        world.put_frontend(&silent);
        let (verdict, _) = world.send(Hook::FromNet, &first(proto, other, service));
        assert_eq!(verdict, Verdict::Drop);
    }
    world.expect_early(
        "xdp: 1 passed, xdp: 1 to a service, xdp: 1 redirected, xdp: 2 new flows, \
         xdp: 2 masqueraded flows, xdp: 2 dropped (no backend), \
         xdp: 2 dropped (source not allowed), from_net: 1 to a service, \
         from_net: 1 redirected",
    );
}

/// S14: another port takes as many attempts as it takes.
pub fn taken_source_port_is_left_to_tc(world: &mut dyn World, ip: Ip) {
    let (_, service, node) = connected(world, ip, proto::TCP);
    // A client whose own port is the one that stands for the first.
    let second = SocketAddr::new(ip.outside(8, 0).ip(), node.port());
    let (verdict, sent) = world.send(Hook::FromNet, &tcp(second, service, flag::SYN));
    assert_eq!((verdict, sent.src.ip()), (Verdict::Deliver, node.ip()));
    assert_ne!(sent.src, node);
    world.expect_early(
        "xdp: 2 passed, xdp: 1 new flows, xdp: 1 masqueraded flows, \
         from_net: 2 to a service, from_net: 2 redirected, from_net: 1 new flows, \
         from_net: 1 masqueraded flows",
    );
}

/// S11.
pub fn lost_flow_is_left_to_tc(world: &mut dyn World, ip: Ip) {
    let (client, service, node) = connected(world, ip, proto::TCP);
    world.forget_flows(Forget::Mains);
    let more = data(proto::TCP, node, ip.backend(5, 8080)).ttl(63);
    let sent = data(proto::TCP, client, service);
    world.takes(Hook::FromNet, &sent, Exit::Routes, &more);
    world.takes(Hook::FromNet, &sent, Exit::Routes, &more);
    world.expect_early(
        "xdp: 2 passed, xdp: 1 to a service, xdp: 1 redirected, xdp: 1 new flows, \
         xdp: 1 masqueraded flows, from_net: 2 to a service, from_net: 2 redirected, \
         from_net: 1 restored flows",
    );
}

/// And of the others' counts with it.
pub fn main_entry_is_told_of_what_is_new(world: &mut dyn World, ip: Ip) {
    let (client, service, node) = connected(world, ip, proto::TCP);
    let goes_on = seen::ANY | seen::DATA;
    let segments = [
        (flag::ACK, goes_on),
        (flag::ACK, goes_on),
        (flag::RST, goes_on | seen::RST),
        (flag::ACK, goes_on),
        (flag::ACK, goes_on),
        (flag::FIN | flag::ACK, goes_on | seen::FIN),
        (flag::ACK, goes_on | seen::FIN),
    ];
    for ((flags, forward), sent) in segments.into_iter().zip(2..) {
        let arrived = tcp(node, ip.backend(5, 8080), flags).ttl(63);
        world.takes(Hook::FromNet, &tcp(client, service, flags), Exit::Routes, &arrived);
        let flows = world.flows(ip.is_v6(), proto::TCP, Table::Main);
        let main = flows.iter().find(|flow| flow.flags & flow_flags::ALIAS == 0);
        assert_eq!(main.expect("a main entry").forward, forward, "after {sent}");
        assert_eq!(flows.iter().map(|flow| flow.packets).sum::<u64>(), sent, "{flows:?}");
    }
}

/// One that went to the overflow maps may have taken the place of a main entry there; but only then.
pub fn overflowing_flows_unsettle_others_for_a_moment(world: &mut dyn World, ip: Ip) {
    let (client, service, node) = connected(world, ip, proto::TCP);
    let send = |world: &mut dyn World| {
        let arrived = data(proto::TCP, node, ip.backend(5, 8080)).ttl(63);
        world.takes(Hook::FromNet, &data(proto::TCP, client, service), Exit::Routes, &arrived);
    };
    let is_settled = |world: &dyn World| {
        let flows = world.flows(ip.is_v6(), proto::TCP, Table::Main);
        let alias = flows.iter().find(|flow| flow.flags & flow_flags::ALIAS != 0);
        alias.expect("an alias").packets > 0
    };
    let settles = |world: &mut dyn World| {
        world.wait(TICK);
        // By tc in a new second; told of; settled.
        (0..3).for_each(|_| send(world));
        is_settled(world)
    };
    assert!(settles(world));
    world.fill_flows(ip.is_v6(), proto::TCP);
    world.send(Hook::FromNet, &first(proto::TCP, ip.outside(8, 40000), service));
    assert_eq!(world.flows(ip.is_v6(), proto::TCP, Table::Overflow).len(), 2);
    send(world);
    assert!(!is_settled(world));
    assert!(settles(world));
}

/// With the next datagram, and not some time later.
pub fn settled_clients_leave_a_backend_that_is_gone(world: &mut dyn World, ip: Ip) {
    let (client, service, node) = connected(world, ip, proto::UDP);
    let datagram = data(proto::UDP, client, service);
    for _ in 0..3 {
        let arrived = data(proto::UDP, node, ip.backend(5, 8080)).ttl(63);
        world.takes(Hook::FromNet, &datagram, Exit::Routes, &arrived);
    }
    let (addr, place) = (ip.backend(6, 8080), Place::Remote);
    world.put_backend(BackendSpec { id: 1, addr, generation: 2, ifindex: 0, place });
    let (_, sent) = world.send(Hook::FromNet, &datagram);
    assert_eq!(sent.dst, addr);
}
