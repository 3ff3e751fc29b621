// SPDX-License-Identifier: Apache-2.0
//! What the vectors about clients outside the cluster and about the host share: a service that is
//! exposed at every kind of address, and what a masqueraded packet looks like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pintle_abi::{
    counter::Hook,
    service::{frontend_flags, wildcard_flags},
};

use super::{Ip, first};
use crate::{
    frame::Frame,
    world::{BackendSpec, Exit, FrontendSpec, IFINDEX, MASQUERADE, Place, World},
};

/// A kind of address at which a service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The cluster's own.
    ClusterIp,
    /// A port of the node's addresses.
    NodePort,
    /// A load balancer's.
    LoadBalancer,
    /// One that somebody routes to the nodes.
    External,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] =
        [Self::ClusterIp, Self::NodePort, Self::LoadBalancer, Self::External];

    /// What clients dial.
    pub fn address(self, ip: Ip) -> SocketAddr {
        match self {
            Self::ClusterIp => ip.service(80),
            Self::NodePort => ip.node(30_080),
            Self::LoadBalancer => ip.load_balancer(80),
            Self::External => ip.external(80),
        }
    }

    /// The address of its frontend: node ports have none of their own.
    pub fn frontend(self, ip: Ip) -> SocketAddr {
        let address = self.address(ip);
        match self {
            Self::NodePort => SocketAddr::new(unspecified(ip.is_v6()), address.port()),
            _ => address,
        }
    }

    /// The flags of the address' wildcard entry.
    pub fn wildcard(self) -> u32 {
        match self {
            Self::ClusterIp => wildcard_flags::CLUSTER,
            Self::NodePort => wildcard_flags::NODE,
            Self::LoadBalancer => wildcard_flags::LOAD_BALANCER,
            Self::External => 0,
        }
    }

    /// The flags of its frontend if the traffic policy is Cluster.
    pub fn flags(self) -> u32 {
        if self == Self::ClusterIp { 0 } else { frontend_flags::MASQUERADE }
    }

    /// Writes its frontend and the address' wildcard entry.
    pub fn expose(self, world: &mut dyn World, ip: Ip, proto: u8, slots: (u32, u32)) {
        let frontend = FrontendSpec::new(self.frontend(ip), proto, slots);
        world.put_frontend(&frontend.flags(self.flags()));
        world.put_frontend(&FrontendSpec::wildcard(self.address(ip).ip(), self.wildcard()));
    }
}

/// The address that is none.
pub fn unspecified(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Writes a pod of this node in the slot of its id, which the host's stack leads to.
pub fn put_local(world: &mut dyn World, id: u32, addr: SocketAddr) {
    put(world, BackendSpec { id, addr, generation: 1, ifindex: 0, place: Place::Local });
}

/// Writes a pod of this node in the slot of its id, which a redirect leads to.
pub fn put_near(world: &mut dyn World, id: u32, addr: SocketAddr) {
    put(world, BackendSpec { id, addr, generation: 1, ifindex: IFINDEX, place: Place::Local });
}

/// Writes a pod of another node in the slot of its id.
pub fn put_remote(world: &mut dyn World, id: u32, addr: SocketAddr) {
    put(world, BackendSpec { id, addr, generation: 1, ifindex: 0, place: Place::Remote });
}

fn put(world: &mut dyn World, backend: BackendSpec) {
    world.put_backend(backend);
    world.put_slot(backend.addr.is_ipv6(), backend.id, backend.id);
}

/// Sends a connection's first packet through a hook, from where it goes to a remote backend: to it
/// with an address of the node as its source, which is returned.
#[track_caller]
pub fn is_masqueraded(
    world: &mut dyn World,
    (hook, proto): (Hook, u8),
    (client, service): (SocketAddr, SocketAddr),
    (node, backend): (SocketAddr, SocketAddr),
) -> SocketAddr {
    let packet = first(proto, client, service);
    let (verdict, sent) = world.send(hook, &packet);
    world.went(Exit::Routes);
    assert_eq!(sent.src.ip(), node.ip(), "the node stands for {client}");
    assert!(MASQUERADE.contains(&sent.src.port()), "{} is the node's", sent.src);
    let expected = Frame { src: sent.src, dst: backend, ..packet }.ttl(63);
    assert_eq!((verdict, &sent), (Exit::Routes.verdict(), &expected));
    sent.src
}
