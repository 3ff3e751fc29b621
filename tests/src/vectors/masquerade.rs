// SPDX-License-Identifier: Apache-2.0
//! Masquerading: who is, behind which port, and what is left of it when state is lost.

use std::collections::BTreeSet;

use pintle_abi::{
    addr::proto::UDP,
    counter::Hook,
    device::{Device, device_flags},
    drop_reason::DropReason,
    flow::SETTLED_SHIFT,
    service::frontend_flags,
    settings::Settings,
};

use super::{
    Ip, PROTOCOLS, data, first,
    scene::{Kind, is_masqueraded, put_local, put_near, put_remote},
};
use crate::world::{Exit, Forget, FrontendSpec, IFINDEX, MASQUERADE, World, device, settings};

fn remote_behind_a_node_port(world: &mut dyn World, ip: Ip) {
    put_remote(world, 1, ip.backend(5, 8080));
    for proto in PROTOCOLS {
        Kind::NodePort.expose(world, ip, proto, (1, 1));
    }
}

/// A client's first packet reaches the remote backend; the node's source is returned.
#[track_caller]
fn connect(world: &mut dyn World, ip: Ip, proto: u8, number: u8, port: u16) -> u16 {
    let dialled = (ip.outside(number, port), ip.node(30_080));
    let ends = (ip.node(0), ip.backend(5, 8080));
    is_masqueraded(world, (Hook::FromNet, proto), dialled, ends).port()
}

/// What the backend answers to a port of the node reaches that client.
#[track_caller]
fn answers(world: &mut dyn World, ip: Ip, proto: u8, node_port: u16, number: u8, port: u16) {
    let (client, service) = (ip.outside(number, port), ip.node(30_080));
    let answer = data(proto, ip.backend(5, 8080), ip.node(node_port));
    world.takes(Hook::FromNet, &answer, Exit::Routes, &data(proto, service, client).ttl(63));
}

/// S16.
pub fn port_in_the_range_is_kept(world: &mut dyn World, ip: Ip) {
    remote_behind_a_node_port(world, ip);
    for proto in PROTOCOLS {
        for port in [MASQUERADE.start, MASQUERADE.start + 77, MASQUERADE.end - 1] {
            assert_eq!(connect(world, ip, proto, 7, port), port);
        }
        for port in [MASQUERADE.start - 1, MASQUERADE.end, 1, u16::MAX] {
            assert_ne!(connect(world, ip, proto, 7, port), port);
        }
    }
    world.expect(
        "from_net: 14 to a service, from_net: 14 redirected, from_net: 14 new flows, \
         from_net: 14 masqueraded flows, 14 tcp flows, 14 udp flows",
    );
}

/// S16, S23: two clients use the same port, which is in the range of the node.
pub fn second_client_of_a_port_gets_another(world: &mut dyn World, ip: Ip) {
    let port = MASQUERADE.start + 5;
    remote_behind_a_node_port(world, ip);
    for proto in PROTOCOLS {
        assert_eq!(connect(world, ip, proto, 7, port), port);
        let second = connect(world, ip, proto, 8, port);
        assert_ne!(second, port);
        answers(world, ip, proto, port, 7, port);
        answers(world, ip, proto, second, 8, port);
        // Neither moves any more.
        assert_eq!(connect(world, ip, proto, 7, port), port);
        assert_eq!(connect(world, ip, proto, 8, port), second);
    }
    world.expect(
        "from_net: 8 to a service, from_net: 4 from a service, from_net: 12 redirected, \
         from_net: 4 new flows, from_net: 4 masqueraded flows, 4 tcp flows, 4 udp flows",
    );
}

/// S23: many clients with one source port.
pub fn clients_with_one_source_port_are_kept_apart(world: &mut dyn World, ip: Ip) {
    remote_behind_a_node_port(world, ip);
    for proto in PROTOCOLS {
        let clients = 1..=100;
        let ports: Vec<_> =
            clients.clone().map(|number| connect(world, ip, proto, number, 40000)).collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
        for (number, port) in clients.zip(ports) {
            answers(world, ip, proto, port, number, 40000);
        }
    }
    world.expect(
        "from_net: 200 to a service, from_net: 200 from a service, \
         from_net: 400 redirected, from_net: 200 new flows, \
         from_net: 200 masqueraded flows, 200 tcp flows, 200 udp flows",
    );
}

