// SPDX-License-Identifier: Apache-2.0
//! Classes of clients, and what they meet.

use std::{collections::BTreeSet, net::SocketAddr};

use pintle_abi::{counter::Hook, drop_reason::DropReason};

use super::{
    super::{Ip, data, first, scene::Kind},
    objects::backends,
};
use crate::{
    frame::Frame,
    planned::NODE,
    world::{Forget, Verdict, World},
};

/// A class of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Pod,
    Host,
    Outside,
    RemotePod,
}

impl Source {
    /// In the order of the columns.
    pub(super) const ALL: [Self; 4] = [Self::Pod, Self::Host, Self::Outside, Self::RemotePod];

    pub(super) fn hook(self) -> Hook {
        match self {
            Self::Pod => Hook::FromPod,
            Self::Host => Hook::ToNet,
            Self::Outside | Self::RemotePod => Hook::FromNet,
        }
    }

    /// The host has an address beside the one that stands for masqueraded clients.
    pub(super) fn client(self, ip: Ip, port: u16) -> SocketAddr {
        match self {
            Self::Pod => ip.client(port),
            Self::Host => ip.node_b(port),
            Self::Outside => ip.outside(7, port),
            Self::RemotePod => ip.remote_pod(port),
        }
    }
}

/// Connections of each cell: with two endpoints, all go to one of them in 1 of 2^15.
pub(super) const CONNECTIONS: u16 = 16;

/// What clients of a class meet at an address, in words.
pub(super) fn meets(
    world: &mut dyn World,
    ip: Ip,
    source: Source,
    kind: Kind,
    proto: u8,
) -> String {
    let mut met = BTreeSet::new();
    for port in 20_000..20_000 + CONNECTIONS {
        met.insert(connect(world, ip, source, (kind, proto), port));
    }
    world.forget_flows(Forget::Everything);
    met.into_iter().collect::<Vec<_>>().join(" ")
}

/// A first packet, and the answer to it.
#[track_caller]
pub(super) fn connect(
    world: &mut dyn World,
    ip: Ip,
    source: Source,
    (kind, proto): (Kind, u8),
    port: u16,
) -> String {
    let (client, service) = (source.client(ip, port), kind.address(ip));
    let (verdict, sent) = world.send(source.hook(), &first(proto, client, service));
    if verdict == Verdict::Drop {
        assert_ne!(world.dropped(source.hook(), DropReason::NoBackend), 0, "{source:?}");
        return "drop".into();
    }
    if sent.src.ip() == service.ip() && sent.dst.ip() == client.ip() {
        assert_ne!(world.dropped(source.hook(), DropReason::Refused), 0, "{source:?}");
        return "reject".into();
    }
    let backend = backends(ip).into_iter().find(|(_, addr)| *addr == sent.dst);
    let (name, _) = backend.unwrap_or_else(|| panic!("{source:?} was sent to {}", sent.dst));
    is_answered(world, source, (client, service), &data(proto, sent.dst, sent.src), name);
    if sent.src == client {
        return name.into();
    }
    assert_eq!(sent.src.ip(), ip.node(0).ip(), "{source:?} at {kind:?}");
    format!("{name}*")
}

/// The answer comes from the address that was dialled, at the hook where it comes in or, through the
/// stack, where it leaves for the client.
#[track_caller]
pub(super) fn is_answered(
    world: &mut dyn World,
    source: Source,
    (client, service): (SocketAddr, SocketAddr),
    reply: &Frame,
    name: &str,
) {
    let hook = if name == NODE { Hook::FromPod } else { Hook::FromNet };
    let expected = data(reply.proto, service, client);
    let (verdict, seen) = world.send(hook, reply);
    match (verdict, source) {
        (Verdict::Pass, Source::Pod) if seen == *reply => world.to_pod(reply, &expected),
        (Verdict::Pass, _) if seen == *reply => world.forwards(reply, &expected),
        _ => assert_eq!(seen, expected.ttl(seen.ttl), "{source:?}"),
    }
}
