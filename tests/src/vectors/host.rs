// SPDX-License-Identifier: Apache-2.0
//! Connections of the host itself: they meet a service where they leave, at `to_net`.

use pintle_abi::counter::Hook;

use super::{
    Ip, PROTOCOLS, data, first,
    scene::{Kind, is_masqueraded, put_local, put_near, put_remote},
};
use crate::{
    frame::{Frame, flag, icmp, tcp},
    world::{Exit, Forget, FrontendSpec, Verdict, World},
};

/// S15: the reply comes back out of the pod, and in where the request went out.
pub fn host_reaches_a_pod_of_its_node(world: &mut dyn World, ip: Ip) {
    let (host, backend) = (ip.node(41000), ip.backend(5, 8080));
    for (kind, proto) in Kind::ALL.into_iter().flat_map(|kind| PROTOCOLS.map(|proto| (kind, proto)))
    {
        kind.expose(world, ip, proto, (1, 1));
        let service = kind.address(ip);
        for place in [put_local, put_near] {
            place(world, 1, backend);
            let sent = first(proto, host, backend).ttl(63);
            world.takes(Hook::ToNet, &first(proto, host, service), Exit::Routes, &sent);
            // Into the pod, through the hooks that it passes on the way.
            world.to_pod(&sent, &sent);
            let (reply, seen) = (data(proto, backend, host), data(proto, service, host));
            world.takes(Hook::FromPod, &reply, Exit::Host, &seen);
            world.untouched(Hook::FromNet, &seen.bytes());
            let more = data(proto, host, backend).ttl(63);
            world.takes(Hook::ToNet, &data(proto, host, service), Exit::Routes, &more);
            world.forget_flows(Forget::Everything);
        }
    }
    world.expect(
        "from_pod: 16 from a service, from_pod: 16 redirected, to_pod: 16 passed, \
         from_net: 16 passed, to_net: 32 to a service, to_net: 32 redirected, \
         to_net: 16 new flows",
    );
}

/// S15: the backend sees the host's own address, which is the node's.
pub fn host_reaches_a_pod_of_another_node(world: &mut dyn World, ip: Ip) {
    let (host, backend) = (ip.node(41000), ip.backend(5, 8080));
    put_remote(world, 1, backend);
    for (kind, proto) in Kind::ALL.into_iter().flat_map(|kind| PROTOCOLS.map(|proto| (kind, proto)))
    {
        kind.expose(world, ip, proto, (1, 1));
        let service = kind.address(ip);
        let sent = first(proto, host, backend).ttl(63);
        world.takes(Hook::ToNet, &first(proto, host, service), Exit::Routes, &sent);
        // On its way out it meets the hook again.
        world.untouched(Hook::ToNet, &sent.bytes());
        let (reply, seen) = (data(proto, backend, host), data(proto, service, host));
        world.takes(Hook::FromNet, &reply, Exit::Next, &seen);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_net: 8 from a service, to_net: 8 passed, to_net: 8 to a service, \
         to_net: 8 redirected, to_net: 8 new flows",
    );
}

/// S15: another address of the host is not what the way out has.
pub fn other_address_of_the_host_is_masqueraded(world: &mut dyn World, ip: Ip) {
    let (host, backend) = (ip.node_b(41000), ip.backend(5, 8080));
    put_remote(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::ClusterIp.expose(world, ip, proto, (1, 1));
        let service = ip.service(80);
        let ends = (ip.node(0), backend);
        let node = is_masqueraded(world, (Hook::ToNet, proto), (host, service), ends);
        let (reply, seen) = (data(proto, backend, node), data(proto, service, host));
        world.takes(Hook::FromNet, &reply, Exit::Next, &seen);
    }
    world.expect(
        "from_net: 2 from a service, to_net: 2 to a service, to_net: 2 redirected, \
         to_net: 2 new flows, to_net: 2 masqueraded flows, 2 tcp flows, 2 udp flows",
    );
}

