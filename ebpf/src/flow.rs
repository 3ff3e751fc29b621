// SPDX-License-Identifier: Apache-2.0
//! Tracked connections: find the entries of a packet, keep them up to date, create them.
//!
//! Invariants:
//! - the main entry is written before the alias, so a translated packet always has a way back;
//! - the flow maps never evict: what is established stays, whatever else fills them. What finds no
//!   room goes to the overflow maps, and a packet whose flow was lost there chooses the same backend
//!   again, because the choice is a hash of its tuple.

use pintle_abi::{
    addr::{Tuple, proto},
    counter::Counter,
    drop_reason::DropReason,
    flow::{Flow, TcpState, flow_flags, is_closed, is_expired, udp_timeout_ns},
};

use crate::{
    connect::Attempt,
    family::{Family, FlowMaps, Transport},
    hooks::{Entrance, is_from_network},
    kernel::{IfPresent, InsertError, apart, now_ns},
    lb::{self, Choice},
    maps,
    packet::{Headers, Packet},
    policy::End,
    report,
    wire::tcp::flag,
};

mod progress;
mod settled;

use progress::observed;
pub use progress::{seen_direct, seen_forward, seen_reply, uncount};
pub use settled::{is_settled, seen_settled, settle};

/// A flow entry in a map, shared with other CPUs.
pub type Entry<A> = &'static mut Flow<A>;

/// What the flow maps know of a packet.
pub enum Found<A: 'static> {
    /// From the client of a tracked connection, not translated yet: the alias, or the main entry if its
    /// socket was translated.
    FromClient(Entry<A>),
    /// From the backend of a tracked connection, not translated yet: the main entry.
    FromBackend(Entry<A>),
    /// Of a connection that the kernel's own connection tracking translates.
    Kernel(Entry<A>),
    /// Of a connection that is tracked but not translated, from this end of it.
    Direct(Entry<A>, End),
    /// Nothing that has to be translated here.
    Nothing,
}

/// Whether a packet whose source stands first, or not, is from the client of a flow.
#[inline(always)]
fn is_from_client<A>(flow: &Flow<A>, source_first: u16) -> bool {
    (flow.flags ^ first_flag(source_first)) & flow_flags::CLIENT_FIRST == 0
}

/// Looks up a packet's connection, whatever side and direction the packet is from.
#[inline(always)]
pub fn find<F: Family>(transport: Transport, tuple: &Tuple<F>) -> Found<F> {
    let (key, source_first) = tuple.canonical();
    let Some(flow) = get(transport, &key) else { return Found::Nothing };
    if flow.flags & (flow_flags::KERNEL | flow_flags::DIRECT) != 0 {
        return untranslated(flow, source_first);
    }
    match is_from_client(flow, source_first) {
        true if flow.flags & (flow_flags::ALIAS | flow_flags::SOCKET) != 0 => {
            Found::FromClient(flow)
        }
        false if flow.flags & flow_flags::ALIAS == 0 => Found::FromBackend(flow),
        // Already translated, or a client that dials the backend directly.
        _ => Found::Nothing,
    }
}

/// The entry of a packet's connection, whatever its role, and who sends the packet.
#[inline(always)]
pub fn look_up<F: Family>(transport: Transport, tuple: &Tuple<F>) -> Option<(Entry<F>, End)> {
    let (key, source_first) = tuple.canonical();
    let flow = get(transport, &key)?;
    let sender = sender(flow, source_first);
    Some((flow, sender))
}

#[inline(always)]
fn sender<A>(flow: &Flow<A>, source_first: u16) -> End {
    if is_from_client(flow, source_first) { End::Client } else { End::Server }
}

#[inline(always)]
fn untranslated<A>(flow: Entry<A>, source_first: u16) -> Found<A> {
    if flow.flags & flow_flags::KERNEL != 0 {
        return Found::Kernel(flow);
    }
    let sender = sender(flow, source_first);
    Found::Direct(flow, sender)
}

/// Looks up a packet that an ICMP error quotes: one that was translated already, so the roles of the
/// entries are swapped. [`Found::FromClient`] holds the main entry, [`Found::FromBackend`] the alias.
#[inline(always)]
pub fn find_quoted<F: Family>(transport: Transport, tuple: &Tuple<F>) -> Found<F> {
    let (key, source_first) = tuple.canonical();
    let Some(flow) = get(transport, &key) else { return Found::Nothing };
    if flow.flags & (flow_flags::KERNEL | flow_flags::DIRECT) != 0 {
        return untranslated(flow, source_first);
    }
    let alias = flow.flags & flow_flags::ALIAS != 0;
    match (alias, is_from_client(flow, source_first)) {
        (false, true) => Found::FromClient(flow),
        (true, false) => Found::FromBackend(flow),
        (true, true) | (false, false) => Found::Nothing,
    }
}

