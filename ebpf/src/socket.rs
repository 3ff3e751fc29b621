// SPDX-License-Identifier: Apache-2.0
//! Translation of a socket when it dials: from then on its packets carry the backend's address, and
//! none of them has to be touched.
//!
//! Invariants:
//! - only what a backend alone decides is translated: session affinity, source ranges and masquerading
//!   of pods need packets, and are left to the hooks that see them, as is whatever cannot be recorded;
//! - what is translated is recorded first, so an answer always finds the service address again;
//! - connected sockets and those that are not are recorded apart: a connected one is closed when its
//!   backend goes, another one chooses again with its next datagram.

use pintle_abi::{
    addr::{V4, V6},
    drop_reason::DropReason,
    service::{Backend, Frontend, FrontendKey, frontend_flags, scope, wildcard_flags},
    settings::Settings,
    socket::{Connection, Datagram, DatagramKey, UdpSocket, family, side, socket_scope},
};

use crate::{
    family::{Family, Transport},
    kernel::{IfPresent, LruHash, PerSocket, SocketHandle, random},
    lb, maps, report,
};

/// What the programs ask of a socket.
pub trait Socket {
    /// The socket as maps know it.
    fn handle(&self) -> SocketHandle;
    /// Its number, which no other socket will ever have.
    fn cookie(&self) -> u64;
    /// The number of its network namespace.
    fn netns(&self) -> u64;
    /// Its protocol.
    fn proto(&self) -> u8;
}

/// Somebody a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer<F> {
    /// The address.
    pub addr: F,
    /// The port, network byte order.
    pub port: u16,
}

/// What becomes of a socket that dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<F> {
    /// It dials what it wants to.
    Pass,
    /// It dials somebody else.
    Translate(Peer<F>),
    /// It is told that nobody listens there.
    Refuse,
}

/// Which address means the caller's own network namespace, and where the family's sockets are kept.
pub trait SocketFamily: Family {
    /// The address that an unspecified one stands for.
    const LOOPBACK: Self;
    /// One of [`family`].
    const NUMBER: u32;

    /// UDP sockets that are not connected.
    fn datagrams() -> &'static LruHash<DatagramKey<Self>, Datagram<Self>>;
}

impl SocketFamily for V4 {
    const LOOPBACK: Self = Self(u32::from_ne_bytes([127, 0, 0, 1]));
    const NUMBER: u32 = family::V4;

    #[inline(always)]
    fn datagrams() -> &'static LruHash<DatagramKey<Self>, Datagram<Self>> {
        &maps::DATAGRAMS_V4
    }
}

impl SocketFamily for V6 {
    const LOOPBACK: Self = Self([0, 0, 0, 1_u32.to_be()]);
    const NUMBER: u32 = family::V6;

    #[inline(always)]
    fn datagrams() -> &'static LruHash<DatagramKey<Self>, Datagram<Self>> {
        &maps::DATAGRAMS_V6
    }
}

/// Flags of frontends whose packets get another source; a socket of the node has that source anyway.
const MASQUERADED: u32 = frontend_flags::MASQUERADE | frontend_flags::MASQUERADE_LOCAL;

/// A socket connects.
#[inline(always)]
pub fn connect<F: SocketFamily, S: Socket>(socket: &S, peer: Peer<F>) -> Verdict<F> {
    let verdict = match dial(socket, peer) {
        Dialled::Nothing => Verdict::Pass,
        Dialled::Refused => Verdict::Refuse,
        Dialled::Frontend(frontend) => open(socket, peer, frontend),
    };
    if verdict == Verdict::Pass {
        // What an earlier connection of the socket has left.
        forget::<F, S>(socket);
    }
    verdict
}

/// A UDP socket sends a datagram to an address that it names.
#[inline(always)]
pub fn send<F: SocketFamily, S: Socket>(socket: &S, peer: Peer<F>) -> Verdict<F> {
    let frontend = match dial(socket, peer) {
        Dialled::Nothing => return Verdict::Pass,
        Dialled::Refused => return Verdict::Refuse,
        Dialled::Frontend(frontend) => frontend,
    };
    // A connected socket hears its backend only.
    if let Some(connection) = connection::<F>(socket.handle())
        && connection.service == peer.addr
        && connection.service_port == peer.port
        && is_current::<F>(connection.id, connection.generation)
    {
        let backend = Peer { addr: connection.backend, port: connection.backend_port };
        return Verdict::Translate(backend);
    }
    let cookie = socket.cookie();
    let key = datagram_key(cookie, peer, side::SERVICE);
    if let Some(known) = datagram(&key)
        && is_current::<F>(known.id, known.generation)
    {
        return again(cookie, peer, known);
    }
    begin(cookie, peer, frontend)
}

