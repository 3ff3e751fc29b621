// SPDX-License-Identifier: Apache-2.0
//! S22: nodes that have the same table choose alike.

use pintle_abi::{
    addr::proto::{TCP, UDP},
    counter::Hook,
    service::frontend_flags::{ANY_PORT, MAGLEV},
    settings::Settings,
};

use super::{
    Ip, first,
    scene::{Kind, put_near},
};
use crate::world::{Forget, FrontendSpec, World, settings};

/// Backends, in as many slots; ids and slots begin at 1.
const BACKENDS: u32 = 7;
const CLIENTS: u16 = 24;

/// What a node does to connections from outside: the backend of each, by number.
struct Node {
    hash_key: u32,
    /// The node's own address is dialled, and not the other's.
    is_first: bool,
}

impl Node {
    fn chooses(
        &self,
        world: &mut dyn World,
        ip: Ip,
        kind: Kind,
        frontend: FrontendSpec,
    ) -> Vec<u8> {
        world.put_settings(&Settings { hash_key: self.hash_key, ..settings() });
        (1..=BACKENDS).for_each(|id| put_near(world, id, ip.backend(id as u8, 8080)));
        kind.expose(world, ip, frontend.proto, frontend.slots);
        world.put_frontend(&frontend);
        let address = match (kind, self.is_first) {
            (Kind::NodePort, false) => ip.node_b(kind.address(ip).port()),
            _ => kind.address(ip),
        };
        world.put_frontend(&FrontendSpec::wildcard(address.ip(), kind.wildcard()));
        let dial = |port| {
            let packet = first(frontend.proto, ip.outside(7, port), address);
            let (_, sent) = world.send(Hook::FromNet, &packet);
            let chosen = (1..=BACKENDS as u8).find(|id| sent.dst == ip.backend(*id, 8080));
            chosen.unwrap_or_else(|| panic!("sent to {}", sent.dst))
        };
        let chosen = (40_000..40_000 + CLIENTS).map(dial).collect();
        world.forget_flows(Forget::Everything);
        chosen
    }
}

const NODES: [Node; 2] =
    [Node { hash_key: 0x5eed, is_first: true }, Node { hash_key: 0xfeed, is_first: false }];

fn frontend(ip: Ip, kind: Kind, proto: u8, flags: u32) -> FrontendSpec {
    let frontend = FrontendSpec::new(kind.frontend(ip), proto, (1, BACKENDS));
    frontend.flags(kind.flags() | flags)
}

/// Each at its own address, if it is a node port.
pub fn two_nodes_choose_the_same_backend(world: &mut dyn World, ip: Ip) {
    for (kind, proto) in [(Kind::LoadBalancer, TCP), (Kind::External, UDP), (Kind::NodePort, TCP)] {
        let chosen = |world: &mut dyn World, flags| {
            NODES.map(|node| node.chooses(world, ip, kind, frontend(ip, kind, proto, flags)))
        };
        let [one, other] = chosen(world, MAGLEV);
        assert_eq!(one, other, "{kind:?}");
        assert!((1..=BACKENDS as u8).any(|id| one.contains(&id) && one[0] != id), "all the same");
        let [one, other] = chosen(world, 0);
        assert_ne!(one, other, "each node has a hash of its own");
    }
    world.put_settings(&settings());
}

/// Whatever port it dials from, and whichever node it comes to.
pub fn client_with_affinity_has_one_backend_at_both_nodes(world: &mut dyn World, ip: Ip) {
    let kind = Kind::LoadBalancer;
    let kept = NODES.map(|node| {
        let plain = frontend(ip, kind, TCP, MAGLEV | ANY_PORT);
        let service = 70 + u32::from(node.is_first);
        let chosen =
            node.chooses(world, ip, kind, FrontendSpec { service, affinity_seconds: 9, ..plain });
        assert!(chosen.iter().all(|id| *id == chosen[0]), "{chosen:?}");
        chosen[0]
    });
    assert_eq!(kept[0], kept[1]);
    world.put_settings(&settings());
}
