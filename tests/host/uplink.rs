// SPDX-License-Identifier: Apache-2.0
//! What takes a node with more than one interface: the way out decides the source of masqueraded
//! clients, and answers to the host come in where its requests went out.

use std::net::IpAddr;

use pintle_abi::{
    addr::{V4, V6},
    counter::Hook,
    device::Device,
};
use pintle_tests::{
    host_world::Place,
    vectors::{
        Ip, PROTOCOLS, data, first,
        scene::{Kind, is_masqueraded, put_near, put_remote},
    },
    world::{Exit, IFINDEX, World, device},
};

const UPLINK: u32 = 2;
const OVERLAY: u32 = 3;

/// An overlay whose own address is the node's address B.
fn overlay(ip: Ip) -> Device {
    match ip.node_b(0).ip() {
        IpAddr::V4(own) => Device { v4: V4::from(own), ..device() },
        IpAddr::V6(own) => Device { v6: V6::from(own), ..device() },
    }
}

fn both() -> impl Iterator<Item = (Ip, u8)> {
    [Ip::V4, Ip::V6].into_iter().flat_map(|ip| PROTOCOLS.map(|proto| (ip, proto)))
}

#[test]
fn masqueraded_client_has_the_address_of_the_way_out() {
    for (ip, proto) in both() {
        let mut world = crate::world();
        world.put_device_at(OVERLAY, &overlay(ip));
        world.place(Place { ifindex: UPLINK, way_out: OVERLAY, socket: None });
        let world: &mut dyn World = &mut world;
        put_remote(world, 1, ip.backend(5, 8080));
        Kind::NodePort.expose(world, ip, proto, (1, 1));
        let dialled = (ip.outside(7, 40000), ip.node(30_080));
        let ends = (ip.node_b(0), ip.backend(5, 8080));
        is_masqueraded(world, (Hook::FromNet, proto), dialled, ends);
    }
}

#[test]
fn host_has_the_address_of_the_way_out() {
    for (ip, proto) in both() {
        let mut world = crate::world();
        world.put_device_at(OVERLAY, &overlay(ip));
        // The routes to the service led out of the uplink, those to the backend lead elsewhere.
        world.place(Place { ifindex: UPLINK, way_out: OVERLAY, socket: None });
        put_remote(&mut world, 1, ip.backend(5, 8080));
        Kind::ClusterIp.expose(&mut world, ip, proto, (1, 1));
        let (host, service) = (ip.node(41000), ip.service(80));
        let ends = (ip.node_b(0), ip.backend(5, 8080));
        let node = is_masqueraded(&mut world, (Hook::ToNet, proto), (host, service), ends);
        // The answer comes in elsewhere, too; the stack waits for it at the uplink.
        world.place(Place { ifindex: OVERLAY, way_out: 0, socket: None });
        let reply = data(proto, ip.backend(5, 8080), node);
        let expected = data(proto, service, host);
        <dyn World>::takes(&mut world, Hook::FromNet, &reply, Exit::Host, &expected);
    }
}

#[test]
fn way_out_without_an_address_leaves_the_nodes() {
    for (ip, proto) in both() {
        let mut world = crate::world();
        world.put_device_at(OVERLAY, &device());
        world.place(Place { ifindex: UPLINK, way_out: OVERLAY, socket: None });
        let world: &mut dyn World = &mut world;
        put_remote(world, 1, ip.backend(5, 8080));
        Kind::NodePort.expose(world, ip, proto, (1, 1));
        let dialled = (ip.outside(7, 40000), ip.node(30_080));
        let ends = (ip.node(0), ip.backend(5, 8080));
        is_masqueraded(world, (Hook::FromNet, proto), dialled, ends);
    }
}

#[test]
fn interface_that_is_not_fast_leads_through_the_stack_both_ways() {
    for (ip, proto) in both() {
        let mut world = crate::world();
        world.put_device_at(UPLINK, &Device { flags: 0, ..device() });
        world.place(Place { ifindex: UPLINK, way_out: 0, socket: None });
        let (client, service, backend) =
            (ip.outside(7, 40000), ip.node(30_080), ip.backend(5, 8080));
        put_near(&mut world, 1, backend);
        Kind::NodePort.expose(&mut world, ip, proto, (1, 1));
        let (request, arrived) = (first(proto, client, service), first(proto, client, backend));
        <dyn World>::takes(&mut world, Hook::FromNet, &request, Exit::Next, &arrived);
        world.place(Place { ifindex: IFINDEX, way_out: 0, socket: None });
        let reply = data(proto, backend, client);
        <dyn World>::untouched(&mut world, Hook::FromPod, &reply.bytes());
        world.place(Place { ifindex: UPLINK, way_out: 0, socket: None });
        <dyn World>::forwards(&mut world, &reply, &data(proto, service, client));
    }
}
