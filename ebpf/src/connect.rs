// SPDX-License-Identifier: Apache-2.0
//! New connections: what the backend sees of them, and the entries they get.

use pintle_abi::{
    addr::{Tuple, borrowed},
    counter::Counter,
    device::device_flags,
    drop_reason::DropReason,
    flow::flow_flags,
};

use crate::{
    family::{Family, Transport},
    flow::{self, Route},
    hooks::Entrance,
    kernel::random,
    lb::{self, Choice},
    maps, masquerade,
    packet::{Headers, Packet},
    policy, report, socket,
};

/// First of the source ports that keep two connections of one client to one backend apart. They lie
/// above Linux's ephemeral ports (`ip_local_port_range` ends at 60,999), which clients use themselves.
const MOVED_PORT_BASE: u16 = 61_000;
const MOVED_PORTS: u32 = 4_500;

/// How far the making of a connection goes.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The common case only: whatever stands in the way is left to another attempt.
    Common,
    /// Over the remains of older connections, into the overflow map, back to the client's own pod.
    Thorough,
    /// The same with another source port, drawn at random.
    Moved,
    /// The same with another source port for a masqueraded client.
    MovedMasquerade,
}

impl Attempt {
    /// The attempt of a number.
    #[inline(always)]
    pub fn of(number: u32) -> Self {
        const MOVED: u32 = Attempt::Moved as u32;
        const MOVED_MASQUERADE: u32 = Attempt::MovedMasquerade as u32;
        match number {
            MOVED => Self::Moved,
            MOVED_MASQUERADE => Self::MovedMasquerade,
            _ => Self::Thorough,
        }
    }
}

/// What the first packet of a local pod's new connection needs; its flow entries are in the maps.
pub struct Created<A> {
    /// The connection's tuple on the backend's side.
    pub server: Tuple<A>,
    /// Bits of [`flow_flags`].
    pub flags: u16,
    /// The backend's interface; 0 if the stack leads to it.
    pub ifindex: u32,
    /// The policy epoch at which nobody has to be asked about it; 0 if somebody has to, or none hold.
    pub allowed_at: u32,
}

impl<F: Family> Created<F> {
    /// What is to be written of a connection to a backend, before it is.
    #[inline(always)]
    fn plan(packet: &impl Packet, choice: &Choice<F>, server: Tuple<F>, flags: u16) -> Self {
        let ifindex = choice.backend.ifindex;
        let allowed_at = policy::unselected_at(packet.ifindex(), ifindex);
        Self { server, flags, ifindex, allowed_at }
    }

    #[inline(always)]
    fn route(&self) -> Route<'_, F> {
        // Where the backend is not known to be a pod behind an interface, its own hook asks.
        let ingress = if self.ifindex == 0 { 0 } else { self.allowed_at };
        Route { server: &self.server, path: self.flags, epochs: (self.allowed_at, ingress) }
    }
}

/// Tracks a new connection of the common kind, of a local pod; `None` if it takes another attempt.
#[inline(always)]
pub fn create<E: Entrance, F: Family, P: Packet>(
    transport: Transport,
    headers: &Headers<F>,
    packet: &P,
    choice: &Choice<F>,
) -> Result<Option<Created<F>>, DropReason> {
    let client = headers.tuple;
    let server = towards(choice, client.src, client.src_port);
    if server.dst == client.src || masquerade::is_common::<E, F>(packet, client.src, choice) {
        return Ok(None);
    }
    let path = E::CLIENT | route_flags(packet, choice);
    let new = Created::plan(packet, choice, server, path);
    let (route, attempt) = (new.route(), Attempt::Common);
    let opened = flow::open::<E, F, P>(transport, headers, packet, choice, &route, attempt)?;
    Ok(opened.then_some(new))
}