/// S16: new clients of that backend fail, with a reason of their own; nothing else does.
pub fn exhausted_ports_fail_new_clients_only(world: &mut dyn World, ip: Ip) {
    const PORTS: u16 = 2;
    remote_behind_a_node_port(world, ip);
    world.put_settings(&Settings { masquerade_count: PORTS, ..settings() });
    for proto in PROTOCOLS {
        let ports: Vec<_> =
            (1..=PORTS as u8).map(|number| connect(world, ip, proto, number, 40000)).collect();
        let refused = first(proto, ip.outside(9, 40000), ip.node(30_080));
        world.takes(Hook::FromNet, &refused, Exit::Drop, &refused);
        assert_eq!(world.dropped(Hook::FromNet, DropReason::NoMasqueradePort), 1);
        for (number, port) in (1..).zip(ports) {
            answers(world, ip, proto, port, number, 40000);
            assert_eq!(connect(world, ip, proto, number, 40000), port);
        }
        // Another backend has the ports of its own, and a pod of this node needs none.
        put_remote(world, 2, ip.backend(6, 8080));
        Kind::External.expose(world, ip, proto, (2, 1));
        let dialled = (ip.outside(9, 40000), Kind::External.address(ip));
        let ends = (ip.node(0), ip.backend(6, 8080));
        is_masqueraded(world, (Hook::FromNet, proto), dialled, ends);
        put_near(world, 3, ip.backend(7, 8080));
        Kind::LoadBalancer.expose(world, ip, proto, (3, 1));
        let (client, service) = (ip.outside(9, 40000), Kind::LoadBalancer.address(ip));
        let arrived = first(proto, client, ip.backend(7, 8080)).ttl(63);
        world.takes(Hook::FromNet, &first(proto, client, service), Exit::Pod, &arrived);
        world.clear();
        remote_behind_a_node_port(world, ip);
        world.put_settings(&Settings { masquerade_count: PORTS, ..settings() });
    }
}

/// S16: a port whose connection is over is free again, and nothing of that TCP connection stays.
pub fn ports_of_finished_connections_are_used_again(world: &mut dyn World, ip: Ip) {
    remote_behind_a_node_port(world, ip);
    world.put_settings(&Settings { masquerade_count: 1, ..settings() });
    for proto in PROTOCOLS {
        assert_eq!(connect(world, ip, proto, 1, 40000), MASQUERADE.start);
        let refused = first(proto, ip.outside(2, 40000), ip.node(30_080));
        world.takes(Hook::FromNet, &refused, Exit::Drop, &refused);
        world.age_flows(61_000_000_000);
        assert_eq!(connect(world, ip, proto, 2, 40000), MASQUERADE.start);
        answers(world, ip, proto, MASQUERADE.start, 2, 40000);
    }
    world.expect(
        "from_net: 4 to a service, from_net: 2 from a service, from_net: 6 redirected, \
         from_net: 4 new flows, from_net: 4 masqueraded flows, \
         from_net: 2 dropped (no masquerade port), 2 tcp flows, 3 udp flows",
    );
}

/// S16: without ports or without an address nobody is masqueraded, rather than wrongly.
pub fn node_without_ports_or_address_drops(world: &mut dyn World, ip: Ip) {
    remote_behind_a_node_port(world, ip);
    let nothing = [
        Settings { masquerade_count: 0, ..settings() },
        Settings { node_v4: Default::default(), node_v6: Default::default(), ..settings() },
    ];
    for (settings, proto) in nothing.iter().flat_map(|none| PROTOCOLS.map(|proto| (none, proto))) {
        world.put_settings(settings);
        let frame = first(proto, ip.outside(7, 40000), ip.node(30_080));
        world.takes(Hook::FromNet, &frame, Exit::Drop, &frame);
    }
    world.expect(
        "from_net: 2 dropped (no masquerade port), \
         from_net: 2 dropped (no masquerade address)",
    );
}

/// S17: the half that is left completes the other, whichever it is.
pub fn half_of_a_masqueraded_pair_is_restored(world: &mut dyn World, ip: Ip) {
    remote_behind_a_node_port(world, ip);
    for proto in PROTOCOLS {
        for lost in [Forget::Mains, Forget::Aliases] {
            for client_port in [40000, MASQUERADE.start + 9] {
                let port = connect(world, ip, proto, 7, client_port);
                world.forget_flows(lost);
                // Nothing else is evicted, so XDP may take a moment to notice.
                world.age_flows(1 << SETTLED_SHIFT);
                assert_eq!(connect(world, ip, proto, 7, client_port), port);
                answers(world, ip, proto, port, 7, client_port);
                world.forget_flows(Forget::Everything);
            }
        }
    }
    world.expect(
        "from_net: 16 to a service, from_net: 8 from a service, from_net: 24 redirected, \
         from_net: 12 new flows, from_net: 4 restored flows, from_net: 12 masqueraded flows",
    );
}

