// SPDX-License-Identifier: Apache-2.0
//! Packets of unusual shape, and broken ones, from outside and from the host.

use std::net::SocketAddr;

use pintle_abi::{
    addr::proto::{TCP, UDP},
    counter::Hook,
};

use super::{
    Ip, PROTOCOLS, data, first,
    scene::{Kind, is_masqueraded, put_near, put_remote},
};
use crate::{
    frame::{Frame, flag, tcp},
    world::{Exit, Forget, Verdict, World},
};

/// A frame with the most that a network header may carry.
fn unusual(ip: Ip, frame: Frame) -> Frame {
    match ip {
        Ip::V4 => frame.options([1; 40]),
        Ip::V6 => {
            let chain = [(0, 6), (60, 14), (43, 6), (60, 62)];
            let extensions = chain.map(|(kind, len)| (kind, vec![0; len])).into();
            Frame { extensions, ..frame }
        }
    }
}

/// I8: masqueraded and back.
pub fn unusual_headers_are_kept_from_outside(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.outside(7, 40000), ip.node(30_080), ip.backend(5, 8080));
    put_remote(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::NodePort.expose(world, ip, proto, (1, 1));
        let opening = unusual(ip, first(proto, client, service));
        let (_, sent) = world.send(Hook::FromNet, &opening);
        world.went(Exit::Routes);
        assert_eq!(sent, unusual(ip, first(proto, sent.src, backend)).ttl(63));
        let answer = unusual(ip, data(proto, service, client)).ttl(63);
        let reply = unusual(ip, data(proto, backend, sent.src));
        world.takes(Hook::FromNet, &reply, Exit::Routes, &answer);
        let node =
            is_masqueraded(world, (Hook::FromNet, proto), (client, service), (ip.node(0), backend));
        assert_eq!(node, sent.src);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_net: 4 to a service, from_net: 2 from a service, from_net: 6 redirected, \
         from_net: 2 new flows, from_net: 2 masqueraded flows",
    );
}

/// I8.
pub fn unusual_headers_are_kept_from_the_host(world: &mut dyn World, ip: Ip) {
    let (host, service, backend) = (ip.node(41000), ip.service(80), ip.backend(5, 8080));
    put_near(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::ClusterIp.expose(world, ip, proto, (1, 1));
        let sent = unusual(ip, first(proto, host, backend)).ttl(63);
        world.takes(Hook::ToNet, &unusual(ip, first(proto, host, service)), Exit::Routes, &sent);
        let seen = unusual(ip, data(proto, service, host));
        world.takes(Hook::FromPod, &unusual(ip, data(proto, backend, host)), Exit::Host, &seen);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 2 from a service, from_pod: 2 redirected, to_net: 2 to a service, \
         to_net: 2 redirected, to_net: 2 new flows",
    );
}

/// I8: what is broken is the node's to judge at its own addresses, and nobody's at a service's.
pub fn malformed_packets_are_left_to_the_node(world: &mut dyn World, ip: Ip) {
    let network = if ip.is_v6() { 54 } else { 34 };
    put_near(world, 1, ip.backend(5, 8080));
    for (proto, transport) in [(TCP, 20), (UDP, 8)] {
        for kind in Kind::ALL {
            kind.expose(world, ip, proto, (1, 1));
            let whole = data(proto, ip.outside(7, 40000), kind.address(ip)).bytes();
            for len in [network, network + 4, network + transport - 1] {
                if kind == Kind::NodePort {
                    world.untouched(Hook::FromNet, &whole[..len]);
                } else {
                    let (verdict, _) = world.send_bytes(Hook::FromNet, &whole[..len]);
                    assert_eq!(verdict, Verdict::Drop, "{kind:?} cut to {len}");
                }
            }
        }
    }
    world.expect("from_net: 6 passed, from_net: 18 dropped (malformed)");
}

/// I9: the stack tells the sender, which is the node itself for what is masqueraded already.
pub fn last_hop_of_a_masqueraded_packet_goes_to_the_stack(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.outside(7, 40000), ip.node(30_080), ip.backend(5, 8080));
    put_remote(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::NodePort.expose(world, ip, proto, (1, 1));
        let (verdict, sent) = world.send(Hook::FromNet, &first(proto, client, service).ttl(1));
        world.went(Exit::Host);
        let expected = first(proto, sent.src, backend).ttl(1);
        assert_eq!((verdict, &sent), (Verdict::Deliver, &expected));
        let answer = data(proto, service, client).ttl(1);
        world.takes(Hook::FromNet, &data(proto, backend, sent.src).ttl(1), Exit::Host, &answer);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_net: 2 to a service, from_net: 2 from a service, from_net: 4 redirected, \
         from_net: 2 new flows, from_net: 2 masqueraded flows",
    );
}

