// SPDX-License-Identifier: Apache-2.0
//! Packets to a service address that nobody takes: their sender is told.

use std::{
    thread::available_parallelism,
    time::{Duration, Instant},
};

use std::net::SocketAddr;

use pintle_abi::{addr::proto, counter::Hook, drop_reason::DropReason, service::frontend_flags};

use super::{Ip, PROTOCOLS, data, first};
use crate::{
    frame::{Frame, flag, icmp, tcp},
    world::{FrontendSpec, Verdict, World},
};

/// The answer to a frame, from its destination: a reset, or "port unreachable", which quotes 8 bytes
/// of transport.
fn answer(refused: &Frame) -> Frame {
    let kind = if refused.src.is_ipv6() { (1, 4) } else { (3, 3) };
    let reset = |flags| tcp(refused.dst, refused.src, flags);
    match (refused.proto, refused.flags & flag::ACK) {
        // RFC 9293 3.10.7.1: it acknowledges the SYN, or takes the number that is expected.
        (proto::TCP, 0) => Frame { numbers: (0, 2, 0), ..reset(flag::RST | flag::ACK) },
        (proto::TCP, _) => Frame { numbers: (2, 0, 0), ..reset(flag::RST) },
        _ => icmp(refused.dst.ip(), refused.src.ip(), kind, 0, &refused.quote(8)),
    }
}

#[track_caller]
fn is_refused(world: &mut dyn World, frame: &Frame) {
    world.from_pod(frame, Verdict::Deliver, &answer(frame));
}

/// S6.
pub fn service_without_backends_is_refused(world: &mut dyn World, ip: Ip) {
    for proto in PROTOCOLS {
        world.service(ip.service(80), proto, 1, &[]);
        is_refused(world, &first(proto, ip.client(40000), ip.service(80)));
        is_refused(world, &data(proto, ip.client(40000), ip.service(80)).payload([7; 1000]));
    }
    world.expect("from_pod: 4 dropped (refused, no backend)");
}

/// S6.
pub fn service_without_backends_drops_silently_if_told_to(world: &mut dyn World, ip: Ip) {
    for proto in PROTOCOLS {
        world.service(ip.service(80), proto, 1, &[]);
        let silent = FrontendSpec::new(ip.service(80), proto, (0, 0)).flags(frontend_flags::DROP);
        world.put_frontend(&silent);
        world.drops(&first(proto, ip.client(40000), ip.service(80)));
    }
    world.expect("from_pod: 2 dropped (no backend)");
}

/// S7.
pub fn unknown_port_is_refused(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.client(40000), ip.backend(5, 80));
    for proto in PROTOCOLS {
        world.service(ip.service(80), proto, 1, &[backend]);
        is_refused(world, &first(proto, client, ip.service(81)));
        let expected = first(proto, client, backend).ttl(63);
        world.from_pod(&first(proto, client, ip.service(80)), Verdict::Deliver, &expected);
    }
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         from_pod: 2 dropped (refused, unknown port), 2 tcp flows, 2 udp flows",
    );
}

/// S7.
pub fn unsupported_protocol_is_refused(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), proto::TCP, 1, &[ip.backend(5, 80)]);
    for proto in [50, 47] {
        let address = |of: SocketAddr| SocketAddr::new(of.ip(), 0);
        let (src, dst) = (address(ip.client(0)), address(ip.service(0)));
        let frame = crate::frame::frame(src, dst, proto).payload([9; 20]);
        is_refused(world, &frame);
    }
    world.expect("from_pod: 2 dropped (unsupported protocol)");
}

/// S6. The budget is for a CPU and a window of an eighth of a second, so what may be told depends on
/// how long this takes: little on the host build and on this machine, much in an emulated one.
pub fn refusals_are_limited(world: &mut dyn World, ip: Ip) {
    const SENT: u64 = 6_000;
    const BUDGET: u64 = 1_000;
    const WINDOW: Duration = Duration::from_nanos(1 << 27);
    world.service(ip.service(80), proto::UDP, 1, &[]);
    let frame = first(proto::UDP, ip.client(40000), ip.service(80)).bytes();
    let start = Instant::now();
    for _ in 0..SENT {
        world.send_bytes(Hook::FromPod, &frame);
    }
    // A window may have begun before, and another may end later.
    let windows = (start.elapsed().as_nanos() / WINDOW.as_nanos()) as u64 + 2;
    let cpus = available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let told = world.dropped(Hook::FromPod, DropReason::Refused);
    let silent = world.dropped(Hook::FromPod, DropReason::RefusedSilently);
    assert_eq!(told + silent, SENT);
    assert!(told >= BUDGET, "{told} were told");
    assert!(told <= BUDGET * windows * cpus, "{told} were told in {windows} windows");
}

/// The quoted packet is complete up to 8 bytes of its transport header.
pub fn refusal_quotes_options(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), proto::UDP, 1, &[]);
    let frame = first(proto::UDP, ip.client(40000), ip.service(80));
    match ip {
        Ip::V4 => is_refused(world, &frame.options([1; 40])),
        Ip::V6 => {
            let frame = Frame { extensions: vec![(60, vec![0; 30])], ..frame };
            let expected =
                icmp(ip.service(0).ip(), ip.client(0).ip(), (1, 4), 0, &frame.quote(32 + 8));
            world.from_pod(&frame, Verdict::Deliver, &expected);
        }
    }
    world.expect("from_pod: 1 dropped (refused, no backend)");
}

/// A reset is not answered by a reset, and padding is no data that it would acknowledge.
pub fn reset_follows_the_packet_not_the_frame(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(80));
    world.service(service, proto::TCP, 1, &[]);
    world.drops(&tcp(client, service, flag::RST));
    let syn = tcp(client, service, flag::SYN);
    let padded = [syn.bytes(), vec![0; 6]].concat();
    let (verdict, bytes) = world.send_bytes(Hook::FromPod, &padded);
    assert_eq!((verdict, Frame::parse(&bytes)), (Verdict::Deliver, answer(&syn)));
    world.expect(
        "from_pod: 1 dropped (refused, no backend), \
         from_pod: 1 dropped (refused, answer suppressed)",
    );
}
