// SPDX-License-Identifier: Apache-2.0
//! Clients outside the cluster, at every kind of address.

use pintle_abi::{counter::Hook, service::wildcard_flags};

use super::{
    Ip, PROTOCOLS, data, first,
    scene::{Kind, is_masqueraded, put_local, put_near, put_remote},
};
use crate::{
    frame::frame,
    world::{Exit, Forget, FrontendSpec, Verdict, World},
};

/// S15, S19: only the destination changes on the way in, and only the source on the way out. The
/// stack sees both directions of what it forwards.
pub fn pod_of_this_node_sees_the_client(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.outside(7, 40000), ip.backend(5, 8080));
    put_local(world, 1, backend);
    for (kind, proto) in pairs() {
        kind.expose(world, ip, proto, (1, 1));
        let service = kind.address(ip);
        let request = first(proto, client, service);
        world.takes(Hook::FromNet, &request, Exit::Next, &first(proto, client, backend));
        world.to_pod(&first(proto, client, backend), &first(proto, client, backend));
        let answer = data(proto, backend, client);
        world.untouched(Hook::FromPod, &answer.bytes());
        world.forwards(&answer, &data(proto, service, client));
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 8 passed, to_pod: 8 passed, from_net: 8 to a service, \
         from_net: 8 new flows, to_net: 8 from a service",
    );
}

/// S19: where nothing is skipped that matters, the stack is skipped both ways.
pub fn pod_of_this_node_is_reached_past_the_stack(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.outside(7, 40000), ip.backend(5, 8080));
    put_near(world, 1, backend);
    for (kind, proto) in pairs() {
        kind.expose(world, ip, proto, (1, 1));
        let service = kind.address(ip);
        let arrived = first(proto, client, backend).ttl(63);
        world.takes(Hook::FromNet, &first(proto, client, service), Exit::Pod, &arrived);
        let sent = data(proto, service, client).ttl(63);
        world.takes(Hook::FromPod, &data(proto, backend, client), Exit::Routes, &sent);
        // What was sent is none of the next hook's business.
        world.forwards(&sent, &sent);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 8 from a service, from_pod: 8 redirected, from_net: 8 to a service, \
         from_net: 8 redirected, from_net: 8 new flows, to_net: 8 passed",
    );
}

/// S15, S16: its answers come back to this node, and go on to the client.
pub fn pod_of_another_node_sees_this_node(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.outside(7, 40000), ip.backend(5, 8080));
    put_remote(world, 1, backend);
    for (kind, proto) in pairs() {
        kind.expose(world, ip, proto, (1, 1));
        let service = kind.address(ip);
        let ends = (ip.node(0), backend);
        let node = is_masqueraded(world, (Hook::FromNet, proto), (client, service), ends);
        // The host's own packets only begin connections at the next hook.
        let onward = first(proto, node, backend).ttl(63);
        world.forwards(&onward, &onward);
        let answer = data(proto, service, client).ttl(63);
        world.takes(Hook::FromNet, &data(proto, backend, node), Exit::Routes, &answer);
        let more = data(proto, node, backend).ttl(63);
        world.takes(Hook::FromNet, &data(proto, client, service), Exit::Routes, &more);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_net: 16 to a service, from_net: 8 from a service, from_net: 24 redirected, \
         from_net: 8 new flows, from_net: 8 masqueraded flows, to_net: 8 passed",
    );
}

fn pairs() -> impl Iterator<Item = (Kind, u8)> {
    Kind::ALL.into_iter().flat_map(|kind| PROTOCOLS.map(|proto| (kind, proto)))
}

