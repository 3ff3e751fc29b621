// SPDX-License-Identifier: Apache-2.0
//! Fragments in any order of arrival: what waited for the first one arrives as well.

use pintle_abi::{addr::proto::UDP, counter::Hook};
use pintle_tests::{
    frame::{Frame, udp},
    host_world::{HostWorld, Offload},
    vectors::Ip,
    world::{Verdict, World},
};

/// Sends pieces in an order, and what the programs send anew; returns what is delivered.
fn delivered(world: &mut HostWorld, pieces: &[Frame], order: &[usize]) -> Vec<Vec<u8>> {
    let mut queue: Vec<Vec<u8>> = order.iter().rev().map(|index| pieces[*index].bytes()).collect();
    let mut delivered = Vec::new();
    while let Some(frame) = queue.pop() {
        let (verdict, bytes) = world.send_bytes(Hook::FromPod, &frame);
        if verdict == Verdict::Deliver {
            delivered.push(bytes);
        }
        queue.extend(world.reinjected());
    }
    delivered
}

#[test]
fn fragments_arrive_in_any_order() {
    for ip in [Ip::V4, Ip::V6] {
        let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
        let pieces = |frame: Frame| frame.payload([0x5a; 1000]).fragments(7, 400);
        let mut expected: Vec<_> =
            pieces(udp(client, backend).ttl(63)).iter().map(Frame::bytes).collect();
        expected.sort();
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut world = HostWorld::new(Offload::None);
            <dyn World>::service(&mut world, service, UDP, 1, &[backend]);
            let mut arrived = delivered(&mut world, &pieces(udp(client, service)), &order);
            arrived.sort();
            assert_eq!(arrived, expected, "{ip:?} in the order {order:?}");
        }
    }
}