/// Tracks a new connection whose socket was translated when it dialled, if its packets may skip the host's
/// stack; otherwise there is nothing to do about them, and `None`.
#[inline(always)]
pub fn adopt<E: Entrance, F: Family, P: Packet>(
    transport: Transport,
    headers: &Headers<F>,
    packet: &P,
) -> Option<Created<F>> {
    let connection = socket::connection::<F>(packet.socket()?)?;
    let tuple = &headers.tuple;
    // It may have been connected to somebody else since, or name another peer.
    if connection.backend != tuple.dst || connection.backend_port != tuple.dst_port {
        return None;
    }
    let backend = lb::backend::<F>(connection.id)?;
    if backend.generation != connection.generation {
        return None;
    }
    let (id, service) = (connection.id, connection.number);
    let choice = Choice { slot: 0, id, backend, service, flags: 0 };
    let path = route_flags(packet, &choice);
    if path & flow_flags::FAST == 0 {
        return None;
    }
    let new = Created::plan(packet, &choice, *tuple, path | flow_flags::SOCKET);
    flow::open_for_socket::<E, F, P>(transport, headers, packet, &choice, &new.route())
        .then_some(new)
}

/// Tracks a new connection of any kind. [`DropReason::NoSourcePort`] and
/// [`DropReason::NoMasqueradePort`] ask for another attempt.
#[inline(always)]
pub fn create_thoroughly<E: Entrance, F: Family, P: Packet>(
    transport: Transport,
    headers: &Headers<F>,
    packet: &P,
    choice: &Choice<F>,
    attempt: Attempt,
) -> Result<(), DropReason> {
    let client = headers.tuple;
    let masqueraded = masquerade::address::<E, F, P>(packet, client.src, choice)?;
    let (server, path, taken) = if let Some(address) = masqueraded {
        let port = masquerade::port(&client, attempt)?;
        let server = towards(choice, address, port);
        (server, flow_flags::MASQUERADED, DropReason::NoMasqueradePort)
    } else {
        let port = if attempt == Attempt::Moved { moved_port() } else { client.src_port };
        let mut server = towards(choice, client.src, port);
        let mut path = route_flags(packet, choice);
        if E::CLIENT == 0 && server.dst == client.src {
            let settings = maps::settings().ok_or(DropReason::MissingBackend)?;
            server.src = F::hairpin_address(settings);
            path = flow_flags::HAIRPIN;
        }
        (server, path, DropReason::NoSourcePort)
    };
    let path = packet.veil(u32::from(path | E::CLIENT)) as u16;
    let route = Route { server: &server, path, epochs: (0, 0) };
    if !flow::open::<E, F, P>(transport, headers, packet, choice, &route, attempt)? {
        return Err(taken);
    }
    if attempt == Attempt::Moved {
        report::count(E::HOOK, Counter::PortMoved);
    }
    if path & flow_flags::MASQUERADED != 0 {
        report::count(E::HOOK, Counter::Masqueraded);
    }
    Ok(())
}

#[inline(always)]
fn towards<F: Family>(choice: &Choice<F>, src: F, src_port: u16) -> Tuple<F> {
    Tuple { src, dst: choice.backend.addr, src_port, dst_port: choice.backend.port }
}

#[inline(always)]
fn moved_port() -> u16 {
    let offset = lb::scale(u64::from(random()) << 32, MOVED_PORTS) as u16;
    (MOVED_PORT_BASE + offset).to_be()
}

/// Both directions may skip the host's stack, or none: the stack must not see half a connection.
///
/// Bits are computed and not branched for: each constant would be a state more for the verifier.
#[inline(always)]
fn route_flags<F: Family>(packet: &impl Packet, choice: &Choice<F>) -> u16 {
    let Some(settings) = maps::settings() else { return 0 };
    let Some(device) = maps::DEVICES.get(&packet.ifindex()) else { return 0 };
    // SAFETY: an element stays readable while the program runs (RCU).
    let device = unsafe { &*device };
    let reachable = borrowed(0, u64::from(choice.backend.ifindex), 0);
    // Nobody sends "packet too big" where the stack is skipped.
    let same_mtu = borrowed(u64::from(device.mtu ^ choice.backend.mtu), 1, 0);
    let fast = device.flags & device_flags::FAST & settings.fast_path;
    fast as u16 * (reachable & same_mtu) as u16 * flow_flags::FAST
}

const _: () = assert!(device_flags::FAST == 1, "multiplied with the bits above");
