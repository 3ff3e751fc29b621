// SPDX-License-Identifier: Apache-2.0
//! Packets of unusual shape, and broken ones.

use pintle_abi::{
    addr::proto::{TCP, UDP},
    counter::Hook,
};

use super::{Ip, PROTOCOLS, data, first};
use crate::{
    frame::{Frame, checksum, flag, tcp, udp},
    world::{IFINDEX, Verdict, World},
};

fn service(world: &mut dyn World, ip: Ip) {
    for proto in PROTOCOLS {
        world.service(ip.service(80), proto, 1, &[ip.backend(5, 8080)]);
    }
}

/// A frame to the service arrives at the backend, whatever is done to both.
#[track_caller]
fn arrives(world: &mut dyn World, ip: Ip, proto: u8, change: impl Fn(Frame) -> Frame) {
    let sent = change(data(proto, ip.client(40000), ip.service(80)));
    let expected = change(data(proto, ip.client(40000), ip.backend(5, 8080))).ttl(63);
    world.from_pod(&sent, Verdict::Deliver, &expected);
}

/// I8: header lengths from 5 to 15 words.
pub fn ipv4_options_are_kept(world: &mut dyn World, _: Ip) {
    service(world, Ip::V4);
    for proto in PROTOCOLS {
        for words in 0..=10 {
            arrives(world, Ip::V4, proto, |frame| frame.options(vec![1; words * 4]));
        }
    }
    world.expect(
        "from_pod: 22 to a service, from_pod: 22 redirected, from_pod: 2 new flows, \
         2 tcp flows, 2 udp flows",
    );
}

/// I8: chains of up to 8 extension headers, the longest behind the first.
pub fn extension_headers_are_kept(world: &mut dyn World, _: Ip) {
    service(world, Ip::V6);
    let all = [(0, 6), (60, 14), (43, 6), (60, 62), (60, 6), (60, 6), (60, 22), (60, 6)];
    for proto in PROTOCOLS {
        for count in 0..=8 {
            let chain = || all[..count].iter().map(|(kind, len)| (*kind, vec![0; *len])).collect();
            arrives(world, Ip::V6, proto, |frame| Frame { extensions: chain(), ..frame });
        }
    }
    world.expect(
        "from_pod: 18 to a service, from_pod: 18 redirected, from_pod: 2 new flows, \
         2 tcp flows, 2 udp flows",
    );
}

/// I8.
pub fn too_many_extension_headers_are_refused(world: &mut dyn World, _: Ip) {
    let ip = Ip::V6;
    service(world, ip);
    let chain = |count| vec![(60, vec![0; 6]); count];
    let frame = |dst, count| Frame { extensions: chain(count), ..data(TCP, ip.client(40000), dst) };
    let (verdict, answer) = world.send(Hook::FromPod, &frame(ip.service(80), 9));
    assert_eq!((verdict, answer.src.ip()), (Verdict::Deliver, ip.service(80).ip()));
    world.untouched(Hook::FromPod, &frame(ip.backend(6, 80), 9).bytes());
    world.untouched(Hook::ToPod, &frame(ip.backend(6, 80), 9).bytes());
    world
        .expect("from_pod: 1 passed, from_pod: 1 dropped (unsupported protocol), to_pod: 1 passed");
}

/// I8: there is nothing behind the header that an answer could quote.
pub fn no_next_header_is_refused(world: &mut dyn World, _: Ip) {
    let ip = Ip::V6;
    service(world, ip);
    world.drops(&crate::frame::frame(ip.client(0), ip.service(0), 59));
    let elsewhere = crate::frame::frame(ip.client(0), ip.backend(5, 0), 59).bytes();
    world.untouched(Hook::FromPod, &elsewhere);
    world.expect("from_pod: 1 passed, from_pod: 1 dropped (refused, answer suppressed)");
}

/// I8: the frame is longer than the packet in it.
pub fn padding_is_kept(world: &mut dyn World, ip: Ip) {
    service(world, ip);
    for proto in PROTOCOLS {
        let padded = |frame: Frame| [frame.bytes(), vec![0xee; 13]].concat();
        let sent = padded(first(proto, ip.client(40000), ip.service(80)));
        let expected = padded(first(proto, ip.client(40000), ip.backend(5, 8080)).ttl(63));
        assert_eq!(world.send_bytes(Hook::FromPod, &sent), (Verdict::Deliver, expected));
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         2 tcp flows, 2 udp flows",
    );
}

