// SPDX-License-Identifier: Apache-2.0
//! Fragmented datagrams.

use pintle_abi::{addr::proto::UDP, counter::Hook};

use super::{Ip, data};
use crate::{
    frame::{Frame, udp},
    world::{Verdict, World},
};

/// A request in three pieces of 400 bytes or less, as it is sent and as the backend gets it.
fn request(ip: Ip, port: u16, id: u32) -> Vec<(Frame, Frame)> {
    let (client, service, backend) = (ip.client(port), ip.service(80), ip.backend(5, 8080));
    // The destination options stand before the fragment header.
    let before = |frame: Frame| match ip {
        Ip::V4 => frame,
        Ip::V6 => Frame { extensions: vec![(60, vec![0; 6])], ..frame },
    };
    let pieces = |frame: Frame| before(frame).payload([0x5a; 1000]).fragments(id, 400);
    let sent = pieces(udp(client, service));
    sent.into_iter().zip(pieces(udp(client, backend).ttl(63))).collect()
}

#[track_caller]
fn arrives(world: &mut dyn World, (sent, expected): &(Frame, Frame)) {
    let (verdict, bytes) = world.send_bytes(Hook::FromPod, &sent.bytes());
    assert_eq!((verdict, bytes), (Verdict::Deliver, expected.bytes()));
}

/// I7.
pub fn fragments_follow_their_first(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), UDP, 1, &[ip.backend(5, 8080)]);
    let pieces = request(ip, 40000, 7);
    for index in [0, 1, 2, 2, 0, 1] {
        arrives(world, &pieces[index]);
    }
    world.expect(
        "from_pod: 6 to a service, from_pod: 6 redirected, from_pod: 1 new flows, 2 udp flows",
    );
}

/// I7.
pub fn fragmented_reply_comes_from_the_service(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.service(service, UDP, 1, &[backend]);
    world.send(Hook::FromPod, &data(UDP, client, service));
    let reply = |src, ttl| udp(src, client).ttl(ttl).payload([1; 1000]).fragments(9, 400);
    for (sent, fast) in reply(backend, 64).iter().zip(reply(service, 63)) {
        let arrived = world.send_bytes(Hook::FromPod, &sent.bytes());
        assert_eq!(arrived, (Verdict::Deliver, fast.bytes()));
    }
    for (sent, slow) in reply(backend, 64).iter().zip(reply(service, 64)) {
        let arrived = world.send_bytes(Hook::ToPod, &sent.bytes());
        assert_eq!(arrived, (Verdict::Pass, slow.bytes()));
    }
    world.expect(
        "from_pod: 1 to a service, from_pod: 3 from a service, from_pod: 4 redirected, \
         from_pod: 1 new flows, to_pod: 3 from a service, 2 udp flows",
    );
}

/// I7: later fragments wait; the first one finds its buffer as it was after they were sent in it.
pub fn later_fragments_wait_for_their_first(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), UDP, 1, &[ip.backend(5, 8080)]);
    let pieces = request(ip, 40000, 7);
    world.drops(&pieces[2].0);
    world.drops(&pieces[1].0);
    // Another datagram's first fragment does not release them.
    arrives(world, &request(ip, 40001, 8)[0]);
    arrives(world, &pieces[0]);
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         from_pod: 2 held fragments, from_pod: 2 released fragments, 4 udp flows",
    );
}

/// I7: there are places for eight fragments of a datagram.
pub fn fragment_without_place_is_dropped(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), UDP, 1, &[ip.backend(5, 8080)]);
    let frame = udp(ip.client(40000), ip.service(80)).payload([3; 1000]);
    for piece in &frame.fragments(7, 96)[1..] {
        world.drops(piece);
    }
    world.expect("from_pod: 8 held fragments, from_pod: 2 dropped (fragment without first)");
}

/// Fragments between pods are none of our business, in whatever order.
pub fn fragment_elsewhere_is_untouched(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), UDP, 1, &[ip.backend(5, 8080)]);
    let frame = udp(ip.client(40000), ip.backend(6, 80)).payload([1; 1000]);
    let mut pieces = frame.fragments(7, 400);
    pieces.swap(0, 1);
    for piece in pieces {
        world.untouched(Hook::FromPod, &piece.bytes());
        world.untouched(Hook::ToPod, &piece.bytes());
    }
    world.expect("from_pod: 3 passed, to_pod: 3 passed");
}

/// I7.
pub fn reused_identification_follows_the_new_first(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), UDP, 1, &[ip.backend(5, 8080)]);
    for port in [40000, 40001] {
        request(ip, port, 7).iter().for_each(|piece| arrives(world, piece));
    }
    world.expect(
        "from_pod: 6 to a service, from_pod: 6 redirected, from_pod: 2 new flows, 4 udp flows",
    );
}

/// I7.
pub fn old_first_fragment_is_forgotten(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), UDP, 1, &[ip.backend(5, 8080)]);
    let pieces = request(ip, 40000, 7);
    arrives(world, &pieces[0]);
    // An answered flow is kept for longer.
    let (client, backend) = (ip.client(40000), ip.backend(5, 8080));
    world.to_pod(&data(UDP, backend, client), &data(UDP, ip.service(80), client));
    world.age_fragments(31_000_000_000);
    world.drops(&pieces[1].0);
    arrives(world, &pieces[0]);
    arrives(world, &pieces[1]);
    world.expect(
        "from_pod: 3 to a service, from_pod: 3 redirected, from_pod: 1 new flows, \
         from_pod: 1 held fragments, from_pod: 1 released fragments, to_pod: 1 from a service, 2 udp flows",
    );
}
