// SPDX-License-Identifier: Apache-2.0
//! While kube-proxy's connections are taken over: what it opened stays with the kernel's own
//! connection tracking, what is new is ours.

use pintle_abi::{
    addr::proto::{TCP, UDP},
    counter::Hook,
    settings::Settings,
};

use super::{
    Ip, PROTOCOLS, data, first,
    scene::{Kind, put_near},
};
use crate::{
    frame::{flag, icmp, tcp},
    world::{BackendSpec, Exit, Forget, IFINDEX, KernelFlow, Place, World, settings},
};

/// The hooks where connections begin, with a client of each.
fn entrances(ip: Ip) -> [(Hook, std::net::SocketAddr, Exit); 3] {
    [
        (Hook::FromPod, ip.client(40000), Exit::Pod),
        (Hook::FromNet, ip.outside(7, 40000), Exit::Pod),
        (Hook::ToNet, ip.node(40000), Exit::Routes),
    ]
}

fn taking_over(world: &mut dyn World, ip: Ip) {
    world.put_settings(&Settings { take_over: 1, ..settings() });
    put_near(world, 1, ip.backend(5, 8080));
    for (kind, proto) in Kind::ALL.into_iter().flat_map(|kind| PROTOCOLS.map(|proto| (kind, proto)))
    {
        kind.expose(world, ip, proto, (1, 1));
    }
}

/// Segments of connections that nobody here has seen begin pass; a first one is dialled.
pub fn unknown_tcp_connections_are_left_to_the_kernel(world: &mut dyn World, ip: Ip) {
    taking_over(world, ip);
    for (kind, (hook, client, exit)) in
        Kind::ALL.into_iter().flat_map(|kind| entrances(ip).map(|entrance| (kind, entrance)))
    {
        let service = kind.address(ip);
        for flags in [flag::ACK, flag::FIN | flag::ACK, flag::RST, flag::SYN | flag::ACK] {
            world.untouched(hook, &tcp(client, service, flags).bytes());
        }
        let backend = ip.backend(5, 8080);
        let arrived = first(TCP, client, backend).ttl(63);
        world.takes(hook, &first(TCP, client, service), exit, &arrived);
        let more = data(TCP, client, backend).ttl(63);
        world.takes(hook, &data(TCP, client, service), exit, &more);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 16 passed, from_pod: 8 to a service, from_pod: 8 redirected, \
         from_pod: 4 new flows, from_net: 16 passed, from_net: 8 to a service, \
         from_net: 8 redirected, from_net: 4 new flows, to_net: 16 passed, \
         to_net: 8 to a service, to_net: 8 redirected, to_net: 4 new flows",
    );
}

/// Afterwards a connection that was lost is rebuilt, as ever.
pub fn unknown_tcp_connections_are_ours_afterwards(world: &mut dyn World, ip: Ip) {
    taking_over(world, ip);
    world.put_settings(&settings());
    let backend = ip.backend(5, 8080);
    for (hook, client, exit) in entrances(ip) {
        let arrived = data(TCP, client, backend).ttl(63);
        world.takes(hook, &data(TCP, client, ip.service(80)), exit, &arrived);
    }
    world.expect(
        "from_pod: 1 to a service, from_pod: 1 redirected, from_pod: 1 new flows, \
         from_net: 1 to a service, from_net: 1 redirected, from_net: 1 new flows, \
         to_net: 1 to a service, to_net: 1 redirected, to_net: 1 new flows, 6 tcp flows",
    );
}

/// What the agent has found in the kernel's table.
fn known_to_the_kernel(world: &mut dyn World, ip: Ip, proto: u8, client: std::net::SocketAddr) {
    let service = ip.service(80);
    world.put_kernel_flow(&KernelFlow { proto, client, service, backend: (1, 1) });
}