/// S17: the same backend and the same port, for both follow from the client's tuple.
pub fn lost_masqueraded_connection_is_rebuilt(world: &mut dyn World, ip: Ip) {
    let backends = [5, 6, 7].map(|number| ip.backend(number, 8080));
    for (id, backend) in (1..).zip(backends) {
        put_remote(world, id, backend);
    }
    for proto in PROTOCOLS {
        Kind::NodePort.expose(world, ip, proto, (1, 3));
        for port in [40000, 40001, 40002, MASQUERADE.start + 9] {
            let (client, service) = (ip.outside(7, port), ip.node(30_080));
            let (_, before) = world.send(Hook::FromNet, &first(proto, client, service));
            world.forget_flows(Forget::Everything);
            let expected = data(proto, before.src, before.dst).ttl(63);
            world.takes(Hook::FromNet, &data(proto, client, service), Exit::Routes, &expected);
            let answer = data(proto, service, client).ttl(63);
            world.takes(Hook::FromNet, &data(proto, before.dst, before.src), Exit::Routes, &answer);
            world.forget_flows(Forget::Everything);
        }
    }
    world.expect(
        "from_net: 16 to a service, from_net: 8 from a service, from_net: 24 redirected, \
         from_net: 16 new flows, from_net: 16 masqueraded flows",
    );
}

fn pod_device() -> Device {
    Device { flags: device_flags::FAST | device_flags::POD, ..device() }
}

/// The stack leads a pod that is not masqueraded to a remote backend.
#[track_caller]
fn keeps_its_address(world: &mut dyn World, ip: Ip, proto: u8, kind: Kind) {
    let (client, service, backend) = (ip.client(40000), kind.address(ip), ip.backend(5, 8080));
    world.takes(
        Hook::FromPod,
        &first(proto, client, service),
        Exit::Next,
        &first(proto, client, backend),
    );
    world.forget_flows(Forget::Everything);
}

/// A masqueraded pod's packet skips the stack both ways.
#[track_caller]
fn gets_the_nodes_address(world: &mut dyn World, ip: Ip, proto: u8, kind: Kind) {
    let (client, service, backend) = (ip.client(40000), kind.address(ip), ip.backend(5, 8080));
    let ends = (ip.node(0), backend);
    let node = is_masqueraded(world, (Hook::FromPod, proto), (client, service), ends);
    let answer = data(proto, service, client).ttl(63);
    world.takes(Hook::FromNet, &data(proto, backend, node), Exit::Pod, &answer);
    world.forget_flows(Forget::Everything);
}

/// A ClusterIP with a detector: who is no local pod is masqueraded.
pub fn clients_that_are_no_pods_are_masqueraded_if_asked_for(world: &mut dyn World, ip: Ip) {
    put_remote(world, 1, ip.backend(5, 8080));
    let kind = Kind::ClusterIp;
    for proto in PROTOCOLS {
        kind.expose(world, ip, proto, (1, 1));
        keeps_its_address(world, ip, proto, kind);
        let frontend = FrontendSpec::new(kind.address(ip), proto, (1, 1));
        world.put_frontend(&frontend.flags(frontend_flags::MASQUERADE_OTHERS));
        gets_the_nodes_address(world, ip, proto, kind);
        world.put_device(&pod_device());
        keeps_its_address(world, ip, proto, kind);
        world.put_device(&device());
    }
    world.expect(
        "from_pod: 6 to a service, from_pod: 2 redirected, from_pod: 6 new flows, \
         from_pod: 2 masqueraded flows, from_net: 2 from a service, from_net: 2 redirected",
    );
}

/// S25: a pod dials its own node, or a load balancer that is short-circuited.
pub fn pod_is_masqueraded_at_external_addresses(world: &mut dyn World, ip: Ip) {
    put_remote(world, 1, ip.backend(5, 8080));
    world.put_device(&pod_device());
    for proto in PROTOCOLS {
        for kind in [Kind::NodePort, Kind::LoadBalancer, Kind::External] {
            kind.expose(world, ip, proto, (1, 1));
            gets_the_nodes_address(world, ip, proto, kind);
        }
    }
    world.expect(
        "from_pod: 6 to a service, from_pod: 6 redirected, from_pod: 6 new flows, \
         from_pod: 6 masqueraded flows, from_net: 6 from a service, from_net: 6 redirected",
    );
}

/// S25: so is its reply, where the backend is another pod of the node.
pub fn pod_reaches_a_neighbour_at_external_addresses(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.client(40000), ip.backend(5, 8080));
    put_near(world, 1, backend);
    for proto in PROTOCOLS {
        for kind in [Kind::NodePort, Kind::LoadBalancer, Kind::External] {
            kind.expose(world, ip, proto, (1, 1));
            let service = kind.address(ip);
            let arrived = first(proto, client, backend).ttl(63);
            world.takes(Hook::FromPod, &first(proto, client, service), Exit::Pod, &arrived);
            let answer = data(proto, service, client).ttl(63);
            world.takes(Hook::FromPod, &data(proto, backend, client), Exit::Pod, &answer);
            world.forget_flows(Forget::Everything);
        }
    }
    world.expect(
        "from_pod: 6 to a service, from_pod: 6 from a service, from_pod: 12 redirected, \
         from_pod: 6 new flows",
    );
}

