// SPDX-License-Identifier: Apache-2.0
//! SCTP associations: as TCP connections, with chunks in place of flags.

use std::net::SocketAddr;

use pintle_abi::{
    addr::proto::{SCTP, TCP, UDP},
    counter::Hook,
    flow::TcpState,
};

use super::{Ip, data, first};
use crate::{
    frame::{Frame, chunk, sctp},
    world::{
        BackendSpec, Exit, Forget, FrontendSpec, IFINDEX, MASQUERADE, Place, Table, Verdict, World,
        hairpin_address, node_address,
    },
};

const SECOND: u64 = 1_000_000_000;

/// A packet with one chunk from either side of the association to backend 5.
fn chunk(world: &mut dyn World, ip: Ip, hook: Hook, kind: u8) {
    let client = ip.client(40000);
    world.send(
        hook,
        &match hook {
            Hook::FromPod | Hook::FromNet | Hook::Xdp => sctp(client, ip.service(80), kind),
            Hook::ToPod | Hook::ToNet => sctp(ip.backend(5, 80), client, kind),
        },
    );
}

/// The client's INIT goes to that backend.
#[track_caller]
fn dials(world: &mut dyn World, ip: Ip, backend: u8) {
    let expected = first(SCTP, ip.client(40000), ip.backend(backend, 80)).ttl(63);
    let init = first(SCTP, ip.client(40000), ip.service(80));
    world.from_pod(&init, Verdict::Deliver, &expected);
}

/// An association that is open, then another backend for new ones.
fn open_then_changed(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), SCTP, 1, &[ip.backend(5, 80)]);
    dials(world, ip, 5);
    chunk(world, ip, Hook::ToPod, chunk::INIT_ACK);
    chunk(world, ip, Hook::FromPod, chunk::COOKIE_ECHO);
    chunk(world, ip, Hook::ToPod, chunk::COOKIE_ACK);
    world.service(ip.service(80), SCTP, 2, &[ip.backend(6, 80)]);
}

/// S1, S2: through the fast path and through the stack, also with a length that is odd.
pub fn association_is_translated_both_ways(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service(service, SCTP, 1, &[backend]);
    let expected = first(SCTP, client, backend).ttl(63);
    world.from_pod(&first(SCTP, client, service), Verdict::Deliver, &expected);
    let long = |src, dst| sctp(src, dst, chunk::DATA).payload([0x5a; 1403]);
    for packet in [
        data,
        |_, src, dst| sctp(src, dst, chunk::COOKIE_ACK),
        |_, src, dst| sctp(src, dst, chunk::DATA).payload([0; 4]),
    ] {
        let expected = packet(SCTP, service, client).ttl(63);
        world.from_pod(&packet(SCTP, backend, client), Verdict::Deliver, &expected);
        let expected = packet(SCTP, client, backend).ttl(63);
        world.from_pod(&packet(SCTP, client, service), Verdict::Deliver, &expected);
    }
    world.from_pod(&long(client, service), Verdict::Deliver, &long(client, backend).ttl(63));
    // The same reply through the stack.
    world.to_pod(&data(SCTP, backend, client), &data(SCTP, service, client));
    world.to_pod(&long(backend, client), &long(service, client));
    world.expect(
        "from_pod: 5 to a service, from_pod: 3 from a service, from_pod: 8 redirected, \
         from_pod: 1 new flows, to_pod: 2 from a service, 2 sctp flows",
    );
}

/// S2.
pub fn reply_comes_from_the_service_after_its_removal(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service(service, SCTP, 1, &[backend]);
    world.send(Hook::FromPod, &first(SCTP, client, service));
    world.remove_frontend(&FrontendSpec::new(service, SCTP, (1, 1)));
    let expected = data(SCTP, service, client).ttl(63);
    world.from_pod(&data(SCTP, backend, client), Verdict::Deliver, &expected);
    world.to_pod(&data(SCTP, backend, client), &data(SCTP, service, client));
    world.expect(
        "from_pod: 1 to a service, from_pod: 1 from a service, from_pod: 2 redirected, \
         from_pod: 1 new flows, to_pod: 1 from a service, 2 sctp flows",
    );
}

