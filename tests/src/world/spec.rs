// SPDX-License-Identifier: Apache-2.0
//! What vectors write into the maps, and what they read there, without an address family.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::{
    addr::{Ordered, Tuple},
    flow::{Flow, flow_flags},
    plain::Plain,
    service::{Backend, Frontend, FrontendKey, backend_state, scope},
    source_range::{SERVICE_BITS, SourceRange},
};

use super::MTU;

/// A frontend to write.
#[derive(Clone, Copy, Debug)]
pub struct FrontendSpec {
    /// Address and port.
    pub addr: SocketAddr,
    /// IP protocol number.
    pub proto: u8,
    /// One of `scope`.
    pub scope: u8,
    /// Number of the service port.
    pub service: u32,
    /// First slot and number of slots.
    pub slots: (u32, u32),
    /// Bits of `frontend_flags`, or of `wildcard_flags`.
    pub flags: u32,
    /// Session affinity timeout; 0 for none.
    pub affinity_seconds: u32,
}

impl FrontendSpec {
    /// A frontend for everybody; its service has the number of its port.
    pub fn new(addr: SocketAddr, proto: u8, slots: (u32, u32)) -> Self {
        let service = u32::from(addr.port());
        let scope = scope::INTERNAL;
        Self { addr, proto, scope, service, slots, flags: 0, affinity_seconds: 0 }
    }

    /// The wildcard entry of an address.
    pub fn wildcard(ip: IpAddr, flags: u32) -> Self {
        Self { flags, ..Self::new(SocketAddr::new(ip, 0), 0, (0, 0)) }
    }

    /// The same with bits of `frontend_flags`.
    pub fn flags(self, flags: u32) -> Self {
        Self { flags, ..self }
    }

    pub(crate) fn key<A>(&self, addr: A) -> FrontendKey<A> {
        let (port, proto, scope) = (self.addr.port().to_be(), self.proto, self.scope);
        FrontendKey { addr, port, proto, scope }
    }

    pub(crate) fn value(&self) -> Frontend {
        let (base, count) = self.slots;
        let Self { service, flags, affinity_seconds, .. } = *self;
        Frontend { service, base, count, flags, affinity_seconds }
    }
}

/// Where a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this node.
    Local,
    /// On another.
    Remote,
    /// The id is free.
    Nowhere,
}

/// A backend to write.
#[derive(Clone, Copy, Debug)]
pub struct BackendSpec {
    /// Its id.
    pub id: u32,
    /// Its address.
    pub addr: SocketAddr,
    /// Generation; 0 writes a free id.
    pub generation: u32,
    /// Host-side interface if it is local and may be reached by redirect.
    pub ifindex: u32,
    /// Where it is.
    pub place: Place,
}

impl BackendSpec {
    pub(crate) fn value<A>(&self, addr: A) -> Backend<A> {
        let state = match (self.generation, self.place) {
            (0, _) | (_, Place::Nowhere) => backend_state::FREE,
            (_, Place::Remote) => backend_state::LIVE,
            (_, Place::Local) => backend_state::LOCAL,
        };
        let Self { ifindex, generation, .. } = *self;
        Backend { addr, ifindex, generation, mtu: MTU, port: self.addr.port().to_be(), state }
    }
}

/// Addresses with a common prefix; none if that has no bits.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The first of them.
    pub ip: IpAddr,
    /// Length of the prefix.
    pub bits: u32,
}

impl Range {
    /// Length and key in `SOURCE_RANGES`.
    pub(crate) fn key<A>(service: u32, addr: A, bits: u32) -> (u32, SourceRange<A>) {
        (SERVICE_BITS + bits, SourceRange { service: service.to_be(), addr })
    }

    /// The mask that has ones where the prefix is.
    pub(crate) fn mask(self) -> IpAddr {
        match self.ip {
            IpAddr::V4(_) => {
                IpAddr::from(u32::MAX.checked_shl(32 - self.bits).unwrap_or(0).to_be_bytes())
            }
            IpAddr::V6(_) => {
                IpAddr::from(u128::MAX.checked_shl(128 - self.bits).unwrap_or(0).to_be_bytes())
            }
        }
    }
}

/// A connection that the kernel's own connection tracking translates.
#[derive(Clone, Copy, Debug)]
pub struct KernelFlow {
    /// IP protocol number.
    pub proto: u8,
    /// The client.
    pub client: SocketAddr,
    /// The address that it dials.
    pub service: SocketAddr,
    /// Id and generation of its backend.
    pub backend: (u32, u32),
}

impl KernelFlow {
    pub(crate) fn entry<A: Ordered + Plain + Default>(
        &self,
        src: A,
        dst: A,
    ) -> (Tuple<A>, Flow<A>) {
        let (src_port, dst_port) = (self.client.port().to_be(), self.service.port().to_be());
        let (key, client_first) = Tuple { src, dst, src_port, dst_port }.canonical();
        let (backend, generation) = self.backend;
        let flags = flow_flags::KERNEL | (client_first * flow_flags::CLIENT_FIRST);
        (key, Flow { flags, backend, generation, ..Flow::default() })
    }
}

/// One flow entry as the maps hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSpec {
    /// Bits of `flow_flags`.
    pub flags: u16,
    /// Backend id.
    pub backend: u32,
    /// What was seen from the client.
    pub forward: u8,
    /// What was seen from the backend.
    pub reply: u8,
    /// Packets counted.
    pub packets: u64,
    /// When both ends were allowed: the client's egress, the server's ingress.
    pub epochs: (u32, u32),
}

impl FlowSpec {
    /// What vectors look at of a flow entry.
    pub(crate) fn of<A>(flow: &Flow<A>) -> Self {
        let Flow { flags, backend, forward, reply, packets, .. } = *flow;
        let epochs = (flow.egress_epoch, flow.ingress_epoch);
        Self { flags, backend, forward, reply, packets, epochs }
    }
}