/// A UDP socket is about to be told whom a datagram is from.
#[inline(always)]
pub fn receive<F: SocketFamily, S: Socket>(socket: &S, peer: Peer<F>) -> Option<Peer<F>> {
    if !is_translated(maps::settings()?, socket.netns()) {
        return None;
    }
    peer_name(socket, peer).or_else(|| {
        let key = datagram_key(socket.cookie(), peer, side::BACKEND);
        datagram(&key).map(|known| Peer { addr: known.addr, port: known.port })
    })
}

/// A socket is about to be told whom it is connected to.
#[inline(always)]
pub fn peer_name<F: SocketFamily, S: Socket>(socket: &S, peer: Peer<F>) -> Option<Peer<F>> {
    let known = connection::<F>(socket.handle())?;
    let is_backend = known.backend == peer.addr && known.backend_port == peer.port;
    is_backend.then_some(Peer { addr: known.service, port: known.service_port })
}

/// A socket is closed. What is kept with it goes by itself.
#[inline(always)]
pub fn release<S: Socket>(socket: &S) {
    let is_known =
        connection::<V4>(socket.handle()).is_some() || connection::<V6>(socket.handle()).is_some();
    if is_known && is_udp(socket) {
        maps::UDP_SOCKETS.remove(&socket.cookie());
    }
}

#[inline(always)]
fn forget<F: SocketFamily, S: Socket>(socket: &S) {
    if connection::<F>(socket.handle()).is_some() {
        F::sockets().remove(socket.handle());
        if is_udp(socket) {
            maps::UDP_SOCKETS.remove(&socket.cookie());
        }
    }
}

#[inline(always)]
fn is_udp<S: Socket>(socket: &S) -> bool {
    Transport::of(socket.proto()) == Some(Transport::Udp)
}

/// What a socket dials.
enum Dialled {
    /// No service, or one that is left to the packets.
    Nothing,
    /// A service that nobody answers for.
    Refused,
    /// A service with backends.
    Frontend(&'static Frontend),
}

#[inline(always)]
fn dial<F: SocketFamily, S: Socket>(socket: &S, peer: Peer<F>) -> Dialled {
    let Some(settings) = maps::settings() else { return Dialled::Nothing };
    let netns = socket.netns();
    // SCTP chooses its peer's address by itself, of several: its packets are translated.
    let spoken = matches!(Transport::of(socket.proto()), Some(Transport::Tcp | Transport::Udp));
    if !is_translated(settings, netns) || !spoken {
        return Dialled::Nothing;
    }
    let is_node = netns == settings.node_netns;
    let frontend = match find(peer, socket.proto(), is_node) {
        Ok(Some(frontend)) => frontend,
        Ok(None) => return Dialled::Nothing,
        Err(reason) => return refuse(reason),
    };
    if !is_simple(frontend, is_node) {
        return Dialled::Nothing;
    }
    if frontend.count > 0 {
        return Dialled::Frontend(frontend);
    }
    match frontend.flags & frontend_flags::DROP {
        0 => refuse(DropReason::Refused),
        // Silence is a matter of packets.
        _ => Dialled::Nothing,
    }
}

#[inline(always)]
fn refuse(reason: DropReason) -> Dialled {
    report::refused(reason);
    Dialled::Refused
}

#[inline(always)]
fn is_translated(settings: &Settings, netns: u64) -> bool {
    match settings.socket_scope {
        socket_scope::ALL => true,
        socket_scope::HOST => netns == settings.node_netns,
        _ => false,
    }
}

/// Whether nothing but the backend has to be chosen.
#[inline(always)]
fn is_simple(frontend: &Frontend, is_node: bool) -> bool {
    frontend.affinity_seconds == 0
        && frontend.flags & frontend_flags::SOURCE_RANGES == 0
        && (is_node || frontend.flags & MASQUERADED == 0)
}

/// The frontend at an address, which may be a node port; `None` if there is nothing of ours.
#[inline(always)]
fn find<F: SocketFamily>(
    peer: Peer<F>,
    proto: u8,
    is_node: bool,
) -> Result<Option<&'static Frontend>, DropReason> {
    let addr = if peer.addr == F::default() { F::LOOPBACK } else { peer.addr };
    let mut key = FrontendKey { addr, port: peer.port, proto, scope: scope::INTERNAL };
    if let Some(found) = frontend(&key) {
        return Ok(Some(found));
    }
    (key.port, key.proto) = (0, 0);
    let Some(wildcard) = frontend(&key) else { return Ok(None) };
    // The loopback address of a pod is not the node's.
    if wildcard.flags & wildcard_flags::NODE != 0 && (is_node || addr.is_loopback() == 0) {
        key = FrontendKey { addr: F::default(), port: peer.port, proto, scope: scope::INTERNAL };
        if let Some(found) = frontend(&key) {
            return Ok(Some(found));
        }
    }
    match wildcard.flags & wildcard_flags::CLUSTER {
        0 => Ok(None),
        _ => Err(DropReason::UnknownPort),
    }
}

