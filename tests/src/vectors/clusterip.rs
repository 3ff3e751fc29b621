// SPDX-License-Identifier: Apache-2.0
//! Connections to a ClusterIP, both ways.

use pintle_abi::{addr::proto, counter::Hook};

use super::{Ip, PROTOCOLS, data, first};
use crate::{
    frame::{flag, tcp},
    world::{Forget, FrontendSpec, Table, Verdict, World},
};

/// S1.
pub fn first_packet_goes_to_a_backend(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    for proto in PROTOCOLS {
        world.service(service, proto, 1, &[backend]);
        let expected = first(proto, client, backend).ttl(63);
        world.from_pod(&first(proto, client, service), Verdict::Deliver, &expected);
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         2 tcp flows, 2 udp flows",
    );
}

/// S2.
pub fn reply_comes_from_the_service(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(80));
    for (proto, backend) in PROTOCOLS.into_iter().zip([ip.backend(5, 8080), ip.backend(6, 80)]) {
        world.service(service, proto, 1 + u32::from(proto), &[backend]);
        let expected = first(proto, client, backend).ttl(63);
        world.from_pod(&first(proto, client, service), Verdict::Deliver, &expected);
        let expected = data(proto, service, client).ttl(63);
        world.from_pod(&data(proto, backend, client), Verdict::Deliver, &expected);
        let expected = data(proto, client, backend).ttl(63);
        world.from_pod(&data(proto, client, service), Verdict::Deliver, &expected);
        // The same reply through the stack.
        world.to_pod(&data(proto, backend, client), &data(proto, service, client));
    }
    world.expect(
        "from_pod: 4 to a service, from_pod: 2 from a service, from_pod: 6 redirected, \
         from_pod: 2 new flows, to_pod: 2 from a service, 2 tcp flows, 2 udp flows",
    );
}

/// S2.
pub fn reply_comes_from_the_service_after_its_removal(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    for proto in PROTOCOLS {
        world.service(service, proto, 1, &[backend]);
        let expected = first(proto, client, backend).ttl(63);
        world.from_pod(&first(proto, client, service), Verdict::Deliver, &expected);
        world.remove_frontend(&FrontendSpec::new(service, proto, (1, 1)));
        let expected = data(proto, service, client).ttl(63);
        world.from_pod(&data(proto, backend, client), Verdict::Deliver, &expected);
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 from a service, from_pod: 4 redirected, \
         from_pod: 2 new flows, 2 tcp flows, 2 udp flows",
    );
}

/// What cannot be redirected takes the way of any routed packet, and its reply too.
pub fn remote_backend_is_reached_through_the_stack(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    for proto in PROTOCOLS {
        world.service_behind(0, (service, proto), 1, &[backend]);
        let expected = first(proto, client, backend);
        world.from_pod(&first(proto, client, service), Verdict::Pass, &expected);
        world.to_pod(&data(proto, backend, client), &data(proto, service, client));
        // What the backend's own node would see stays as it is.
        world.untouched(Hook::ToPod, &data(proto, client, backend).bytes());
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 new flows, to_pod: 2 passed, \
         to_pod: 2 from a service, 2 tcp flows, 2 udp flows",
    );
}

/// S3.
pub fn retransmitted_syn_goes_to_the_same_backend(world: &mut dyn World, ip: Ip) {
    let backends = [ip.backend(5, 80), ip.backend(6, 80), ip.backend(7, 80)];
    world.service(ip.service(80), proto::TCP, 1, &backends);
    let syn = tcp(ip.client(40000), ip.service(80), flag::SYN);
    let (verdict, sent) = world.send(Hook::FromPod, &syn);
    // Other backends for new connections.
    world.service(ip.service(80), proto::TCP, 11, &[ip.backend(8, 80), ip.backend(9, 80)]);
    world.from_pod(&syn, verdict, &sent);
    world.from_pod(&syn, verdict, &sent);
    world.expect(
        "from_pod: 3 to a service, from_pod: 3 redirected, from_pod: 1 new flows, 2 tcp flows",
    );
}

/// S3.
pub fn retransmitted_syn_goes_to_the_same_backend_after_its_flow_was_lost(
    world: &mut dyn World,
    ip: Ip,
) {
    let backends = [ip.backend(5, 80), ip.backend(6, 80), ip.backend(7, 80)];
    world.service(ip.service(80), proto::TCP, 1, &backends);
    for port in 40_000..40_010 {
        let syn = tcp(ip.client(port), ip.service(80), flag::SYN);
        let (verdict, sent) = world.send(Hook::FromPod, &syn);
        world.forget_flows(Forget::Everything);
        world.from_pod(&syn, verdict, &sent);
    }
    world.expect(
        "from_pod: 20 to a service, from_pod: 20 redirected, from_pod: 20 new flows, 2 tcp flows",
    );
}

