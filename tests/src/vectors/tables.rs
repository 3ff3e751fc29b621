// SPDX-License-Identifier: Apache-2.0
//! Flow maps that are full.

use super::{Ip, PROTOCOLS, data, first};
use crate::world::{Table, Verdict, World};

fn entries(world: &dyn World, ip: Ip, proto: u8) -> (usize, usize) {
    let count = |table| world.flows(ip.is_v6(), proto, table).len();
    (count(Table::Main), count(Table::Overflow))
}

/// C4.
pub fn full_flow_map_overflows(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    for proto in PROTOCOLS {
        world.service(service, proto, 1, &[backend]);
        world.fill_flows(ip.is_v6(), proto);
        let full = entries(world, ip, proto);
        let expected = first(proto, client, backend).ttl(63);
        world.from_pod(&first(proto, client, service), Verdict::Deliver, &expected);
        assert_eq!(entries(world, ip, proto), (full.0, 2));
    }
    world.expect_counters(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         from_pod: 4 overflow flows",
    );
}

/// C4.
pub fn overflowed_flow_is_found_again(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    for proto in PROTOCOLS {
        world.service(service, proto, 1, &[backend]);
        world.fill_flows(ip.is_v6(), proto);
        let expected = first(proto, client, backend).ttl(63);
        world.from_pod(&first(proto, client, service), Verdict::Deliver, &expected);
        let expected = data(proto, service, client).ttl(63);
        world.from_pod(&data(proto, backend, client), Verdict::Deliver, &expected);
        let expected = data(proto, client, backend).ttl(63);
        world.from_pod(&data(proto, client, service), Verdict::Deliver, &expected);
        world.to_pod(&data(proto, backend, client), &data(proto, service, client));
    }
    world.expect_counters(
        "from_pod: 4 to a service, from_pod: 2 from a service, from_pod: 6 redirected, \
         from_pod: 2 new flows, from_pod: 4 overflow flows, to_pod: 2 from a service",
    );
}

/// A flood fills the maps behind a connection, which goes on.
pub fn established_survives_a_full_map(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    for proto in PROTOCOLS {
        world.service(service, proto, 1, &[backend]);
        world.from_pod(
            &first(proto, client, service),
            Verdict::Deliver,
            &first(proto, client, backend).ttl(63),
        );
        world.fill_flows(ip.is_v6(), proto);
        for port in 0..100 {
            world.send_bytes(
                pintle_abi::counter::Hook::FromPod,
                &first(proto, ip.client(1000 + port), service).bytes(),
            );
        }
        let expected = data(proto, client, backend).ttl(63);
        world.from_pod(&data(proto, client, service), Verdict::Deliver, &expected);
        world.to_pod(&data(proto, backend, client), &data(proto, service, client));
    }
    world.expect_counters(
        "from_pod: 204 to a service, from_pod: 204 redirected, from_pod: 202 new flows, \
         from_pod: 400 overflow flows, to_pod: 2 from a service",
    );
}
