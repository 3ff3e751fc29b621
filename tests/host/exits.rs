// SPDX-License-Identifier: Apache-2.0
//! What the kernel's forwarding table says is used again for a moment.

use pintle_abi::{
    addr::proto::UDP,
    counter::{Counter, Hook},
    exit::EXIT_SHIFT,
};
use pintle_ebpf::kernel;
use pintle_tests::{
    host_world::{HostWorld, Offload},
    vectors::{
        Ip, data,
        scene::{Kind, is_masqueraded, put_remote},
    },
    world::{Exit, World},
};

const PERIOD: u64 = 1 << EXIT_SHIFT;

/// A connection to another node, and whether XDP sends on another packet of it.
fn connected(ip: Ip) -> (HostWorld, impl Fn(&mut HostWorld) -> bool) {
    let mut world = HostWorld::with_xdp(Offload::None);
    // To the beginning of a second, whose first packet tc takes.
    kernel::advance(PERIOD - kernel::now_ns() % PERIOD);
    let (client, service) = (ip.outside(7, 40000), Kind::NodePort.address(ip));
    let backend = ip.backend(5, 8080);
    put_remote(&mut world, 1, backend);
    Kind::NodePort.expose(&mut world, ip, UDP, (1, 1));
    let node =
        is_masqueraded(&mut world, (Hook::FromNet, UDP), (client, service), (ip.node(0), backend));
    let sends_early = move |world: &mut HostWorld| {
        let world: &mut dyn World = world;
        let before = world.early(Counter::Forward);
        let arrived = data(UDP, node, backend).ttl(63);
        world.takes(Hook::FromNet, &data(UDP, client, service), Exit::Routes, &arrived);
        world.early(Counter::Forward) > before
    };
    (world, sends_early)
}

#[test]
fn an_answer_holds_for_a_moment() {
    for ip in [Ip::V4, Ip::V6] {
        let (mut world, sends_early) = connected(ip);
        assert!(sends_early(&mut world));
        world.set_exits(false);
        assert!(sends_early(&mut world), "the answer is known");
        kernel::advance(PERIOD);
        assert!(!sends_early(&mut world), "there is another by now");
        world.set_exits(true);
        assert!(!sends_early(&mut world), "it holds, too");
        kernel::advance(PERIOD);
        assert!(sends_early(&mut world));
    }
}