/// S9, S25: a pod reaches itself through its node: as itself it would not listen.
pub fn pod_reaches_itself_at_external_addresses(world: &mut dyn World, ip: Ip) {
    let (client, itself) = (ip.client(40000), ip.client(8080));
    let disguise = crate::world::hairpin_address(ip.is_v6());
    put_near(world, 1, itself);
    for proto in PROTOCOLS {
        for kind in [Kind::NodePort, Kind::LoadBalancer, Kind::External] {
            kind.expose(world, ip, proto, (1, 1));
            let service = kind.address(ip);
            let disguised = std::net::SocketAddr::new(disguise, 40000);
            let arrived = first(proto, disguised, itself).ttl(63);
            world.takes(Hook::FromPod, &first(proto, client, service), Exit::Pod, &arrived);
            let answer = data(proto, service, client).ttl(63);
            world.takes(Hook::FromPod, &data(proto, itself, disguised), Exit::Pod, &answer);
            world.forget_flows(Forget::Everything);
        }
    }
    world.expect(
        "from_pod: 6 to a service, from_pod: 6 from a service, from_pod: 12 redirected, \
         from_pod: 6 new flows",
    );
}

/// `masqueradeAll` goes for pods of this node, too, whether or not a redirect leads to them.
pub fn everybody_is_masqueraded_if_asked_for(world: &mut dyn World, ip: Ip) {
    let (pod, outside) = (ip.client(40000), ip.outside(7, 40000));
    let (service, backend) = (ip.service(80), ip.backend(5, 8080));
    for proto in PROTOCOLS {
        Kind::ClusterIp.expose(world, ip, proto, (1, 1));
        for ifindex in [IFINDEX, 0] {
            match ifindex {
                0 => put_local(world, 1, backend),
                _ => put_near(world, 1, backend),
            }
            let frontend = FrontendSpec::new(service, proto, (1, 1));
            world.put_frontend(&frontend.flags(frontend_flags::MASQUERADE_LOCAL));
            let exit = if ifindex == 0 { Exit::Routes } else { Exit::Pod };
            for (hook, client, back) in
                [(Hook::FromPod, pod, Exit::Pod), (Hook::FromNet, outside, Exit::Routes)]
            {
                let (verdict, sent) = world.send(hook, &first(proto, client, service));
                world.went(exit);
                assert_eq!(sent.src.ip(), ip.node(0).ip());
                let arrived = first(proto, sent.src, backend).ttl(63);
                assert_eq!((verdict, &sent), (exit.verdict(), &arrived));
                let answer = data(proto, service, client).ttl(63);
                world.takes(Hook::FromPod, &data(proto, backend, sent.src), back, &answer);
            }
            world.forget_flows(Forget::Everything);
        }
    }
    world.expect(
        "from_pod: 4 to a service, from_pod: 8 from a service, from_pod: 12 redirected, \
         from_pod: 4 new flows, from_pod: 4 masqueraded flows, from_net: 4 to a service, \
         from_net: 4 redirected, from_net: 4 new flows, from_net: 4 masqueraded flows",
    );
}

/// S5: the next datagram of a masqueraded client goes to a backend that is there.
pub fn masqueraded_datagrams_leave_a_backend_that_is_gone(world: &mut dyn World, ip: Ip) {
    remote_behind_a_node_port(world, ip);
    let port = connect(world, ip, UDP, 7, 40000);
    put_remote(world, 2, ip.backend(6, 8080));
    Kind::NodePort.expose(world, ip, UDP, (2, 1));
    assert_eq!(connect(world, ip, UDP, 7, 40000), port);
    let spec = crate::world::BackendSpec {
        id: 1,
        addr: ip.backend(5, 8080),
        generation: 2,
        ifindex: 0,
        place: crate::world::Place::Remote,
    };
    world.put_backend(spec);
    let dialled = (ip.outside(7, 40000), ip.node(30_080));
    let ends = (ip.node(0), ip.backend(6, 8080));
    is_masqueraded(world, (Hook::FromNet, UDP), dialled, ends);
    // A late answer of the first still reaches the client.
    answers(world, ip, UDP, port, 7, 40000);
    world.expect(
        "from_net: 3 to a service, from_net: 1 from a service, from_net: 4 redirected, \
         from_net: 2 new flows, from_net: 2 masqueraded flows, 3 udp flows",
    );
}
