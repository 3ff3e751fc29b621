// SPDX-License-Identifier: Apache-2.0
//! SCTP that is refused, dropped, quoted or of an unusual shape.

use pintle_abi::{addr::proto::SCTP, counter::Hook, settings::Settings};

use super::{Ip, data, first};
use crate::{
    frame::{Frame, INITIATE_TAG, chunk, icmp, sctp},
    world::{IFINDEX, KernelFlow, Verdict, World, settings},
};

/// The ABORT that answers a packet: an INIT by the tag that its sender chose, any other by its own.
fn abort(refused: &Frame) -> Frame {
    let is_init = refused.payload[0] == chunk::INIT;
    let (tag, flags) = if is_init { (INITIATE_TAG, 0) } else { (refused.numbers.0, 1) };
    let no_checksum = refused.no_checksum;
    Frame { numbers: (tag, 0, 0), no_checksum, ..sctp(refused.dst, refused.src, chunk::ABORT) }
        .payload([chunk::ABORT, flags, 0, 4])
}

/// S6, S7.
pub fn client_of_nobody_gets_an_abort(world: &mut dyn World, ip: Ip) {
    let client = ip.client(40000);
    world.service(ip.service(80), SCTP, 1, &[]);
    for port in [80, 81] {
        for frame in [first, data].map(|packet| packet(SCTP, client, ip.service(port))) {
            world.from_pod(&frame, Verdict::Deliver, &abort(&frame));
            let frame = Frame { no_checksum: true, ..frame };
            world.from_pod(&frame, Verdict::Deliver, &abort(&frame));
        }
    }
    world.expect(
        "from_pod: 4 dropped (refused, no backend), from_pod: 4 dropped (refused, unknown port)",
    );
}

/// Two ends without an association would send each other ABORTs for ever.
pub fn end_of_an_association_gets_no_abort(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), SCTP, 1, &[]);
    for kind in [chunk::ABORT, chunk::SHUTDOWN_COMPLETE] {
        world.drops(&sctp(ip.client(40000), ip.service(80), kind));
    }
    world.expect("from_pod: 2 dropped (refused, answer suppressed)");
}

/// C4: there is no overflow map.
pub fn full_flow_map_refuses_new_associations(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service(service, SCTP, 1, &[backend]);
    world.send(Hook::FromPod, &first(SCTP, client, service));
    world.fill_flows(ip.is_v6(), SCTP);
    world.drops(&first(SCTP, ip.client(40001), service));
    let expected = data(SCTP, client, backend).ttl(63);
    world.from_pod(&data(SCTP, client, service), Verdict::Deliver, &expected);
    world.expect_counters(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 1 new flows, \
         from_pod: 1 dropped (flow table full)",
    );
}

/// I11: a device fills it in.
pub fn checksum_of_a_device_stays_empty(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service(service, SCTP, 1, &[backend]);
    let empty = |frame: Frame| Frame { no_checksum: true, ..frame };
    let expected = empty(first(SCTP, client, backend)).ttl(63);
    world.from_pod(&empty(first(SCTP, client, service)), Verdict::Deliver, &expected);
    world.to_pod(&empty(data(SCTP, backend, client)), &empty(data(SCTP, service, client)));
    world.expect(
        "from_pod: 1 to a service, from_pod: 1 redirected, from_pod: 1 new flows, \
         to_pod: 1 from a service, 2 sctp flows",
    );
}

/// A checksum that is wrong stays wrong: its receiver drops the packet, as it would without us.
pub fn damaged_packet_stays_damaged(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service(service, SCTP, 1, &[backend]);
    let damaged = |frame: Frame| {
        let mut bytes = frame.bytes();
        let last = bytes.len() - 1;
        bytes[last] ^= 0x10;
        bytes
    };
    let went = world.send_bytes(Hook::FromPod, &damaged(first(SCTP, client, service)));
    assert_eq!(went, (Verdict::Deliver, damaged(first(SCTP, client, backend).ttl(63))));
}

/// Padding of the frame is not part of the packet.
pub fn padding_is_not_summed(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service(service, SCTP, 1, &[backend]);
    let padded = |frame: Frame| [frame.bytes(), vec![7; 6]].concat();
    let went = world.send_bytes(Hook::FromPod, &padded(first(SCTP, client, service)));
    assert_eq!(went, (Verdict::Deliver, padded(first(SCTP, client, backend).ttl(63))));
}

/// I8.
pub fn unusual_headers_are_kept(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service(service, SCTP, 1, &[backend]);
    let unusual = |frame: Frame| match ip {
        Ip::V4 => frame.options([1; 40]),
        Ip::V6 => Frame { extensions: vec![(60, vec![0; 6]), (43, vec![0; 14])], ..frame },
    };
    let expected = unusual(first(SCTP, client, backend)).ttl(63);
    world.from_pod(&unusual(first(SCTP, client, service)), Verdict::Deliver, &expected);
    world.to_pod(&unusual(data(SCTP, backend, client)), &unusual(data(SCTP, service, client)));
    world.expect(
        "from_pod: 1 to a service, from_pod: 1 redirected, from_pod: 1 new flows, \
         to_pod: 1 from a service, 2 sctp flows",
    );
}