/// What cannot be redirected takes the way of any routed packet, and its reply too.
pub fn remote_backend_is_reached_through_the_stack(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service_behind(0, (service, SCTP), 1, &[backend]);
    let expected = first(SCTP, client, backend);
    world.from_pod(&first(SCTP, client, service), Verdict::Pass, &expected);
    world.to_pod(&data(SCTP, backend, client), &data(SCTP, service, client));
    // What the backend's own node would see stays as it is.
    world.untouched(Hook::ToPod, &data(SCTP, client, backend).bytes());
    world.expect(
        "from_pod: 1 to a service, from_pod: 1 new flows, to_pod: 1 passed, \
         to_pod: 1 from a service, 2 sctp flows",
    );
}

/// S3, also after the flow was lost.
pub fn retransmitted_init_goes_to_the_same_backend(world: &mut dyn World, ip: Ip) {
    let backends = [ip.backend(5, 80), ip.backend(6, 80), ip.backend(7, 80)];
    world.service(ip.service(80), SCTP, 1, &backends);
    let init = first(SCTP, ip.client(40000), ip.service(80));
    let (verdict, sent) = world.send(Hook::FromPod, &init);
    for which in [Forget::Everything, Forget::Mains, Forget::Aliases] {
        world.forget_flows(which);
        world.from_pod(&init, verdict, &sent);
    }
    world.service(ip.service(80), SCTP, 11, &[ip.backend(8, 80), ip.backend(9, 80)]);
    world.from_pod(&init, verdict, &sent);
    world.expect(
        "from_pod: 5 to a service, from_pod: 5 redirected, from_pod: 4 new flows, 2 sctp flows",
    );
}

/// S8.
pub fn three_protocols_share_a_port_number(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(53));
    for (number, proto) in [(5, TCP), (6, UDP), (7, SCTP)] {
        world.service(service, proto, number.into(), &[ip.backend(number, 53)]);
    }
    for (number, proto) in [(5, TCP), (6, UDP), (7, SCTP)] {
        let backend = ip.backend(number, 53);
        let expected = first(proto, client, backend).ttl(63);
        world.from_pod(&first(proto, client, service), Verdict::Deliver, &expected);
        world.to_pod(&data(proto, backend, client), &data(proto, service, client));
    }
    world.expect(
        "from_pod: 3 to a service, from_pod: 3 redirected, from_pod: 3 new flows, \
         to_pod: 3 from a service, 2 tcp flows, 2 udp flows, 2 sctp flows",
    );
}

/// S9: four packets, request and reply, each out of the pod and into it.
pub fn pod_reaches_itself(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(80));
    let itself = ip.client(8080);
    let disguised = SocketAddr::new(hairpin_address(ip.is_v6()), 40000);
    for ifindex in [IFINDEX, 0] {
        world.service_behind(ifindex, (service, SCTP), 1, &[itself]);
        let request = first(SCTP, disguised, itself).ttl(63);
        world.from_pod(&first(SCTP, client, service), Verdict::Deliver, &request);
        let reply = data(SCTP, service, client).ttl(63);
        world.from_pod(&data(SCTP, itself, disguised), Verdict::Deliver, &reply);
        let more = data(SCTP, disguised, itself).ttl(63);
        world.from_pod(&data(SCTP, client, service), Verdict::Deliver, &more);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 4 to a service, from_pod: 2 from a service, from_pod: 6 redirected, \
         from_pod: 2 new flows",
    );
}

/// S4, C9.
pub fn tuple_is_reused_after_an_abort(world: &mut dyn World, ip: Ip) {
    open_then_changed(world, ip);
    chunk(world, ip, Hook::ToPod, chunk::ABORT);
    dials(world, ip, 6);
    world.expect(
        "from_pod: 3 to a service, from_pod: 3 redirected, from_pod: 2 new flows, \
         to_pod: 3 from a service, 3 sctp flows",
    );
}

