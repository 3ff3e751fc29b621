// SPDX-License-Identifier: Apache-2.0
//! I7: fragmented datagrams at the node's own addresses, of which some are for a node port.

use std::net::SocketAddr;

use pintle_abi::{
    addr::proto::UDP,
    counter::Hook,
    service::{frontend_flags, wildcard_flags},
};

use super::{
    Ip,
    scene::{Kind, put_near, put_remote},
};
use crate::{
    frame::{Frame, udp},
    world::{Exit, FrontendSpec, Origin, Verdict, World},
};

/// A datagram in three pieces of 400 bytes or less.
fn pieces(src: SocketAddr, dst: SocketAddr, id: u32) -> Vec<Frame> {
    udp(src, dst).payload([0x5a; 1000]).fragments(id, 400)
}

#[track_caller]
fn arrives(world: &mut dyn World, hook: Hook, sent: &Frame, exit: Exit, expected: Frame) {
    let (verdict, bytes) = world.send_bytes(hook, &sent.bytes());
    world.went(exit);
    // A redirect is free to write the link-layer header.
    assert_eq!(verdict, exit.verdict());
    assert!(bytes[14..] == expected.bytes()[14..], "{:?}", Frame::parse(&bytes));
}

/// I7: to a pod of this node and back.
pub fn fragments_pass_through_a_node_port(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.outside(7, 40000), ip.node(30_080), ip.backend(5, 8080));
    put_near(world, 1, backend);
    Kind::NodePort.expose(world, ip, UDP, (1, 1));
    for (sent, arrived) in pieces(client, service, 7).iter().zip(pieces(client, backend, 7)) {
        arrives(world, Hook::FromNet, sent, Exit::Pod, arrived.ttl(63));
    }
    for (sent, arrived) in pieces(backend, client, 8).iter().zip(pieces(service, client, 8)) {
        arrives(world, Hook::FromPod, sent, Exit::Routes, arrived.ttl(63));
    }
    world.expect(
        "from_pod: 3 from a service, from_pod: 3 redirected, from_net: 3 to a service, \
         from_net: 3 redirected, from_net: 1 new flows, 2 udp flows",
    );
}

/// I7: to a pod of another node and back.
pub fn fragments_of_masqueraded_clients_pass(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.outside(7, 40000), ip.node(30_080), ip.backend(5, 8080));
    put_remote(world, 1, backend);
    Kind::NodePort.expose(world, ip, UDP, (1, 1));
    let (_, sent) = world.send(Hook::FromNet, &udp(client, service));
    for (piece, arrived) in pieces(client, service, 7).iter().zip(pieces(sent.src, backend, 7)) {
        arrives(world, Hook::FromNet, piece, Exit::Routes, arrived.ttl(63));
    }
    for (piece, arrived) in pieces(backend, sent.src, 8).iter().zip(pieces(service, client, 8)) {
        arrives(world, Hook::FromNet, piece, Exit::Routes, arrived.ttl(63));
    }
    world.expect(
        "from_net: 4 to a service, from_net: 3 from a service, from_net: 7 redirected, \
         from_net: 1 new flows, from_net: 1 masqueraded flows, 2 udp flows",
    );
}

/// I7: those that come before their first wait for it.
pub fn fragments_to_a_node_port_wait_for_their_first(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.outside(7, 40000), ip.node(30_080), ip.backend(5, 8080));
    put_near(world, 1, backend);
    Kind::NodePort.expose(world, ip, UDP, (1, 1));
    let sent = pieces(client, service, 7);
    for index in [2, 1] {
        arrives(world, Hook::FromNet, &sent[index], Exit::Drop, sent[index].clone());
    }
    let first = pieces(client, backend, 7).remove(0).ttl(63);
    arrives(world, Hook::FromNet, &sent[0], Exit::Pod, first);
    world.expect(
        "from_net: 1 to a service, from_net: 1 redirected, from_net: 1 new flows, \
         from_net: 2 held fragments, from_net: 2 released fragments, 2 udp flows",
    );
}