/// The entry of a key. Each transport has a call of its own: a call whose map is chosen at run time
/// costs twice as much, because the kernel cannot inline it.
#[inline(always)]
fn get<F: Family>(transport: Transport, key: &Tuple<F>) -> Option<Entry<F>> {
    let place = match transport {
        Transport::Tcp => {
            let place = get_in(F::tcp_flows(), key);
            apart::<1>();
            place
        }
        Transport::Udp => {
            let place = get_in(F::udp_flows(), key);
            apart::<2>();
            place
        }
        Transport::Sctp => {
            let place = get_in(F::sctp_flows(), key);
            apart::<5>();
            place
        }
    };
    // SAFETY: an element stays readable and writable while the program runs (RCU). Other CPUs may
    // write the same counters; a lost increment is accepted for their price.
    place.map(|place| unsafe { &mut *place })
}

#[inline(always)]
fn get_in<F: Family>(flows: FlowMaps<F>, key: &Tuple<F>) -> Option<*mut Flow<F>> {
    match (flows.main.get(key), flows.overflow) {
        (None, Some(overflow)) if overflowed() => overflow.get(key),
        (found, _) => found,
    }
}

#[inline(always)]
fn overflowed() -> bool {
    overflowed_at() != 0
}

/// When a flow last went to an overflow map, which may have evicted another; 0 if none ever has.
#[inline(always)]
fn overflowed_at() -> u64 {
    // SAFETY: array elements live as long as the map.
    maps::OVERFLOW_SEEN.get(0).map_or(0, |seen| unsafe { *seen })
}

/// What stands behind an alias that a client's packet has hit.
pub enum Resumed<A: 'static> {
    /// The connection's main entry.
    Main(Entry<A>),
    /// The packet starts a new connection, or must get a new backend.
    Over,
    /// The main entry was lost, see [`restore`].
    Lost,
}

/// The main entry behind the alias that a client's packet has hit.
#[inline(always)]
pub fn resume<E: Entrance, F: Family>(
    transport: Transport,
    headers: &Headers<F>,
    alias: &Flow<F>,
    now: u64,
) -> Resumed<F> {
    let (key, _) = alias.other.canonical();
    let Some(main) = get(transport, &key) else { return Resumed::Lost };
    // Another connection may have the same tuple on the backend's side by now.
    if main.flags & flow_flags::ALIAS != 0 || main.other != headers.tuple {
        return Resumed::Over;
    }
    let gone = lb::backend::<F>(alias.backend)
        .is_none_or(|backend| backend.generation != alias.generation);
    let forged = is_forged::<E, F>(main);
    let fresh = match headers.proto {
        // The next datagram goes to a backend that is there.
        proto::UDP => forged || gone || is_over(main, headers.proto, now),
        _ => is_first_segment(headers) && (forged || may_start_again(main, gone, now)),
    };
    if fresh {
        return Resumed::Over;
    }
    Resumed::Main(main)
}

/// Whether somebody outside has begun, from a client's address and port, what this client goes on with:
/// a router that sent back what the host had sent to a service of before, or a forger. Its answers would
/// go out to the network.
#[inline(always)]
fn is_forged<E: Entrance, A>(main: &Flow<A>) -> bool {
    !is_from_network::<E>() && main.flags & flow_flags::OUTSIDE != 0
}

/// Whether a packet still belongs to the kernel's own connection tracking, which kube-proxy has told
/// where to. UDP leaves it when its backend is gone, TCP and SCTP with a new connection.
#[inline(always)]
pub fn stays_with_kernel<F: Family>(flow: &mut Flow<F>, headers: &Headers<F>) -> bool {
    let gone =
        lb::backend::<F>(flow.backend).is_none_or(|backend| backend.generation != flow.generation);
    let leaves = match headers.proto {
        proto::UDP => gone,
        _ => is_first_segment(headers),
    };
    flow.last_seen_ns = now_ns();
    !leaves
}

/// A SYN on a known tuple is a retransmit, unless the connection is over or its backend is gone.
#[inline(always)]
fn may_start_again<A>(main: &Flow<A>, gone: bool, now: u64) -> bool {
    let unanswered = TcpState::of(main.forward, main.reply) == TcpState::SynSent;
    is_over(main, proto::TCP, now) || (gone && unanswered)
}

/// Whether a connection has ended, or was silent for too long.
#[inline(always)]
pub(crate) fn is_over<A>(main: &Flow<A>, protocol: u8, now: u64) -> bool {
    let timeout = match protocol {
        proto::UDP => udp_timeout_ns(main.reply),
        _ if is_closed(main.forward, main.reply) => return true,
        _ => TcpState::of(main.forward, main.reply).timeout_ns(),
    };
    is_expired(now, main.last_seen_ns, timeout)
}