#[inline(always)]
fn frontend<F: Family>(key: &FrontendKey<F>) -> Option<&'static Frontend> {
    // SAFETY: an element stays readable while the program runs (RCU), even when it is deleted.
    F::frontends().get(key).map(|frontend| unsafe { &*frontend })
}

/// A backend drawn at random: a socket, unlike a packet, is seen once.
#[inline(always)]
fn choose<F: Family>(frontend: &Frontend) -> Option<(u32, &'static Backend<F>)> {
    let slot = lb::scale(u64::from(random()) << 32, frontend.count);
    // SAFETY: array elements live as long as the map.
    let id = F::slots().get(frontend.base.wrapping_add(slot)).map(|id| unsafe { *id })?;
    let backend = lb::backend::<F>(id)?;
    (backend.state != pintle_abi::service::backend_state::FREE).then_some((id, backend))
}

/// Whether a backend is the one that was chosen.
#[inline(always)]
fn is_current<F: Family>(id: u32, generation: u32) -> bool {
    lb::backend::<F>(id).is_some_and(|backend| backend.generation == generation)
}

#[inline(always)]
fn open<F: SocketFamily, S: Socket>(
    socket: &S,
    service: Peer<F>,
    frontend: &Frontend,
) -> Verdict<F> {
    let Some((id, backend)) = choose::<F>(frontend) else { return Verdict::Pass };
    let connection = Connection {
        service: service.addr,
        backend: backend.addr,
        service_port: service.port,
        backend_port: backend.port,
        id,
        generation: backend.generation,
        number: frontend.service,
    };
    if F::sockets().insert(socket.handle(), &connection).is_err() {
        return Verdict::Pass;
    }
    if is_udp(socket) {
        let netns = socket.netns();
        let generation = backend.generation;
        let value = UdpSocket { netns, id, generation, family: F::NUMBER, pad: 0 };
        if maps::UDP_SOCKETS.insert(&socket.cookie(), &value, IfPresent::Replace).is_err() {
            return Verdict::Pass;
        }
    }
    report::connected();
    Verdict::Translate(Peer { addr: connection.backend, port: connection.backend_port })
}

/// What a connected socket dialled, if it was translated.
#[inline(always)]
pub fn connection<F: Family>(socket: SocketHandle) -> Option<&'static Connection<F>> {
    // SAFETY: the value stays readable while the program runs (RCU).
    F::sockets().get(socket).map(|connection| unsafe { &*connection })
}

#[inline(always)]
fn datagram<F: SocketFamily>(key: &DatagramKey<F>) -> Option<&'static Datagram<F>> {
    // SAFETY: as above.
    F::datagrams().get(key).map(|datagram| unsafe { &*datagram })
}

#[inline(always)]
fn datagram_key<F>(cookie: u64, peer: Peer<F>, side: u16) -> DatagramKey<F> {
    let cookie = [cookie as u32, (cookie >> 32) as u32];
    DatagramKey { cookie, addr: peer.addr, port: peer.port, side }
}

/// Another datagram to a service. The way back may have been evicted without the way there.
#[inline(always)]
fn again<F: SocketFamily>(cookie: u64, service: Peer<F>, known: &Datagram<F>) -> Verdict<F> {
    let backend = Peer { addr: known.addr, port: known.port };
    let key = datagram_key(cookie, backend, side::BACKEND);
    if datagram(&key).is_some() || record(&key, service, known.id, known.generation) {
        return Verdict::Translate(backend);
    }
    Verdict::Pass
}

/// The first datagram to a service, or the first since its backend went.
#[inline(always)]
fn begin<F: SocketFamily>(cookie: u64, service: Peer<F>, frontend: &Frontend) -> Verdict<F> {
    let Some((id, chosen)) = choose::<F>(frontend) else { return Verdict::Pass };
    let (backend, generation) = (Peer { addr: chosen.addr, port: chosen.port }, chosen.generation);
    let key = datagram_key(cookie, backend, side::BACKEND);
    // The same backend answers for another service: packets keep the two apart.
    if let Some(other) = datagram(&key)
        && (other.addr != service.addr || other.port != service.port)
        && is_current::<F>(other.id, other.generation)
    {
        return Verdict::Pass;
    }
    let forward = datagram_key(cookie, service, side::SERVICE);
    if !record(&key, service, id, generation) || !record(&forward, backend, id, generation) {
        return Verdict::Pass;
    }
    report::connected();
    Verdict::Translate(backend)
}

#[inline(always)]
fn record<F: SocketFamily>(key: &DatagramKey<F>, other: Peer<F>, id: u32, generation: u32) -> bool {
    let value = Datagram { addr: other.addr, id, generation, port: other.port, pad: 0 };
    F::datagrams().insert(key, &value, IfPresent::Replace).is_ok()
}