/// S4.
pub fn tuple_is_reused_after_a_shutdown(world: &mut dyn World, ip: Ip) {
    open_then_changed(world, ip);
    chunk(world, ip, Hook::FromPod, chunk::SHUTDOWN);
    chunk(world, ip, Hook::ToPod, chunk::SHUTDOWN_ACK);
    dials(world, ip, 5);
    chunk(world, ip, Hook::FromPod, chunk::SHUTDOWN_COMPLETE);
    dials(world, ip, 6);
    world.expect(
        "from_pod: 6 to a service, from_pod: 6 redirected, from_pod: 2 new flows, \
         to_pod: 3 from a service, 3 sctp flows",
    );
}

/// S4.
pub fn tuple_is_reused_after_a_timeout(world: &mut dyn World, ip: Ip) {
    open_then_changed(world, ip);
    world.age_flows(23 * 3600 * SECOND);
    dials(world, ip, 5);
    world.age_flows(25 * 3600 * SECOND);
    dials(world, ip, 6);
    world.expect(
        "from_pod: 4 to a service, from_pod: 4 redirected, from_pod: 2 new flows, \
         to_pod: 2 from a service, 3 sctp flows",
    );
}

/// C1.
pub fn states_follow_the_chunks(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), SCTP, 1, &[ip.backend(5, 80)]);
    let steps = [
        (Hook::FromPod, chunk::INIT, TcpState::SynSent),
        (Hook::ToPod, chunk::INIT_ACK, TcpState::SynReceived),
        (Hook::FromPod, chunk::COOKIE_ECHO, TcpState::Established),
        (Hook::ToPod, chunk::COOKIE_ACK, TcpState::Established),
        (Hook::FromPod, chunk::SHUTDOWN, TcpState::Established),
        (Hook::ToPod, chunk::SHUTDOWN_ACK, TcpState::Established),
        (Hook::FromPod, chunk::SHUTDOWN_COMPLETE, TcpState::Closed),
    ];
    for (packets, (hook, kind, state)) in (1..).zip(steps) {
        chunk(world, ip, hook, kind);
        let flows = world.flows(ip.is_v6(), SCTP, Table::Main);
        let main = flows.iter().max_by_key(|flow| flow.packets).copied();
        let main = main.unwrap_or_else(|| panic!("no flow"));
        assert_eq!(TcpState::of(main.forward, main.reply), state, "after packet {packets}");
        assert_eq!(main.packets, packets);
    }
    world.expect(
        "from_pod: 4 to a service, from_pod: 4 redirected, from_pod: 1 new flows, \
         to_pod: 3 from a service, 2 sctp flows",
    );
}

/// S5: an INIT that nobody answered goes elsewhere, an open association stays.
pub fn unanswered_init_moves_to_another_backend(world: &mut dyn World, ip: Ip) {
    let gone = BackendSpec {
        id: 1,
        addr: ip.backend(5, 80),
        generation: 2,
        ifindex: IFINDEX,
        place: Place::Local,
    };
    world.service(ip.service(80), SCTP, 1, &[ip.backend(5, 80)]);
    dials(world, ip, 5);
    world.put_backend(gone);
    world.service(ip.service(80), SCTP, 2, &[ip.backend(6, 80)]);
    dials(world, ip, 6);
    world.forget_flows(Forget::Everything);
    open_then_changed(world, ip);
    world.put_backend(gone);
    // It is no longer where a redirect would lead.
    let expected = data(SCTP, ip.client(40000), ip.backend(5, 80));
    world.from_pod(&data(SCTP, ip.client(40000), ip.service(80)), Verdict::Pass, &expected);
    world.expect(
        "from_pod: 5 to a service, from_pod: 4 redirected, from_pod: 3 new flows, \
         to_pod: 2 from a service, 2 sctp flows",
    );
}

