// SPDX-License-Identifier: Apache-2.0
//! A pod that reaches itself through a service.

use std::net::SocketAddr;

use super::{Ip, PROTOCOLS, data, first};
use crate::world::{IFINDEX, Verdict, World, hairpin_address};

/// S9: four packets, request and reply, each out of the pod and into it.
fn round_trip(world: &mut dyn World, ip: Ip, ifindex: u32) {
    let (client, service) = (ip.client(40000), ip.service(80));
    let itself = ip.client(8080);
    let disguised = SocketAddr::new(hairpin_address(ip.is_v6()), 40000);
    for proto in PROTOCOLS {
        world.service_behind(ifindex, (service, proto), 1, &[itself]);
        let request = first(proto, disguised, itself).ttl(63);
        world.from_pod(&first(proto, client, service), Verdict::Deliver, &request);
        let reply = data(proto, service, client).ttl(63);
        world.from_pod(&data(proto, itself, disguised), Verdict::Deliver, &reply);
        let more = data(proto, disguised, itself).ttl(63);
        world.from_pod(&data(proto, client, service), Verdict::Deliver, &more);
    }
    world.expect(
        "from_pod: 4 to a service, from_pod: 2 from a service, from_pod: 6 redirected, \
         from_pod: 2 new flows, 2 tcp flows, 2 udp flows",
    );
}

/// S9.
pub fn pod_reaches_itself(world: &mut dyn World, ip: Ip) {
    round_trip(world, ip, IFINDEX);
}

/// S9: the stack would not send a packet back to where it came from.
pub fn pod_reaches_itself_behind_the_stack(world: &mut dyn World, ip: Ip) {
    round_trip(world, ip, 0);
}