/// I7: the checksum stands in the first, and depends on all.
pub fn fragments_are_dropped(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service(service, SCTP, 1, &[backend]);
    world.send(Hook::FromPod, &first(SCTP, client, service));
    let long = |src, dst| sctp(src, dst, chunk::DATA).payload([0x5a; 1000]).fragments(7, 512);
    for fragment in long(client, service) {
        world.drops(&fragment);
    }
    // Later ones of a reply have no ports, and are of no use to anybody.
    let [first, later] = &long(backend, client)[..] else { panic!("two fragments") };
    assert_eq!(world.send_bytes(Hook::FromPod, &first.bytes()).0, Verdict::Drop);
    assert_eq!(world.send_bytes(Hook::ToPod, &first.bytes()).0, Verdict::Drop);
    world.untouched(Hook::ToPod, &later.bytes());
    for fragment in long(client, backend) {
        world.untouched(Hook::FromPod, &fragment.bytes());
        world.untouched(Hook::ToPod, &fragment.bytes());
    }
    world.expect(
        "from_pod: 2 passed, from_pod: 1 to a service, from_pod: 1 redirected, \
         from_pod: 1 new flows, from_pod: 3 dropped (fragment without first), \
         to_pod: 3 passed, to_pod: 1 dropped (fragment without first), 2 sctp flows",
    );
}

/// I8.
pub fn truncated_packet_is_dropped(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), SCTP, 1, &[ip.backend(5, 80)]);
    let short = first(SCTP, ip.client(40000), ip.service(80)).payload([1, 0, 0]);
    world.drops(&short);
    world.untouched(Hook::ToPod, &short.bytes());
    world.expect("from_pod: 1 dropped (malformed), to_pod: 1 passed");
}

/// Type, code and the next four bytes: too big.
fn too_big(ip: Ip) -> ((u8, u8), u32) {
    match ip {
        Ip::V4 => ((3, 4), 1400),
        Ip::V6 => ((2, 0), 1400),
    }
}

/// I1, I2, I3: addresses and ports; the checksum of what is quoted stays as it was.
pub fn error_names_the_service(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service_behind(0, (service, SCTP), 1, &[backend]);
    world.send(Hook::FromPod, &first(SCTP, client, service));
    let (kind, rest) = too_big(ip);
    let header = if ip.is_v6() { 40 } else { 20 };
    for len in [8, 12, 20, 100] {
        let sent = data(SCTP, client, backend).quote(len);
        let mut expected = data(SCTP, client, service).quote(len);
        if len > 8 {
            expected[header + 8..header + 12].copy_from_slice(&sent[header + 8..header + 12]);
        }
        let error = |quoted: &[u8]| icmp(ip.router(), client.ip(), kind, rest, quoted);
        world.to_pod(&error(&sent), &error(&expected));
    }
    world.expect(
        "from_pod: 1 to a service, from_pod: 1 new flows, to_pod: 4 icmp errors, 2 sctp flows",
    );
}

/// I1.
pub fn error_of_the_client_reaches_the_backend(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service_behind(IFINDEX, (service, SCTP), 1, &[backend]);
    world.send(Hook::FromPod, &first(SCTP, client, service));
    let (kind, rest) = too_big(ip);
    let error = |quoted: Frame| icmp(client.ip(), quoted.src.ip(), kind, rest, &quoted.quote(8));
    let expected = error(data(SCTP, backend, client)).ttl(63);
    world.from_pod(&error(data(SCTP, service, client)), Verdict::Deliver, &expected);
    world.expect(
        "from_pod: 1 to a service, from_pod: 1 icmp errors, from_pod: 2 redirected, \
         from_pod: 1 new flows, 2 sctp flows",
    );
}

/// What kube-proxy opened stays with the kernel until the client asks again; what is not known while
/// it is taken over may be such an association.
pub fn association_of_the_kernel_is_left_to_it(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service(service, SCTP, 1, &[backend]);
    world.put_settings(&Settings { take_over: 1, ..settings() });
    world.untouched(Hook::FromPod, &data(SCTP, ip.client(40001), service).bytes());
    world.put_kernel_flow(&KernelFlow { proto: SCTP, client, service, backend: (1, 1) });
    world.put_settings(&settings());
    world.untouched(Hook::FromPod, &data(SCTP, client, service).bytes());
    world.untouched(Hook::ToPod, &data(SCTP, service, client).bytes());
    let expected = first(SCTP, client, backend).ttl(63);
    world.from_pod(&first(SCTP, client, service), Verdict::Deliver, &expected);
    world.expect(
        "from_pod: 2 passed, from_pod: 1 to a service, from_pod: 1 redirected, \
         from_pod: 1 new flows, to_pod: 1 passed, 2 sctp flows",
    );
}