/// During the take-over and after it.
pub fn connections_of_the_kernel_pass(world: &mut dyn World, ip: Ip) {
    taking_over(world, ip);
    for take_over in [1, 0] {
        world.put_settings(&Settings { take_over, ..settings() });
        for (proto, (hook, client, _)) in
            PROTOCOLS.into_iter().flat_map(|proto| entrances(ip).map(|entrance| (proto, entrance)))
        {
            known_to_the_kernel(world, ip, proto, client);
            for _ in 0..3 {
                world.untouched(hook, &data(proto, client, ip.service(80)).bytes());
            }
            // The kernel has translated the answer before it leaves.
            world
                .to_pod(&data(proto, ip.service(80), client), &data(proto, ip.service(80), client));
            let answer = data(proto, ip.service(80), client);
            world.forwards(&answer, &answer);
            world.forget_flows(Forget::Everything);
        }
    }
    world.expect("from_pod: 12 passed, to_pod: 12 passed, from_net: 12 passed, to_net: 24 passed");
}

/// A client's port is used again.
pub fn new_tcp_connection_leaves_the_kernel(world: &mut dyn World, ip: Ip) {
    taking_over(world, ip);
    for (hook, client, exit) in entrances(ip) {
        known_to_the_kernel(world, ip, TCP, client);
        let backend = ip.backend(5, 8080);
        let arrived = first(TCP, client, backend).ttl(63);
        world.takes(hook, &first(TCP, client, ip.service(80)), exit, &arrived);
        let more = data(TCP, client, backend).ttl(63);
        world.takes(hook, &data(TCP, client, ip.service(80)), exit, &more);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 1 new flows, \
         from_net: 2 to a service, from_net: 2 redirected, from_net: 1 new flows, \
         to_net: 2 to a service, to_net: 2 redirected, to_net: 1 new flows",
    );
}

/// The next datagram goes to a backend that is there.
pub fn datagrams_leave_the_kernel_when_their_backend_is_gone(world: &mut dyn World, ip: Ip) {
    taking_over(world, ip);
    let gone = |generation| BackendSpec {
        id: 9,
        addr: ip.backend(9, 8080),
        generation,
        ifindex: IFINDEX,
        place: Place::Local,
    };
    for (hook, client, exit) in entrances(ip) {
        world.put_backend(gone(3));
        let service = ip.service(80);
        world.put_kernel_flow(&KernelFlow { proto: UDP, client, service, backend: (9, 3) });
        world.untouched(hook, &data(UDP, client, service).bytes());
        world.put_backend(gone(4));
        let arrived = data(UDP, client, ip.backend(5, 8080)).ttl(63);
        world.takes(hook, &data(UDP, client, service), exit, &arrived);
        world.takes(hook, &data(UDP, client, service), exit, &arrived);
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 1 passed, from_pod: 2 to a service, from_pod: 2 redirected, \
         from_pod: 1 new flows, from_net: 1 passed, from_net: 2 to a service, \
         from_net: 2 redirected, from_net: 1 new flows, to_net: 1 passed, \
         to_net: 2 to a service, to_net: 2 redirected, to_net: 1 new flows",
    );
}

/// I4: an error about a connection of the kernel's is the kernel's to translate.
pub fn errors_about_connections_of_the_kernel_pass(world: &mut dyn World, ip: Ip) {
    taking_over(world, ip);
    let kind = if ip.is_v6() { (1, 4) } else { (3, 3) };
    for (proto, (hook, client, _)) in
        PROTOCOLS.into_iter().flat_map(|proto| entrances(ip).map(|entrance| (proto, entrance)))
    {
        let service = ip.service(80);
        known_to_the_kernel(world, ip, proto, client);
        let answer = data(proto, service, client);
        let error = icmp(client.ip(), service.ip(), kind, 0, &answer.quote(100));
        world.untouched(hook, &error.bytes());
        world.forget_flows(Forget::Everything);
    }
    world.expect("from_pod: 2 passed, from_net: 2 passed, to_net: 2 passed");
}
