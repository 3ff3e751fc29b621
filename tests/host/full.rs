// SPDX-License-Identifier: Apache-2.0
//! What only the host can show: a kernel that has no memory for a flow anywhere.

use pintle_abi::{
    addr::{V4, V6, proto},
    counter::Hook,
    flow::is_expired,
};
use pintle_ebpf::kernel;
use pintle_tests::{
    host_world::{HostWorld, Offload, fill_overflow},
    vectors::{Ip, PROTOCOLS, first},
    world::World,
};

#[test]
fn connection_is_dropped_when_both_maps_are_full() {
    for ip in [Ip::V4, Ip::V6] {
        let mut world = crate::world();
        let world: &mut dyn World = &mut world;
        for protocol in PROTOCOLS {
            world.service(ip.service(80), protocol, 1, &[ip.backend(5, 8080)]);
            world.fill_flows(ip.is_v6(), protocol);
            match ip {
                Ip::V4 => fill_overflow::<V4>(protocol),
                Ip::V6 => fill_overflow::<V6>(protocol),
            }
            world.drops(&first(protocol, ip.client(40000), ip.service(80)));
        }
        world.expect_counters("from_pod: 2 overflow flows, from_pod: 2 dropped (flow table full)");
    }
}

#[test]
fn connection_is_dropped_when_no_source_port_is_left() {
    let mut world = HostWorld::new(Offload::None);
    kernel::limit(u32::MAX);
    let world: &mut dyn World = &mut world;
    let ip = Ip::V4;
    for service in [ip.service(80), ip.other_service(80)] {
        world.service(service, proto::UDP, 1, &[ip.backend(5, 8080)]);
    }
    // Every port of the range is taken by a connection of the same client to the other service.
    for port in (61_000..65_500).chain([40_000]) {
        let request = first(proto::UDP, ip.client(port), ip.service(80));
        world.send_bytes(Hook::FromPod, &request.bytes());
    }
    world.drops(&first(proto::UDP, ip.client(40000), ip.other_service(80)));
    world.expect(
        "from_pod: 4501 to a service, from_pod: 4501 redirected, from_pod: 4501 new flows, \
         from_pod: 1 dropped (no source port), 9002 udp flows",
    );
}

/// C6.
#[test]
fn clock_may_wrap_and_differ_between_cpus() {
    assert!(!is_expired(5, u64::MAX - 4, 10));
    assert!(is_expired(6, u64::MAX - 4, 10));
    assert!(!is_expired(100, 105, 10));
}