/// What the host sent to an address that was no service's came back from the router once it was one; or
/// somebody outside forges sources. The host, and a pod, get connections of their own all the same.
pub fn nobody_outside_takes_the_tuple_of_a_client_here(world: &mut dyn World, ip: Ip) {
    let (service, backend) = (ip.service(80), ip.backend(5, 8080));
    put_remote(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::ClusterIp.expose(world, ip, proto, (1, 1));
        let clients = [
            (Hook::ToNet, ip.node(41000), Exit::Routes, Hook::FromNet),
            (Hook::FromPod, ip.client(41000), Exit::Next, Hook::ToPod),
        ];
        for (hook, client, exit, back) in clients {
            world.send(Hook::FromNet, &first(proto, client, service));
            let sent = first(proto, client, backend).ttl(if exit == Exit::Next { 64 } else { 63 });
            world.takes(hook, &first(proto, client, service), exit, &sent);
            let (reply, seen) = (data(proto, backend, client), data(proto, service, client));
            world.takes(back, &reply, Exit::Next, &seen);
            // What comes from outside again does not get it back.
            world.send(Hook::FromNet, &first(proto, client, service));
            world.takes(back, &reply, Exit::Next, &seen);
            world.forget_flows(Forget::Everything);
        }
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 new flows, to_pod: 4 from a service, \
         from_net: 8 to a service, from_net: 4 from a service, from_net: 2 redirected, \
         from_net: 4 new flows, from_net: 2 masqueraded flows, to_net: 2 to a service, \
         to_net: 2 redirected, to_net: 2 new flows",
    );
}

/// A pod with the host's network, say the API server: it answers over loopback.
pub fn host_reaches_a_server_of_its_own(world: &mut dyn World, ip: Ip) {
    let (host, backend) = (ip.node(41000), ip.node(6443));
    put_local(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::ClusterIp.expose(world, ip, proto, (1, 1));
        let service = ip.service(80);
        let sent = first(proto, host, backend).ttl(63);
        world.takes(Hook::ToNet, &first(proto, host, service), Exit::Routes, &sent);
        let (reply, seen) = (data(proto, backend, host), data(proto, service, host));
        world.takes(Hook::ToNet, &reply, Exit::Next, &seen);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "to_net: 2 to a service, to_net: 2 from a service, to_net: 2 redirected, \
         to_net: 2 new flows",
    );
}

/// S15: a node port at loopback; nobody but the host itself could answer a loopback address.
pub fn loopback_source_is_masqueraded(world: &mut dyn World, ip: Ip) {
    let (host, service) = (ip.loopback(41000), ip.loopback(30_080));
    let (near, remote) = (ip.backend(5, 8080), ip.backend(6, 8080));
    put_near(world, 1, near);
    put_remote(world, 2, remote);
    let node_ports = pintle_abi::service::wildcard_flags::NODE;
    world.put_frontend(&FrontendSpec::wildcard(service.ip(), node_ports));
    for proto in PROTOCOLS {
        for (slot, backend, hook, exit) in
            [(1, near, Hook::FromPod, Exit::Host), (2, remote, Hook::FromNet, Exit::Next)]
        {
            Kind::NodePort.expose(world, ip, proto, (slot, 1));
            let ends = (ip.node(0), backend);
            let node = is_masqueraded(world, (Hook::ToNet, proto), (host, service), ends);
            let (reply, seen) = (data(proto, backend, node), data(proto, service, host));
            world.takes(hook, &reply, exit, &seen);
            world.forget_flows(Forget::Everything);
        }
    }
    world.expect(
        "from_pod: 2 from a service, from_pod: 2 redirected, from_net: 2 from a service, \
         to_net: 4 to a service, to_net: 4 redirected, to_net: 4 new flows, \
         to_net: 4 masqueraded flows",
    );
}

/// What somebody else sends was dealt with where it came in, or is not ours.
pub fn forwarded_packets_are_left_alone(world: &mut dyn World, ip: Ip) {
    put_near(world, 1, ip.backend(5, 8080));
    for (kind, proto) in Kind::ALL.into_iter().flat_map(|kind| PROTOCOLS.map(|proto| (kind, proto)))
    {
        kind.expose(world, ip, proto, (1, 1));
        let forwarded = first(proto, ip.client(40000), kind.address(ip));
        world.forwards(&forwarded, &forwarded);
        // Not even if the connection is known.
        world.send(Hook::FromPod, &forwarded);
        world.forwards(&forwarded, &forwarded);
        let unusual = match ip {
            Ip::V4 => forwarded.options([1; 8]),
            Ip::V6 => Frame { extensions: vec![(60, vec![0; 6])], ..forwarded },
        };
        world.forwards(&unusual, &unusual);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 8 to a service, from_pod: 8 redirected, from_pod: 8 new flows, \
         to_net: 24 passed",
    );
}