/// S8.
pub fn tcp_and_udp_share_a_port_number(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(53));
    world.service(service, proto::TCP, 1, &[ip.backend(5, 53)]);
    world.service(service, proto::UDP, 2, &[ip.backend(6, 53)]);
    let expected = first(proto::TCP, client, ip.backend(5, 53)).ttl(63);
    world.from_pod(&first(proto::TCP, client, service), Verdict::Deliver, &expected);
    let expected = first(proto::UDP, client, ip.backend(6, 53)).ttl(63);
    world.from_pod(&first(proto::UDP, client, service), Verdict::Deliver, &expected);
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         2 tcp flows, 2 udp flows",
    );
}

/// S30.
pub fn services_share_a_backend(world: &mut dyn World, ip: Ip) {
    let backend = ip.backend(5, 8080);
    for service in [ip.service(80), ip.other_service(80)] {
        world.service(service, proto::TCP, 1, &[backend]);
    }
    world.remove_frontend(&FrontendSpec::new(ip.service(80), proto::TCP, (1, 1)));
    let syn = first(proto::TCP, ip.client(40000), ip.other_service(80));
    let expected = first(proto::TCP, ip.client(40000), backend).ttl(63);
    world.from_pod(&syn, Verdict::Deliver, &expected);
    world.expect(
        "from_pod: 1 to a service, from_pod: 1 redirected, from_pod: 1 new flows, 2 tcp flows",
    );
}

/// A client may use one port for two services, which may lead to one backend.
pub fn one_client_port_reaches_one_backend_through_two_services(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.client(40000), ip.backend(5, 8080));
    let (one, two) = (ip.service(80), ip.other_service(80));
    for proto in PROTOCOLS {
        world.service(one, proto, 1, &[backend]);
        world.service(two, proto, 1, &[backend]);
        let expected = first(proto, client, backend).ttl(63);
        world.from_pod(&first(proto, client, one), Verdict::Deliver, &expected);
        let (verdict, moved) = world.send(Hook::FromPod, &first(proto, client, two));
        assert_eq!(verdict, Verdict::Deliver);
        assert!((61_000..65_500).contains(&moved.src.port()), "moved to {}", moved.src);
        assert_eq!(moved, first(proto, ip.client(moved.src.port()), backend).ttl(63));

        let expected = data(proto, one, client).ttl(63);
        world.from_pod(&data(proto, backend, client), Verdict::Deliver, &expected);
        let expected = data(proto, two, client).ttl(63);
        world.from_pod(&data(proto, backend, moved.src), Verdict::Deliver, &expected);
    }
    world.expect(
        "from_pod: 4 to a service, from_pod: 4 from a service, from_pod: 8 redirected, \
         from_pod: 4 new flows, from_pod: 2 moved source ports, 4 tcp flows, 4 udp flows",
    );
}

/// A port that was moved once stays where it is.
pub fn moved_connection_keeps_its_port(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.client(40000), ip.backend(5, 8080));
    let (one, two) = (ip.service(80), ip.other_service(80));
    for proto in PROTOCOLS {
        world.service(one, proto, 1, &[backend]);
        world.service(two, proto, 1, &[backend]);
        world.send(Hook::FromPod, &first(proto, client, one));
        let (_, moved) = world.send(Hook::FromPod, &first(proto, client, two));
        let expected = data(proto, moved.src, backend).ttl(63);
        world.from_pod(&data(proto, client, two), Verdict::Deliver, &expected);
    }
    world.expect(
        "from_pod: 6 to a service, from_pod: 6 redirected, from_pod: 4 new flows, \
         from_pod: 2 moved source ports, 4 tcp flows, 4 udp flows",
    );
}

/// 10,000 tuples over three backends, within 5 %.
pub fn tuples_spread_evenly(world: &mut dyn World, ip: Ip) {
    let backends = [ip.backend(5, 80), ip.backend(6, 80), ip.backend(7, 80)];
    world.service(ip.service(80), proto::UDP, 1, &backends);
    let mut hits = [0_usize; 3];
    for round in 0..25 {
        for port in 0..400 {
            let client = ip.client(20_000 + round * 400 + port);
            world.send(Hook::FromPod, &first(proto::UDP, client, ip.service(80)));
        }
        for flow in world.flows(ip.is_v6(), proto::UDP, Table::Main) {
            hits[flow.backend as usize - 1] += 1;
        }
        world.forget_flows(Forget::Everything);
    }
    // Two entries for each tuple.
    let third = 20_000 / 3;
    let even = hits.iter().all(|hits| hits.abs_diff(third) * 20 < third);
    assert!(even, "backends were chosen {hits:?} times");
    world.expect(
        "from_pod: 10000 to a service, from_pod: 10000 redirected, from_pod: 10000 new flows",
    );
}

/// I12: what dials no service address is not ours, whatever its protocol.
pub fn other_traffic_is_untouched(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), proto::TCP, 1, &[ip.backend(5, 80)]);
    for proto in [proto::TCP, proto::UDP, proto::SCTP, 47] {
        let frame = first(proto::UDP, ip.client(40000), ip.backend(6, 80));
        let bytes = crate::frame::Frame { proto, ..frame }.bytes();
        world.untouched(Hook::FromPod, &bytes);
        world.untouched(Hook::ToPod, &bytes);
    }
    // ARP.
    let mut arp = vec![0; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    world.untouched(Hook::FromPod, &arp);
    world.expect("from_pod: 4 passed, to_pod: 4 passed");
}
