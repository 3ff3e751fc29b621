// SPDX-License-Identifier: Apache-2.0
//! What the kernel's forwarding table says is used again by busy connections, for a moment.

use pintle_abi::{addr::proto::UDP, counter::Hook, exit::EXIT_SHIFT};
use pintle_ebpf::kernel;
use pintle_tests::{
    host_world::{HostWorld, Offload},
    vectors::{
        Ip, data,
        scene::{Kind, is_masqueraded, put_remote},
    },
    world::{Exit, World},
};

/// A connection to another node, and how many packets of it XDP has sent on so far.
fn connected(ip: Ip) -> (HostWorld, impl Fn(&mut HostWorld) -> bool) {
    let mut world = HostWorld::with_xdp(Offload::None);
    // Far from the next second, whose first packet tc takes.
    kernel::advance(200_000_000);
    let (client, service) = (ip.outside(7, 40000), Kind::NodePort.address(ip));
    let backend = ip.backend(5, 8080);
    put_remote(&mut world, 1, backend);
    Kind::NodePort.expose(&mut world, ip, UDP, (1, 1));
    let node =
        is_masqueraded(&mut world, (Hook::FromNet, UDP), (client, service), (ip.node(0), backend));
    let sends_early = move |world: &mut HostWorld| {
        let early =
            |world: &dyn World| world.count(Hook::Xdp, pintle_abi::counter::Counter::Forward);
        let before = early(world);
        let arrived = data(UDP, node, backend).ttl(63);
        let world: &mut dyn World = world;
        world.takes(Hook::FromNet, &data(UDP, client, service), Exit::Routes, &arrived);
        early(world) > before
    };
    (world, sends_early)
}

#[test]
fn an_answer_holds_for_a_moment() {
    for ip in [Ip::V4, Ip::V6] {
        let (mut world, sends_early) = connected(ip);
        assert!(sends_early(&mut world));
        world.close_exits();
        assert!(sends_early(&mut world), "the answer is known");
        kernel::advance(1 << EXIT_SHIFT);
        assert!(!sends_early(&mut world), "there is another by now");
    }
}

#[test]
fn connections_that_are_not_busy_ask_every_time() {
    let (mut world, sends_early) = connected(Ip::V4);
    kernel::advance(1 << EXIT_SHIFT);
    assert!(sends_early(&mut world));
    world.close_exits();
    kernel::advance(1 << (EXIT_SHIFT - 2));
    assert!(!sends_early(&mut world), "nobody has kept an answer");
}