/// Whether another client may have a connection's tuple. A backend in TIME_WAIT would answer its SYN
/// as if it were late: timestamps and sequence numbers of two clients have nothing in common.
#[inline(always)]
fn is_free<A>(main: &Flow<A>, protocol: u8, now: u64) -> bool {
    is_over(main, protocol, now) && (protocol == proto::UDP || !is_in_time_wait(main, now))
}

#[inline(always)]
fn is_in_time_wait<A>(main: &Flow<A>, now: u64) -> bool {
    let state = TcpState::of(main.forward, main.reply);
    state == TcpState::TimeWait && !is_expired(now, main.last_seen_ns, state.timeout_ns())
}

/// Whether a segment asks for a new connection; a datagram, which has no flags, never does.
#[inline(always)]
pub fn is_first_segment<A>(headers: &Headers<A>) -> bool {
    headers.tcp_flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN
}

/// Completes a connection of which only the alias is left; `false` if there is nothing to complete.
#[inline(always)]
pub fn restore<E: Entrance, F: Family>(transport: Transport, headers: &Headers<F>) -> bool {
    let Found::FromClient(alias) = find(transport, &headers.tuple) else { return false };
    let (key, client_first) = alias.other.canonical();
    let mut main = *alias;
    main.other = headers.tuple;
    main.flags &= !(flow_flags::ALIAS | flow_flags::CLIENT_FIRST);
    main.flags |= first_flag(client_first);
    let inserted =
        insert::<E, F>(transport, &key, &main, IfPresent::Refuse, Attempt::Thorough).is_ok();
    if inserted {
        (alias.packets, alias.bytes) = (0, 0);
        report::count(E::HOOK, Counter::Restored);
    }
    inserted
}

/// What is known of a new connection beside its first packet.
#[derive(Clone, Copy)]
pub struct Route<'a, A> {
    /// Its tuple on the backend's side.
    pub server: &'a Tuple<A>,
    /// Bits of [`flow_flags`].
    pub path: u16,
    /// The epochs at which policies allowed it, as in [`Flow`].
    pub epochs: (u32, u32),
}

/// Writes both entries of a new connection to the chosen backend. `false` if another live connection may
/// have its tuple on the backend's side, or if it takes more than a common attempt.
#[inline(always)]
pub fn open<E: Entrance, F: Family, P: Packet>(
    transport: Transport,
    headers: &Headers<F>,
    packet: &P,
    choice: &Choice<F>,
    route: &Route<'_, F>,
    attempt: Attempt,
) -> Result<bool, DropReason> {
    let client = headers.tuple;
    // After any other attempt the packet is looked up again, and counted there.
    let counted = u32::from(attempt == Attempt::Common);
    let (key, client_first) = route.server.canonical();
    let mut flow = first_seen(headers, packet, choice, route, (client_first, counted));
    if !insert_main::<E, F>(transport, &key, &flow, headers.proto, attempt)? {
        return Ok(false);
    }
    let (alias_key, client_first) = client.canonical();
    (flow.packets, flow.bytes) = (0, 0);
    flow.other = *route.server;
    flow.flags = route.path | flow_flags::ALIAS | first_flag(client_first);
    match insert::<E, F>(transport, &alias_key, &flow, IfPresent::Replace, attempt) {
        Err(_) if attempt == Attempt::Common => return Ok(false),
        result => result?,
    }
    report::count(E::HOOK, Counter::NewFlow);
    Ok(true)
}

/// Writes the entry of a connection whose socket was translated. `false` if there is no room, or a
/// connection to a service has that tuple on the backend's side.
#[inline(always)]
pub fn open_for_socket<E: Entrance, F: Family, P: Packet>(
    transport: Transport,
    headers: &Headers<F>,
    packet: &P,
    choice: &Choice<F>,
    route: &Route<'_, F>,
) -> bool {
    let (key, client_first) = route.server.canonical();
    let flow = first_seen(headers, packet, choice, route, (client_first, 1));
    let opened = match insert::<E, F>(transport, &key, &flow, IfPresent::Refuse, Attempt::Common) {
        Ok(()) => true,
        Err(InsertError::NoRoom) => false,
        // What stands alone under this tuple is what came before.
        Err(InsertError::Exists) => match get(transport, &key) {
            Some(before) if before.other == flow.other => {
                *before = flow;
                true
            }
            _ => false,
        },
    };
    if opened {
        report::count(E::HOOK, Counter::NewFlow);
        report::count(E::HOOK, Counter::OfSocket);
    }
    opened
}