/// S6: the answer comes in as if somebody outside had sent it.
pub fn host_is_told_that_it_is_refused(world: &mut dyn World, ip: Ip) {
    let (host, service) = (ip.node(41000), ip.service(80));
    for (proto, dst) in
        PROTOCOLS.into_iter().flat_map(|proto| [service, ip.service(81)].map(|dst| (proto, dst)))
    {
        Kind::ClusterIp.expose(world, ip, proto, (1, 0));
        let packet = first(proto, host, dst);
        let expected = refusal(ip, &packet);
        world.takes(Hook::ToNet, &packet, Exit::Host, &expected);
        world.untouched(Hook::FromNet, &expected.bytes());
    }
    world.expect(
        "from_net: 4 passed, to_net: 2 dropped (refused, no backend), \
         to_net: 2 dropped (refused, unknown port)",
    );
}

/// S6.
pub fn client_outside_is_told_that_it_is_refused(world: &mut dyn World, ip: Ip) {
    let client = ip.outside(7, 40000);
    for (kind, proto) in Kind::ALL.into_iter().flat_map(|kind| PROTOCOLS.map(|proto| (kind, proto)))
    {
        kind.expose(world, ip, proto, (1, 0));
        let packet = first(proto, client, kind.address(ip));
        world.takes(Hook::FromNet, &packet, Exit::Routes, &refusal(ip, &packet));
    }
    world.expect("from_net: 8 dropped (refused, no backend)");
}

fn refusal(ip: Ip, packet: &Frame) -> Frame {
    if packet.proto == pintle_abi::addr::proto::TCP {
        let reset = tcp(packet.dst, packet.src, flag::RST | flag::ACK);
        return Frame { numbers: (0, 2, 0), ..reset };
    }
    let kind = if ip.is_v6() { (1, 4) } else { (3, 3) };
    icmp(packet.dst.ip(), packet.src.ip(), kind, 0, &packet.quote(8))
}

/// I5: ping is answered by whoever has the address, but nobody has a cluster address.
pub fn echo_is_refused_at_cluster_addresses_only(world: &mut dyn World, ip: Ip) {
    let kind = if ip.is_v6() { 128 } else { 8 };
    for address in Kind::ALL {
        address.expose(world, ip, PROTOCOLS[0], (1, 0));
        for (hook, client) in [
            (Hook::FromPod, ip.client(0)),
            (Hook::FromNet, ip.outside(7, 0)),
            (Hook::ToNet, ip.node(0)),
        ] {
            let dst = address.address(ip).ip();
            let echo = icmp(client.ip(), dst, (kind, 0), 0x0001_0001, b"ping");
            if address == Kind::ClusterIp {
                assert_eq!(world.send(hook, &echo), (Verdict::Deliver, refusal(ip, &echo)));
            } else {
                world.untouched(hook, &echo.bytes());
            }
        }
    }
    world.expect(
        "from_pod: 3 passed, from_pod: 1 dropped (unsupported protocol), \
         from_net: 3 passed, from_net: 1 dropped (unsupported protocol), to_net: 3 passed, \
         to_net: 1 dropped (unsupported protocol)",
    );
}

/// S17: the host's own connections survive like others.
pub fn lost_connection_of_the_host_is_restored(world: &mut dyn World, ip: Ip) {
    let (host, service, backend) = (ip.node(41000), ip.service(80), ip.backend(5, 8080));
    put_near(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::ClusterIp.expose(world, ip, proto, (1, 1));
        world.send(Hook::ToNet, &first(proto, host, service));
        for lost in [Forget::Mains, Forget::Aliases, Forget::Everything] {
            world.forget_flows(lost);
            let sent = data(proto, host, backend).ttl(63);
            world.takes(Hook::ToNet, &data(proto, host, service), Exit::Routes, &sent);
            let seen = data(proto, service, host);
            world.takes(Hook::FromPod, &data(proto, backend, host), Exit::Host, &seen);
        }
    }
    world.expect(
        "from_pod: 6 from a service, from_pod: 6 redirected, to_net: 8 to a service, \
         to_net: 8 redirected, to_net: 6 new flows, to_net: 2 restored flows, 2 udp flows",
    );
}
