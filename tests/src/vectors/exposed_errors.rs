// SPDX-License-Identifier: Apache-2.0
//! I1, I2, I6: ICMP errors about connections of clients outside, of masqueraded pods and of the host.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::{
    counter::Hook,
    device::{Device, device_flags},
};

use super::{
    Ip, PROTOCOLS, data, first,
    icmp_errors::{about, errors},
    scene::{Kind, is_masqueraded, put_local, put_near, put_remote},
};
use crate::{
    frame::Frame,
    world::{Exit, Forget, World, device},
};

/// How much of a packet is quoted behind its network header: all, and the least.
const QUOTES: [usize; 2] = [100, 8];

/// A connection's ends: the client and what it dials; the node and the backend.
#[derive(Clone, Copy)]
struct Ends {
    proto: u8,
    client: SocketAddr,
    service: SocketAddr,
    node: SocketAddr,
    backend: SocketAddr,
}

impl Ends {
    /// A packet of the backend's side, to the backend.
    fn request(&self) -> Frame {
        data(self.proto, self.node, self.backend)
    }

    /// The same on the client's side.
    fn dialled(&self) -> Frame {
        data(self.proto, self.client, self.service)
    }

    /// A packet of the client's side, to the client.
    fn answer(&self) -> Frame {
        data(self.proto, self.service, self.client)
    }

    /// The same on the backend's side.
    fn reply(&self) -> Frame {
        data(self.proto, self.backend, self.node)
    }
}

/// Every error that quotes a frame, with what it becomes: about another frame, from and to others.
fn each(
    ip: Ip,
    (quoted, src, dst): (&Frame, IpAddr, IpAddr),
    (becomes, new_src, new_dst): (&Frame, IpAddr, IpAddr),
    mut check: impl FnMut(Frame, Frame),
) {
    for error in errors(ip) {
        for len in QUOTES {
            let sent = about(quoted, len, src, dst, error);
            check(sent, about(becomes, len, new_src, new_dst, error));
        }
    }
}

/// A masqueraded client's connection through a node port.
fn masqueraded(world: &mut dyn World, ip: Ip, hook: Hook, proto: u8, client: SocketAddr) -> Ends {
    let (service, backend) = (ip.node(30_080), ip.backend(5, 8080));
    put_remote(world, 1, backend);
    Kind::NodePort.expose(world, ip, proto, (1, 1));
    let dialled = (client, service);
    let node = is_masqueraded(world, (hook, proto), dialled, (ip.node(0), backend));
    Ends { proto, client, service, node, backend }
}

/// I1, I2: about the request, from the backend's side: the client learns what it can use.
pub fn error_about_a_masqueraded_request_reaches_the_client(world: &mut dyn World, ip: Ip) {
    for proto in PROTOCOLS {
        let ends = masqueraded(world, ip, Hook::FromNet, proto, ip.outside(7, 40000));
        let client = ends.client.ip();
        // A router keeps its address, the backend's own error seems to come from the service.
        for (src, seen) in [(ip.router(), ip.router()), (ends.backend.ip(), ends.service.ip())] {
            let sent = (&ends.request(), src, ends.node.ip());
            each(ip, sent, (&ends.dialled(), seen, client), |sent, expected| {
                world.takes(Hook::FromNet, &sent, Exit::Routes, &expected.ttl(63));
            });
        }
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_net: 2 to a service, from_net: 24 icmp errors, from_net: 26 redirected, \
         from_net: 2 new flows, from_net: 2 masqueraded flows",
    );
}

/// I1, I2: about the answer, from the client's side: the backend knows the node only.
pub fn error_about_a_masqueraded_answer_reaches_the_backend(world: &mut dyn World, ip: Ip) {
    for proto in PROTOCOLS {
        let ends = masqueraded(world, ip, Hook::FromNet, proto, ip.outside(7, 40000));
        for src in [ends.client.ip(), ip.router()] {
            let sent = (&ends.answer(), src, ends.service.ip());
            let becomes = (&ends.reply(), ends.node.ip(), ends.backend.ip());
            each(ip, sent, becomes, |sent, expected| {
                world.takes(Hook::FromNet, &sent, Exit::Routes, &expected.ttl(63));
            });
        }
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_net: 2 to a service, from_net: 24 icmp errors, from_net: 26 redirected, \
         from_net: 2 new flows, from_net: 2 masqueraded flows",
    );
}

/// I6: the stack of this node itself cannot send the masqueraded packet on, and tells its source.
pub fn error_of_this_node_reaches_the_masqueraded_client(world: &mut dyn World, ip: Ip) {
    for proto in PROTOCOLS {
        let ends = masqueraded(world, ip, Hook::FromNet, proto, ip.outside(7, 40000));
        let sent = (&ends.request(), ends.node.ip(), ends.node.ip());
        let becomes = (&ends.dialled(), ends.node.ip(), ends.client.ip());
        each(ip, sent, becomes, |sent, expected| {
            world.takes(Hook::ToNet, &sent, Exit::Routes, &expected.ttl(63));
        });
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_net: 2 to a service, from_net: 2 redirected, from_net: 2 new flows, \
         from_net: 2 masqueraded flows, to_net: 12 icmp errors, to_net: 12 redirected",
    );
}