/// The main entry of a connection at its first packet, which counts or not; whether the client stands
/// first in its key.
#[inline(always)]
fn first_seen<F: Family, P: Packet>(
    headers: &Headers<F>,
    packet: &P,
    choice: &Choice<F>,
    route: &Route<'_, F>,
    (client_first, counted): (u16, u32),
) -> Flow<F> {
    Flow {
        last_seen_ns: now_ns(),
        packets: u64::from(counted),
        bytes: u64::from(packet.len() * counted),
        other: headers.tuple,
        service: choice.service,
        backend: choice.id,
        generation: choice.backend.generation,
        client_ifindex: packet.ifindex(),
        flags: route.path | first_flag(client_first),
        forward: observed(headers),
        reply: 0,
        egress_epoch: route.epochs.0,
        ingress_epoch: route.epochs.1,
    }
}

#[inline(always)]
pub(crate) fn first_flag(client_first: u16) -> u16 {
    client_first * flow_flags::CLIENT_FIRST
}

/// Writes the main entry; `false` if that takes another attempt, because another live connection
/// may have its key.
#[inline(always)]
fn insert_main<E: Entrance, F: Family>(
    transport: Transport,
    key: &Tuple<F>,
    flow: &Flow<F>,
    protocol: u8,
    attempt: Attempt,
) -> Result<bool, DropReason> {
    match insert::<E, F>(transport, key, flow, IfPresent::Refuse, attempt) {
        Ok(()) => Ok(true),
        Err(_) if attempt == Attempt::Common => Ok(false),
        Err(InsertError::NoRoom) => Err(DropReason::FlowTableFull),
        Err(InsertError::Exists) => {
            let main = get(transport, key).ok_or(DropReason::FlowTableFull)?;
            // The same client again.
            if main.other == flow.other {
                *main = *flow;
                return Ok(true);
            }
            let free = is_free(main, protocol, flow.last_seen_ns);
            if free {
                // A connection whose packets are not translated has no alias.
                if main.flags & (flow_flags::DIRECT | flow_flags::SOCKET) == 0 {
                    forget_alias(transport, key, &main.other);
                }
                *main = *flow;
            }
            Ok(free)
        }
    }
}

/// Removes the alias of a TCP connection whose main entry another one takes: the sweeper would not
/// find it. UDP's aliases end by themselves.
#[inline(always)]
fn forget_alias<F: Family>(transport: Transport, main: &Tuple<F>, client: &Tuple<F>) {
    if let Transport::Tcp = transport {
        let (key, _) = client.canonical();
        let flows = F::tcp_flows().main;
        // The client may have a newer connection under the same alias.
        // SAFETY: an element stays readable while the program runs (RCU).
        let found = flows.get(&key).map(|alias| unsafe { &(*alias).other });
        if found.is_some_and(|other| *other == *main || other.reverse() == *main) {
            flows.remove(&key);
        }
    }
}

/// Inserts into the flow map, or into the overflow map if that has no room.
#[inline(always)]
pub(crate) fn insert<E: Entrance, F: Family>(
    transport: Transport,
    key: &Tuple<F>,
    flow: &Flow<F>,
    present: IfPresent,
    attempt: Attempt,
) -> Result<(), InsertError> {
    match transport {
        Transport::Tcp => {
            let result = insert_in::<E, F>(F::tcp_flows(), key, flow, present, attempt);
            apart::<3>();
            result
        }
        Transport::Udp => {
            let result = insert_in::<E, F>(F::udp_flows(), key, flow, present, attempt);
            apart::<4>();
            result
        }
        Transport::Sctp => {
            let result = insert_in::<E, F>(F::sctp_flows(), key, flow, present, attempt);
            apart::<6>();
            result
        }
    }
}

#[inline(always)]
fn insert_in<E: Entrance, F: Family>(
    flows: FlowMaps<F>,
    key: &Tuple<F>,
    flow: &Flow<F>,
    present: IfPresent,
    attempt: Attempt,
) -> Result<(), InsertError> {
    match (flows.main.insert(key, flow, present), flows.overflow) {
        (Err(InsertError::NoRoom), Some(overflow)) if attempt != Attempt::Common => {
            report::count(E::HOOK, Counter::Overflow);
            if let Some(seen) = maps::OVERFLOW_SEEN.get(0) {
                // SAFETY: array elements live as long as the map; any CPU's time will do.
                unsafe { *seen = flow.last_seen_ns };
            }
            overflow.insert(key, flow, present)
        }
        (result, _) => result,
    }
}

impl From<InsertError> for DropReason {
    fn from(_: InsertError) -> Self {
        Self::FlowTableFull
    }
}