/// S15, I12: at every address of the node that has node ports, and nowhere else.
pub fn node_port_answers_at_node_addresses_only(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.outside(7, 40000), ip.backend(5, 8080));
    put_near(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::NodePort.expose(world, ip, proto, (1, 1));
        world.put_frontend(&FrontendSpec::wildcard(ip.node_b(0).ip(), wildcard_flags::NODE));
        for node in [ip.node(30_080), ip.node_b(30_080)] {
            let arrived = first(proto, client, backend).ttl(63);
            world.takes(Hook::FromNet, &first(proto, client, node), Exit::Pod, &arrived);
            let answer = data(proto, node, client).ttl(63);
            world.takes(Hook::FromPod, &data(proto, backend, client), Exit::Routes, &answer);
            world.forget_flows(Forget::Everything);
        }
        for elsewhere in [ip.other_node(30_080), ip.loopback(30_080), ip.backend(6, 30_080)] {
            world.untouched(Hook::FromNet, &first(proto, client, elsewhere).bytes());
        }
        // Another port, and the other protocols, are the node's own.
        world.untouched(Hook::FromNet, &first(proto, client, ip.node(22)).bytes());
    }
    let frame = frame(ip.outside(7, 0), ip.node(0), 47).payload([9; 20]);
    world.untouched(Hook::FromNet, &frame.bytes());
    world.expect(
        "from_pod: 4 from a service, from_pod: 4 redirected, from_net: 9 passed, \
         from_net: 4 to a service, from_net: 4 redirected, from_net: 4 new flows",
    );
}

/// S24: the router that sent it would get it back.
pub fn unknown_port_of_a_load_balancer_does_not_loop(world: &mut dyn World, ip: Ip) {
    let (outside, pod) = (ip.outside(7, 40000), ip.client(40000));
    put_near(world, 1, ip.backend(5, 8080));
    for proto in PROTOCOLS {
        Kind::LoadBalancer.expose(world, ip, proto, (1, 1));
        let unknown = ip.load_balancer(81);
        let (verdict, answer) = world.send(Hook::FromNet, &first(proto, outside, unknown));
        world.went(Exit::Routes);
        assert_eq!((verdict, answer.src.ip()), (Verdict::Deliver, unknown.ip()));
        // It may answer elsewhere.
        world.untouched(Hook::FromPod, &first(proto, pod, unknown).bytes());
        world.untouched(Hook::ToNet, &first(proto, ip.node(40000), unknown).bytes());
    }
    world.expect(
        "from_pod: 2 passed, from_net: 2 dropped (refused, unknown port), to_net: 2 passed",
    );
}

/// S26: an external IP may be the node's own address, or a pod's; what is for none of the service's
/// ports is theirs.
pub fn external_ip_of_somebody_else_takes_its_port_only(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.outside(7, 40000), ip.backend(5, 8080));
    put_near(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::NodePort.expose(world, ip, proto, (1, 1));
        let pod = ip.backend(6, 80);
        world.put_frontend(&FrontendSpec::wildcard(pod.ip(), 0));
        for external in [ip.node(80), pod] {
            world.put_frontend(&FrontendSpec::new(external, proto, (1, 1)));
            let arrived = first(proto, client, backend).ttl(63);
            world.takes(Hook::FromNet, &first(proto, client, external), Exit::Pod, &arrived);
            world.forget_flows(Forget::Everything);
        }
        for own in [ip.node(81), ip.backend(6, 81)] {
            world.untouched(Hook::FromNet, &first(proto, client, own).bytes());
        }
        let arrived = first(proto, client, backend).ttl(63);
        let node_port = first(proto, client, ip.node(30_080));
        world.takes(Hook::FromNet, &node_port, Exit::Pod, &arrived);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_net: 4 passed, from_net: 6 to a service, from_net: 6 redirected, \
         from_net: 6 new flows",
    );
}

/// S30: a backend is one of two services; one of them goes.
pub fn services_share_a_remote_backend(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.outside(7, 40000), ip.backend(5, 8080));
    put_remote(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::NodePort.expose(world, ip, proto, (1, 1));
        Kind::External.expose(world, ip, proto, (1, 1));
        let (one, two) = (Kind::NodePort.address(ip), Kind::External.address(ip));
        let ends = (ip.node(0), backend);
        let first_port = is_masqueraded(world, (Hook::FromNet, proto), (client, one), ends);
        let second_port = is_masqueraded(world, (Hook::FromNet, proto), (client, two), ends);
        assert_ne!(first_port, second_port);
        world.remove_frontend(&FrontendSpec::new(Kind::NodePort.frontend(ip), proto, (1, 1)));
        for (service, node) in [(one, first_port), (two, second_port)] {
            let answer = data(proto, service, client).ttl(63);
            world.takes(Hook::FromNet, &data(proto, backend, node), Exit::Routes, &answer);
        }
    }
    world.expect(
        "from_net: 4 to a service, from_net: 4 from a service, from_net: 8 redirected, \
         from_net: 4 new flows, from_net: 4 masqueraded flows, 4 tcp flows, 4 udp flows",
    );
}