/// I1: the client is a pod here, and so is the way.
pub fn errors_about_a_masqueraded_pod_are_translated(world: &mut dyn World, ip: Ip) {
    let flags = device_flags::FAST | device_flags::POD;
    world.put_device(&Device { flags, ..device() });
    for proto in PROTOCOLS {
        let ends = masqueraded(world, ip, Hook::FromPod, proto, ip.client(40000));
        let sent = (&ends.request(), ip.router(), ends.node.ip());
        each(ip, sent, (&ends.dialled(), ip.router(), ends.client.ip()), |sent, expected| {
            world.takes(Hook::FromNet, &sent, Exit::Pod, &expected.ttl(63));
        });
        let sent = (&ends.answer(), ends.client.ip(), ends.service.ip());
        let becomes = (&ends.reply(), ends.node.ip(), ends.backend.ip());
        each(ip, sent, becomes, |sent, expected| {
            world.takes(Hook::FromPod, &sent, Exit::Routes, &expected.ttl(63));
        });
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 12 icmp errors, from_pod: 14 redirected, \
         from_pod: 2 new flows, from_pod: 2 masqueraded flows, from_net: 12 icmp errors, \
         from_net: 12 redirected",
    );
}

/// A client outside that a pod of this node sees.
fn seen(world: &mut dyn World, ip: Ip, proto: u8) -> Ends {
    let (client, service, backend) = (ip.outside(7, 40000), ip.node(30_080), ip.backend(5, 8080));
    Kind::NodePort.expose(world, ip, proto, (1, 1));
    world.send(Hook::FromNet, &first(proto, client, service));
    Ends { proto, client, service, node: client, backend }
}

/// I1, I6: through the stack an error takes the way of the packets, whoever sends it.
pub fn errors_through_the_stack_are_translated_behind_it(world: &mut dyn World, ip: Ip) {
    put_local(world, 1, ip.backend(5, 8080));
    for proto in PROTOCOLS {
        let ends = seen(world, ip, proto);
        let (client, backend) = (ends.client.ip(), ends.backend.ip());
        let sent = (&ends.request(), backend, client);
        each(ip, sent, (&ends.dialled(), ends.service.ip(), client), |sent, expected| {
            world.untouched(Hook::FromPod, &sent.bytes());
            world.forwards(&sent, &expected);
        });
        let own = (&ends.request(), ip.node(0).ip(), client);
        each(ip, own, (&ends.dialled(), ip.node(0).ip(), client), |sent, expected| {
            world.takes(Hook::ToNet, &sent, Exit::Next, &expected);
        });
        let sent = (&ends.answer(), client, ends.service.ip());
        each(ip, sent, (&ends.reply(), client, backend), |sent, expected| {
            world.takes(Hook::FromNet, &sent, Exit::Next, &expected);
        });
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 12 passed, from_net: 2 to a service, from_net: 12 icmp errors, \
         from_net: 2 new flows, to_net: 24 icmp errors",
    );
}

/// I1: past the stack, too.
pub fn errors_past_the_stack_are_translated(world: &mut dyn World, ip: Ip) {
    put_near(world, 1, ip.backend(5, 8080));
    for proto in PROTOCOLS {
        let ends = seen(world, ip, proto);
        let (client, backend) = (ends.client.ip(), ends.backend.ip());
        let sent = (&ends.request(), backend, client);
        each(ip, sent, (&ends.dialled(), ends.service.ip(), client), |sent, expected| {
            world.takes(Hook::FromPod, &sent, Exit::Routes, &expected.ttl(63));
        });
        let sent = (&ends.answer(), client, ends.service.ip());
        each(ip, sent, (&ends.reply(), client, backend), |sent, expected| {
            world.takes(Hook::FromNet, &sent, Exit::Pod, &expected.ttl(63));
        });
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 12 icmp errors, from_pod: 12 redirected, from_net: 2 to a service, \
         from_net: 12 icmp errors, from_net: 14 redirected, from_net: 2 new flows",
    );
}

/// I1: the host's own connections.
pub fn errors_about_the_hosts_connections_are_translated(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.node(41000), ip.service(80), ip.backend(5, 8080));
    put_near(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::ClusterIp.expose(world, ip, proto, (1, 1));
        world.send(Hook::ToNet, &first(proto, client, service));
        let ends = Ends { proto, client, service, node: client, backend };
        let sent = (&ends.request(), backend.ip(), client.ip());
        each(ip, sent, (&ends.dialled(), service.ip(), client.ip()), |sent, expected| {
            world.takes(Hook::FromPod, &sent, Exit::Host, &expected);
        });
        let sent = (&ends.request(), ip.router(), client.ip());
        each(ip, sent, (&ends.dialled(), ip.router(), client.ip()), |sent, expected| {
            world.takes(Hook::FromNet, &sent, Exit::Next, &expected);
        });
        let sent = (&ends.answer(), client.ip(), service.ip());
        each(ip, sent, (&ends.reply(), client.ip(), backend.ip()), |sent, expected| {
            world.takes(Hook::ToNet, &sent, Exit::Routes, &expected.ttl(63));
        });
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 12 icmp errors, from_pod: 12 redirected, from_net: 12 icmp errors, \
         to_net: 2 to a service, to_net: 12 icmp errors, to_net: 14 redirected, \
         to_net: 2 new flows",
    );
}

/// I4: at the node's addresses it may be about anything, at a cluster address it is about nothing.
pub fn errors_about_unknown_connections_are_left_to_the_node(world: &mut dyn World, ip: Ip) {
    put_remote(world, 1, ip.backend(5, 8080));
    for proto in PROTOCOLS {
        Kind::NodePort.expose(world, ip, proto, (1, 1));
        let quoted = data(proto, ip.node(51_000), ip.backend(5, 8080));
        let sent = (&quoted, ip.router(), ip.node(0).ip());
        each(ip, sent, sent, |sent, _| world.untouched(Hook::FromNet, &sent.bytes()));
    }
    world.expect("from_net: 12 passed");
}