/// I9: what may take the stack takes it, in both directions.
pub fn last_hop_from_outside_goes_to_the_stack(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.outside(7, 40000), ip.node(30_080), ip.backend(5, 8080));
    put_near(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::NodePort.expose(world, ip, proto, (1, 1));
        let sent = first(proto, client, service).ttl(1);
        world.takes(Hook::FromNet, &sent, Exit::Next, &first(proto, client, backend).ttl(1));
        let reply = data(proto, backend, client).ttl(1);
        world.untouched(Hook::FromPod, &reply.bytes());
        world.forwards(&reply, &data(proto, service, client).ttl(1));
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 2 passed, from_net: 2 to a service, from_net: 2 new flows, \
         to_net: 2 from a service",
    );
}

/// I10: no checksum stays none, also where the source changes.
pub fn masqueraded_udp_without_checksum_stays_without(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.outside(7, 40000), ip.node(30_080), ip.backend(5, 8080));
    put_remote(world, 1, backend);
    Kind::NodePort.expose(world, ip, UDP, (1, 1));
    let bare = |src: SocketAddr, dst| Frame { no_checksum: true, ..data(UDP, src, dst) };
    let (_, sent) = world.send(Hook::FromNet, &bare(client, service));
    assert_eq!(sent, bare(sent.src, backend).ttl(63));
    let answer = bare(service, client).ttl(63);
    world.takes(Hook::FromNet, &bare(backend, sent.src), Exit::Routes, &answer);
    world.expect(
        "from_net: 1 to a service, from_net: 1 from a service, from_net: 2 redirected, \
         from_net: 1 new flows, from_net: 1 masqueraded flows, 2 udp flows",
    );
}

/// C7: what only looks like a part of somebody's connection is none.
pub fn lookalikes_of_a_connection_are_left_alone(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.outside(7, 40000), ip.node(30_080), ip.backend(5, 8080));
    put_near(world, 1, backend);
    Kind::NodePort.expose(world, ip, TCP, (1, 1));
    world.send(Hook::FromNet, &first(TCP, client, service));
    for frame in [
        // The client, dialling the backend itself; the service's answers, made by somebody else.
        tcp(client, backend, flag::SYN),
        tcp(service, client, flag::ACK),
        // Other ports, other addresses.
        tcp(ip.backend(6, 8080), client, flag::ACK),
        tcp(ip.backend(5, 8081), client, flag::ACK),
        tcp(backend, ip.outside(7, 40001), flag::ACK),
    ] {
        for hook in [Hook::FromPod, Hook::FromNet, Hook::ToNet, Hook::ToPod] {
            world.untouched(hook, &frame.bytes());
        }
    }
    world.expect(
        "from_pod: 5 passed, to_pod: 5 passed, from_net: 5 passed, \
         from_net: 1 to a service, from_net: 1 redirected, from_net: 1 new flows, \
         to_net: 5 passed, 2 tcp flows",
    );
}

/// C1: a connection through the stack is followed by what both of its hooks see.
pub fn states_of_an_exposed_connection_follow_the_segments(world: &mut dyn World, ip: Ip) {
    use crate::world::Table;
    use pintle_abi::flow::TcpState;

    let (client, service, backend) = (ip.outside(7, 40000), ip.node(30_080), ip.backend(5, 8080));
    super::scene::put_local(world, 1, backend);
    Kind::NodePort.expose(world, ip, TCP, (1, 1));
    for (packets, (hook, flags, state)) in (1..).zip([
        (Hook::FromNet, flag::SYN, TcpState::SynSent),
        (Hook::ToNet, flag::SYN | flag::ACK, TcpState::SynReceived),
        (Hook::FromNet, flag::ACK, TcpState::Established),
        (Hook::ToNet, flag::FIN | flag::ACK, TcpState::Closing),
        (Hook::FromNet, flag::FIN | flag::ACK, TcpState::TimeWait),
    ]) {
        if hook == Hook::FromNet {
            world.send(hook, &tcp(client, service, flags));
        } else {
            let (reply, seen) = (tcp(backend, client, flags), tcp(service, client, flags));
            world.untouched(Hook::FromPod, &reply.bytes());
            world.forwards(&reply, &seen);
        }
        let flows = world.flows(ip.is_v6(), TCP, Table::Main);
        let main = flows.iter().max_by_key(|flow| flow.packets);
        let main = main.unwrap_or_else(|| panic!("no flow"));
        assert_eq!(TcpState::of(main.forward, main.reply), state, "after packet {packets}");
        assert_eq!(main.packets, packets);
    }
    world.expect(
        "from_pod: 2 passed, from_net: 3 to a service, from_net: 1 new flows, \
         to_net: 2 from a service, 2 tcp flows",
    );
}
