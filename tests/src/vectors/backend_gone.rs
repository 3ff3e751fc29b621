// SPDX-License-Identifier: Apache-2.0
//! Connections whose backend is given up.

use pintle_abi::{
    addr::proto::{TCP, UDP},
    service::frontend_flags,
};

use super::{Ip, data, first};
use crate::{
    frame::{flag, tcp},
    world::{BackendSpec, FrontendSpec, IFINDEX, Place, Verdict, World},
};

/// Another backend takes over, and the id of the first is given up.
fn replace_backend(world: &mut dyn World, ip: Ip, proto: u8) {
    world.service(ip.service(80), proto, 2, &[ip.backend(6, 80)]);
    give_up(world, ip);
}

fn give_up(world: &mut dyn World, ip: Ip) {
    let addr = ip.backend(5, 80);
    let place = Place::Local;
    world.put_backend(BackendSpec { id: 1, addr, generation: 2, ifindex: IFINDEX, place });
}

fn connect(world: &mut dyn World, ip: Ip, proto: u8) {
    world.service(ip.service(80), proto, 1, &[ip.backend(5, 80)]);
    let expected = first(proto, ip.client(40000), ip.backend(5, 80)).ttl(63);
    let frame = first(proto, ip.client(40000), ip.service(80));
    world.from_pod(&frame, Verdict::Deliver, &expected);
}

/// S5.
pub fn udp_moves_to_another_backend_at_once(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(80));
    connect(world, ip, UDP);
    replace_backend(world, ip, UDP);
    let expected = data(UDP, client, ip.backend(6, 80)).ttl(63);
    world.from_pod(&data(UDP, client, service), Verdict::Deliver, &expected);
    // An answer of the first that is still on its way.
    world.to_pod(&data(UDP, ip.backend(5, 80), client), &data(UDP, service, client));
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         to_pod: 1 from a service, 3 udp flows",
    );
}

/// S5.
pub fn tcp_continues_with_a_backend_that_is_gone(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 80));
    connect(world, ip, TCP);
    let answer = flag::SYN | flag::ACK;
    world.to_pod(&tcp(backend, client, answer), &tcp(service, client, answer));
    replace_backend(world, ip, TCP);
    // Its interface may be another pod's by now, so the stack looks for the way.
    world.from_pod(&data(TCP, client, service), Verdict::Pass, &data(TCP, client, backend));
    let syn = tcp(client, service, flag::SYN);
    world.from_pod(&syn, Verdict::Pass, &tcp(client, backend, flag::SYN));
    world.expect(
        "from_pod: 3 to a service, from_pod: 1 redirected, from_pod: 1 new flows, \
         to_pod: 1 from a service, 2 tcp flows",
    );
}

/// S5.
pub fn unanswered_tcp_moves_to_another_backend(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(80));
    connect(world, ip, TCP);
    replace_backend(world, ip, TCP);
    let expected = tcp(client, ip.backend(6, 80), flag::SYN).ttl(63);
    world.from_pod(&tcp(client, service, flag::SYN), Verdict::Deliver, &expected);
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, 3 tcp flows",
    );
}

/// S29.
pub fn udp_is_refused_while_there_is_no_backend(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(80));
    connect(world, ip, UDP);
    world.put_frontend(&FrontendSpec::new(service, UDP, (1, 0)).flags(frontend_flags::DROP));
    give_up(world, ip);
    world.drops(&data(UDP, client, service));
    world.service(service, UDP, 2, &[ip.backend(6, 80)]);
    let expected = data(UDP, client, ip.backend(6, 80)).ttl(63);
    world.from_pod(&data(UDP, client, service), Verdict::Deliver, &expected);
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         from_pod: 1 dropped (no backend), 3 udp flows",
    );
}