/// Two services, one backend: the second association's source port moves.
pub fn one_client_port_reaches_one_backend_through_two_services(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.client(40000), ip.backend(5, 80));
    world.service(ip.service(80), SCTP, 1, &[backend]);
    world.service(ip.other_service(80), SCTP, 1, &[backend]);
    dials(world, ip, 5);
    let (verdict, moved) = world.send(Hook::FromPod, &first(SCTP, client, ip.other_service(80)));
    assert_eq!((verdict, moved.src.ip(), moved.dst), (Verdict::Deliver, client.ip(), backend));
    assert!(moved.src.port() >= 61_000, "{} is moved", moved.src);
    world.to_pod(&data(SCTP, backend, client), &data(SCTP, ip.service(80), client));
    world.to_pod(&data(SCTP, backend, moved.src), &data(SCTP, ip.other_service(80), client));
    let more = data(SCTP, moved.src, backend).ttl(63);
    world.from_pod(&data(SCTP, client, ip.other_service(80)), Verdict::Deliver, &more);
    world.expect(
        "from_pod: 3 to a service, from_pod: 3 redirected, from_pod: 2 new flows, \
         from_pod: 1 moved source ports, to_pod: 2 from a service, 4 sctp flows",
    );
}

/// S15, S16: a client outside and a pod of another node, both ways.
pub fn client_outside_is_masqueraded(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service_behind(0, (service, SCTP), 1, &[backend]);
    let (_, sent) = world.send(Hook::FromNet, &first(SCTP, client, service));
    world.went(Exit::Routes);
    let node = sent.src;
    assert_eq!(node.ip(), node_address(ip.is_v6()));
    assert!(MASQUERADE.contains(&node.port()), "{node} is the node's");
    assert_eq!(sent, Frame { src: node, dst: backend, ..first(SCTP, client, service) }.ttl(63));
    let answer = data(SCTP, service, client).ttl(63);
    world.takes(Hook::FromNet, &data(SCTP, backend, node), Exit::Routes, &answer);
    let more = data(SCTP, node, backend).ttl(63);
    world.takes(Hook::FromNet, &data(SCTP, client, service), Exit::Routes, &more);
    world.expect(
        "from_net: 2 to a service, from_net: 1 from a service, from_net: 3 redirected, \
         from_net: 1 new flows, from_net: 1 masqueraded flows, 2 sctp flows",
    );
}

/// S23: two clients with one source port, of those that are the node's own.
pub fn masqueraded_clients_are_kept_apart(world: &mut dyn World, ip: Ip) {
    let (service, backend) = (ip.service(80), ip.backend(5, 8080));
    world.service_behind(0, (service, SCTP), 1, &[backend]);
    let clients = [ip.client(50_000), ip.backend(7, 50_000)];
    let nodes = clients.map(|client| {
        let (_, sent) = world.send(Hook::FromNet, &first(SCTP, client, service));
        sent.src
    });
    assert_ne!(nodes[0], nodes[1]);
    for (client, node) in clients.into_iter().zip(nodes) {
        let answer = data(SCTP, service, client).ttl(63);
        world.takes(Hook::FromNet, &data(SCTP, backend, node), Exit::Routes, &answer);
    }
    world.expect(
        "from_net: 2 to a service, from_net: 2 from a service, from_net: 4 redirected, \
         from_net: 2 new flows, from_net: 2 masqueraded flows, 4 sctp flows",
    );
}

/// S15: the host's own association; its replies come to the host.
pub fn host_reaches_a_service(world: &mut dyn World, ip: Ip) {
    let node = SocketAddr::new(node_address(ip.is_v6()), 50_000);
    let (service, backend) = (ip.service(80), ip.backend(5, 8080));
    world.service(service, SCTP, 1, &[backend]);
    let request = first(SCTP, node, backend).ttl(63);
    world.takes(Hook::ToNet, &first(SCTP, node, service), Exit::Routes, &request);
    let answer = data(SCTP, service, node);
    world.takes(Hook::FromPod, &data(SCTP, backend, node), Exit::Host, &answer);
    world.expect(
        "from_pod: 1 from a service, from_pod: 1 redirected, to_net: 1 to a service, \
         to_net: 1 redirected, to_net: 1 new flows, 2 sctp flows",
    );
}
