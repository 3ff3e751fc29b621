// SPDX-License-Identifier: Apache-2.0
//! ICMP errors about packets of tracked connections, and other ICMP.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::{addr::proto, counter::Hook};

use super::{Ip, PROTOCOLS, data, first};
use crate::{
    frame::{Frame, icmp},
    world::{IFINDEX, Verdict, World},
};

/// Type, code and the next four bytes: unreachable port, time exceeded, too big.
pub(super) fn errors(ip: Ip) -> [((u8, u8), u32); 3] {
    match ip {
        Ip::V4 => [((3, 3), 0), ((11, 0), 0), ((3, 4), 1400)],
        Ip::V6 => [((1, 4), 0), ((3, 0), 0), ((2, 0), 1400)],
    }
}

/// Error from `src` to `dst` quoting `len` bytes behind the network header of a frame.
pub(super) fn about(
    quoted: &Frame,
    len: usize,
    src: IpAddr,
    dst: IpAddr,
    error: ((u8, u8), u32),
) -> Frame {
    icmp(src, dst, error.0, error.1, &quoted.quote(len))
}

struct Connection {
    client: SocketAddr,
    service: SocketAddr,
    backend: SocketAddr,
}

fn connect(world: &mut dyn World, ip: Ip, proto: u8, ifindex: u32) -> Connection {
    let (client, service) = (ip.client(40000), ip.service(80));
    let backend = ip.backend(5, 8080);
    world.service_behind(ifindex, (service, proto), 1, &[backend]);
    world.send(Hook::FromPod, &first(proto, client, service));
    Connection { client, service, backend }
}

/// I1, I2.
pub fn error_of_a_router_names_the_service(world: &mut dyn World, ip: Ip) {
    for proto in PROTOCOLS {
        let Connection { client, service, backend } = connect(world, ip, proto, 0);
        for error in errors(ip) {
            let (router, to) = (ip.router(), client.ip());
            let error = |quoted: Frame| about(&quoted, 100, router, to, error);
            let expected = error(data(proto, client, service));
            world.to_pod(&error(data(proto, client, backend)), &expected);
        }
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 new flows, to_pod: 6 icmp errors, \
         2 tcp flows, 2 udp flows",
    );
}

/// I1.
pub fn error_of_the_backend_comes_from_the_service(world: &mut dyn World, ip: Ip) {
    for proto in PROTOCOLS {
        let Connection { client, service, backend } = connect(world, ip, proto, IFINDEX);
        for error in errors(ip) {
            let error = |quoted: Frame| about(&quoted, 100, quoted.dst.ip(), client.ip(), error);
            let expected = error(data(proto, client, service)).ttl(63);
            world.from_pod(&error(data(proto, client, backend)), Verdict::Deliver, &expected);
        }
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 6 icmp errors, from_pod: 8 redirected, \
         from_pod: 2 new flows, 2 tcp flows, 2 udp flows",
    );
}

/// I1.
pub fn error_of_the_client_reaches_the_backend(world: &mut dyn World, ip: Ip) {
    for (proto, ifindex) in [(proto::TCP, IFINDEX), (proto::UDP, 0)] {
        let Connection { client, service, backend } = connect(world, ip, proto, ifindex);
        for error in errors(ip) {
            let error = |quoted: Frame| about(&quoted, 100, client.ip(), quoted.src.ip(), error);
            let expected = error(data(proto, backend, client));
            let (verdict, expected) = match ifindex {
                0 => (Verdict::Pass, expected),
                _ => (Verdict::Deliver, expected.ttl(63)),
            };
            world.from_pod(&error(data(proto, service, client)), verdict, &expected);
        }
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 6 icmp errors, from_pod: 4 redirected, \
         from_pod: 2 new flows, 2 tcp flows, 2 udp flows",
    );
}

/// I1: the way of an error is the way of a reply.
pub fn error_behind_the_stack_names_the_service(world: &mut dyn World, ip: Ip) {
    let Connection { client, service, backend } = connect(world, ip, proto::UDP, 0);
    let [unreachable, ..] = errors(ip);
    let error = |quoted: Frame| about(&quoted, 100, quoted.dst.ip(), client.ip(), unreachable);
    let on_its_way = error(data(proto::UDP, client, backend));
    world.untouched(Hook::FromPod, &on_its_way.bytes());
    world.to_pod(&on_its_way, &error(data(proto::UDP, client, service)));
    world.expect(
        "from_pod: 1 passed, from_pod: 1 to a service, from_pod: 1 new flows, \
         to_pod: 1 icmp errors, 2 udp flows",
    );
}