/// I8: cut off anywhere behind the network header.
pub fn truncated_packet_is_dropped(world: &mut dyn World, ip: Ip) {
    service(world, ip);
    let network = if ip.is_v6() { 54 } else { 34 };
    let mut cuts = 0;
    for (proto, transport) in [(TCP, 20), (UDP, 8)] {
        for len in network..network + transport {
            let to_service = data(proto, ip.client(40000), ip.service(80)).bytes();
            let (verdict, _) = world.send_bytes(Hook::FromPod, &to_service[..len]);
            assert_eq!(verdict, Verdict::Drop, "cut to {len} bytes");
            let elsewhere = data(proto, ip.client(40000), ip.backend(5, 80)).bytes();
            world.untouched(Hook::FromPod, &elsewhere[..len]);
            world.untouched(Hook::ToPod, &elsewhere[..len]);
            cuts += 1;
        }
    }
    assert_eq!(cuts, 28);
    world.expect("from_pod: 28 passed, from_pod: 28 dropped (malformed), to_pod: 28 passed");
}

/// I8: a header length or total length that cannot be.
pub fn contradictory_header_is_dropped(world: &mut dyn World, ip: Ip) {
    service(world, ip);
    let broken: &[(usize, &[u8])] = match ip {
        Ip::V4 => &[(14, &[0x44]), (14, &[0x40]), (16, &[0, 19]), (16, &[0, 30]), (16, &[9, 0])],
        Ip::V6 => &[(18, &[0, 1]), (18, &[0, 19]), (18, &[9, 0])],
    };
    for (offset, bytes) in broken {
        let mut frame = data(TCP, ip.client(40000), ip.service(80)).bytes();
        frame[*offset..offset + bytes.len()].copy_from_slice(bytes);
        let (verdict, _) = world.send_bytes(Hook::FromPod, &frame);
        assert_eq!(verdict, Verdict::Drop, "{bytes:02x?} at {offset}");
    }
    let malformed = broken.len();
    world.expect(&format!("from_pod: {malformed} dropped (malformed)"));
}

/// I9: the stack tells the sender; on the way back it must be the backend's own packet.
pub fn last_hop_goes_to_the_stack(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.client(40000), ip.backend(5, 8080));
    for proto in PROTOCOLS {
        world.service_behind(IFINDEX, (ip.service(80), proto), 1, &[backend]);
        let sent = first(proto, client, ip.service(80)).ttl(1);
        world.from_pod(&sent, Verdict::Pass, &first(proto, client, backend).ttl(1));
        world.untouched(Hook::FromPod, &data(proto, backend, client).ttl(1).bytes());
    }
    world.expect(
        "from_pod: 2 passed, from_pod: 2 to a service, from_pod: 2 new flows, \
         2 tcp flows, 2 udp flows",
    );
}

/// I10.
pub fn udp_without_checksum_stays_without(world: &mut dyn World, ip: Ip) {
    service(world, ip);
    arrives(world, ip, UDP, |frame| Frame { no_checksum: true, ..frame });
    world.expect(
        "from_pod: 1 to a service, from_pod: 1 redirected, from_pod: 1 new flows, 2 udp flows",
    );
}

/// I10: a sum of zero is sent as all ones; zero would say that there is none.
pub fn udp_checksum_is_never_zero(world: &mut dyn World, ip: Ip) {
    service(world, ip);
    // The payload's last word is chosen so that the translated datagram's sum is all ones.
    let zero = |frame: Frame| {
        let frame = frame.payload([0, 0]);
        let bytes = frame.bytes();
        let sum = [bytes[bytes.len() - 4], bytes[bytes.len() - 3]];
        frame.payload(sum)
    };
    let translated = zero(udp(ip.client(40000), ip.backend(5, 8080)).ttl(63));
    let bytes = translated.bytes();
    assert_eq!(bytes[bytes.len() - 4..bytes.len() - 2], [0xff, 0xff], "{}", checksum(&[&bytes]));
    let sent = udp(ip.client(40000), ip.service(80)).payload(translated.payload.clone());
    world.from_pod(&sent, Verdict::Deliver, &translated);
    // TCP has no such rule, and its checksum may be zero.
    let syn = tcp(ip.client(40000), ip.service(80), flag::SYN);
    let expected = tcp(ip.client(40000), ip.backend(5, 8080), flag::SYN).ttl(63);
    world.from_pod(&syn, Verdict::Deliver, &expected);
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         2 tcp flows, 2 udp flows",
    );
}