/// I7: the node's own datagrams have no service; nothing may be missing of them.
pub fn fragments_for_the_node_itself_are_untouched(world: &mut dyn World, ip: Ip) {
    put_near(world, 1, ip.backend(5, 8080));
    Kind::NodePort.expose(world, ip, UDP, (1, 1));
    for piece in pieces(ip.outside(7, 40000), ip.node(4789), 7) {
        world.untouched(Hook::FromNet, &piece.bytes());
    }
    for piece in pieces(ip.client(40000), ip.node(4789), 7) {
        world.untouched(Hook::FromPod, &piece.bytes());
    }
    for piece in pieces(ip.node(40000), ip.node(4789), 7) {
        world.untouched(Hook::ToNet, &piece.bytes());
    }
    world.expect("from_pod: 3 passed, from_net: 3 passed, to_net: 3 passed");
}

/// I7: out of order they wait, and then go on as they were.
pub fn fragments_for_the_node_itself_wait_for_their_first(world: &mut dyn World, ip: Ip) {
    put_near(world, 1, ip.backend(5, 8080));
    Kind::NodePort.expose(world, ip, UDP, (1, 1));
    let sent = pieces(ip.outside(7, 40000), ip.node(4789), 7);
    arrives(world, Hook::FromNet, &sent[1], Exit::Drop, sent[1].clone());
    world.untouched(Hook::FromNet, &sent[0].bytes());
    world.untouched(Hook::FromNet, &sent[1].bytes());
    world.untouched(Hook::FromNet, &sent[2].bytes());
    world.expect("from_net: 3 passed, from_net: 1 held fragments, from_net: 1 released fragments");
}

/// I7: so have other ports of a load balancer's address and of an external IP, seen from inside.
pub fn fragments_for_other_ports_are_untouched(world: &mut dyn World, ip: Ip) {
    let client = ip.client(40000);
    for flags in [wildcard_flags::LOAD_BALANCER, 0] {
        world.put_frontend(&FrontendSpec::wildcard(ip.external(0).ip(), flags));
        for piece in pieces(client, ip.external(81), 7) {
            world.untouched(Hook::FromPod, &piece.bytes());
        }
    }
    world.expect("from_pod: 6 passed");
}

/// I7: nothing of a datagram that is refused or dropped arrives, and each piece counts once.
pub fn fragments_share_the_fate_of_their_first(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.outside(7, 40000), ip.node(30_080));
    Kind::NodePort.expose(world, ip, UDP, (1, 0));
    for flags in [frontend_flags::DROP, 0] {
        let frontend = FrontendSpec::new(Kind::NodePort.frontend(ip), UDP, (1, 0));
        world.put_frontend(&frontend.flags(flags));
        for (index, piece) in pieces(client, service, 7).iter().enumerate() {
            let (verdict, _) = world.send_bytes(Hook::FromNet, &piece.bytes());
            let told = index == 0 && flags == 0;
            assert_eq!(verdict, if told { Verdict::Deliver } else { Verdict::Drop });
        }
    }
    world.expect(
        "from_net: 3 dropped (no backend), from_net: 1 dropped (refused, no backend), \
         from_net: 2 dropped (refused, answer suppressed)",
    );
}

/// I7: the host's own, which the stack sends in their order.
pub fn fragments_of_the_host_reach_a_backend(world: &mut dyn World, ip: Ip) {
    let (host, service, backend) = (ip.node(41000), ip.service(80), ip.backend(5, 8080));
    put_near(world, 1, backend);
    Kind::ClusterIp.expose(world, ip, UDP, (1, 1));
    for (sent, arrived) in pieces(host, service, 7).iter().zip(pieces(host, backend, 7)) {
        arrives(world, Hook::ToNet, sent, Exit::Routes, arrived.ttl(63));
    }
    for (sent, arrived) in pieces(backend, host, 8).iter().zip(pieces(service, host, 8)) {
        arrives(world, Hook::FromPod, sent, Exit::Host, arrived);
    }
    // What is forwarded was dealt with where it came in.
    for piece in pieces(ip.client(40000), service, 9) {
        let sent = world.send_from(Origin::Elsewhere, Hook::ToNet, &piece.bytes());
        assert_eq!(sent, (Verdict::Pass, piece.bytes()));
    }
    world.expect(
        "from_pod: 3 from a service, from_pod: 3 redirected, to_net: 3 passed, \
         to_net: 3 to a service, to_net: 3 redirected, to_net: 1 new flows, 2 udp flows",
    );
}