/// I3.
pub fn error_quotes_eight_bytes(world: &mut dyn World, ip: Ip) {
    for proto in PROTOCOLS {
        let Connection { client, service, backend } = connect(world, ip, proto, 0);
        for error in errors(ip) {
            for len in [8, 12, 18, 20] {
                let (router, to) = (ip.router(), client.ip());
                let error = |quoted: Frame| about(&quoted, len, router, to, error);
                let expected = error(data(proto, client, service));
                world.to_pod(&error(data(proto, client, backend)), &expected);
            }
        }
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 new flows, to_pod: 24 icmp errors, \
         2 tcp flows, 2 udp flows",
    );
}

/// I3.
pub fn error_quotes_options(world: &mut dyn World, ip: Ip) {
    let Connection { client, service, backend } = connect(world, ip, proto::TCP, 0);
    let unusual = |frame: Frame| match ip {
        Ip::V4 => frame.options([1; 40]),
        Ip::V6 => Frame { extensions: vec![(60, vec![0; 6]), (43, vec![0; 14])], ..frame },
    };
    for error in errors(ip) {
        for len in [32, 100] {
            let (router, to) = (ip.router(), client.ip());
            let error = |quoted: Frame| about(&unusual(quoted), len, router, to, error);
            let expected = error(data(proto::TCP, client, service));
            world.to_pod(&error(data(proto::TCP, client, backend)), &expected);
        }
    }
    world.expect(
        "from_pod: 1 to a service, from_pod: 1 new flows, to_pod: 6 icmp errors, 2 tcp flows",
    );
}

/// I4.
pub fn error_of_no_flow_is_dropped(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(80));
    world.service(service, proto::TCP, 1, &[ip.backend(5, 8080)]);
    for error in errors(ip) {
        let quoted = data(proto::TCP, service, client);
        world.drops(&about(&quoted, 100, client.ip(), service.ip(), error));
    }
    world.expect("from_pod: 3 dropped (icmp error of no flow)");
}

/// I4.
pub fn error_elsewhere_is_untouched(world: &mut dyn World, ip: Ip) {
    connect(world, ip, proto::TCP, 0);
    for error in errors(ip) {
        let quoted = data(proto::TCP, ip.client(40001), ip.backend(6, 80));
        let frame = about(&quoted, 100, ip.router(), ip.client(0).ip(), error);
        world.untouched(Hook::FromPod, &frame.bytes());
        world.untouched(Hook::ToPod, &frame.bytes());
        // Nothing quoted at all.
        let (kind, rest) = error;
        let frame = icmp(ip.router(), ip.client(0).ip(), kind, rest, &[]);
        world.untouched(Hook::ToPod, &frame.bytes());
    }
    world.expect(
        "from_pod: 3 passed, from_pod: 1 to a service, from_pod: 1 new flows, \
         to_pod: 6 passed, 2 tcp flows",
    );
}

fn echo(ip: Ip, src: IpAddr, dst: IpAddr) -> Frame {
    let kind = if ip.is_v6() { 128 } else { 8 };
    icmp(src, dst, (kind, 0), 0x0001_0001, b"ping")
}

/// I5.
pub fn echo_to_a_service_is_refused(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), proto::TCP, 1, &[ip.backend(5, 80)]);
    let echo = echo(ip, ip.client(0).ip(), ip.service(0).ip());
    let kind = if ip.is_v6() { (1, 4) } else { (3, 3) };
    let expected = icmp(echo.dst.ip(), echo.src.ip(), kind, 0, &echo.quote(8));
    world.from_pod(&echo, Verdict::Deliver, &expected);
    world.expect("from_pod: 1 dropped (unsupported protocol)");
}

/// I5.
pub fn echo_elsewhere_is_untouched(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), proto::TCP, 1, &[ip.backend(5, 80)]);
    let echo = echo(ip, ip.client(0).ip(), ip.backend(5, 0).ip());
    world.untouched(Hook::FromPod, &echo.bytes());
    world.untouched(Hook::ToPod, &echo.bytes());
    world.expect("from_pod: 1 passed, to_pod: 1 passed");
}
