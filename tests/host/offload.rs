// SPDX-License-Identifier: Apache-2.0
//! I11: frames whose checksum is left to the device. The field then holds the sum of the
//! pseudo-header, and must hold that of the new one afterwards.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::counter::Hook;
use pintle_tests::{
    host_world::{HostWorld, Offload},
    vectors::{
        Ip, PROTOCOLS, data,
        scene::{Kind, put_remote},
    },
    world::{Forget, MASQUERADE, Verdict, World},
};

/// An address with the same words in another order, and another port.
fn swapped(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            IpAddr::from([c, d, a, b])
        }
        IpAddr::V6(ip) => {
            let [a, b, rest @ ..] = ip.segments();
            let [c, d, e, f, g, h] = rest;
            IpAddr::from([b, a, c, d, e, f, g, h])
        }
    };
    SocketAddr::new(ip, 8080)
}

#[test]
fn partial_checksums_stay_partial() {
    for ip in [Ip::V4, Ip::V6] {
        let mut world = HostWorld::new(Offload::Partial);
        let world: &mut dyn World = &mut world;
        let (client, service) = (ip.client(40000), ip.service(80));
        // The second has the sum of the service's address.
        let backends = [ip.backend(5, 8080), swapped(service)];
        for (protocol, backend) in PROTOCOLS.into_iter().flat_map(|p| backends.map(|b| (p, b))) {
            world.forget_flows(Forget::Everything);
            world.service(service, protocol, 1, &[backend]);
            let sent = data(protocol, client, service).partial_bytes();
            let expected = data(protocol, client, backend).ttl(63).partial_bytes();
            assert_eq!(world.send_bytes(Hook::FromPod, &sent), (Verdict::Deliver, expected));
            let reply = data(protocol, backend, client).partial_bytes();
            let expected = data(protocol, service, client).partial_bytes();
            assert_eq!(world.send_bytes(Hook::ToPod, &reply), (Verdict::Pass, expected));
        }
    }
}

#[test]
fn partial_checksums_of_masqueraded_clients_stay_partial() {
    for (ip, protocol) in [Ip::V4, Ip::V6].into_iter().flat_map(|ip| PROTOCOLS.map(|p| (ip, p))) {
        let mut world = HostWorld::new(Offload::Partial);
        let world: &mut dyn World = &mut world;
        // A port of the node's own range is kept.
        let (client, service) = (ip.outside(7, MASQUERADE.start), ip.node(30_080));
        let (node, backend) = (ip.node(MASQUERADE.start), ip.backend(5, 8080));
        put_remote(world, 1, backend);
        Kind::NodePort.expose(world, ip, protocol, (1, 1));
        let sent = data(protocol, client, service).partial_bytes();
        let expected = data(protocol, node, backend).ttl(63).partial_bytes();
        assert_eq!(world.send_bytes(Hook::FromNet, &sent), (Verdict::Deliver, expected));
        let reply = data(protocol, backend, node).partial_bytes();
        let expected = data(protocol, service, client).ttl(63).partial_bytes();
        assert_eq!(world.send_bytes(Hook::FromNet, &reply), (Verdict::Deliver, expected));
    }
}
