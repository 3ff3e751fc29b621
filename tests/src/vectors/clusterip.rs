// SPDX-License-Identifier: Apache-2.0
//! A connection to a ClusterIP, both ways.

use pintle_abi::{
    addr::proto,
    counter::{Counter, Hook},
};

use crate::{
    frame::{flag, tcp},
    world::{Verdict, World},
};

pub fn syn_to_a_clusterip_goes_to_a_backend(world: &mut dyn World) {
    world.service("10.96.0.10:80", proto::TCP, 1, &["10.244.1.5:8080"]);
    let (verdict, frame) =
        world.send(Hook::FromPod, &tcp("10.244.1.9:40000", "10.96.0.10:80", flag::SYN));
    assert_eq!(verdict, Verdict::Deliver);
    assert_eq!(frame, tcp("10.244.1.9:40000", "10.244.1.5:8080", flag::SYN).ttl(63));
    assert_eq!(world.count(Hook::FromPod, Counter::NewFlow), 1);
}
