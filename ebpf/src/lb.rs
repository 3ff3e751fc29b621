// SPDX-License-Identifier: Apache-2.0
//! Which service a packet is for, and which backend takes a connection.

use pintle_abi::{
    addr::Tuple,
    drop_reason::DropReason,
    flow::flow_flags::HOST,
    service::{
        Backend, Frontend, FrontendKey, backend_state, frontend_flags, scope, wildcard_flags,
    },
    source_range::{CLUSTER_RANGES, SourceRange},
};

use crate::{
    affinity,
    family::Family,
    hooks::{Entrance, is_from_network},
    maps, origin,
    packet::{Headers, Packet},
};

/// The backend chosen for a connection.
#[derive(Clone, Copy)]
pub struct Choice<A: 'static> {
    /// The slot that led to it.
    pub slot: u32,
    /// Its id.
    pub id: u32,
    /// The backend itself; a reference, so that nothing is copied.
    pub backend: &'static Backend<A>,
    /// Number of the service port.
    pub service: u32,
    /// Bits of [`frontend_flags`].
    pub flags: u32,
}

/// A frontend and where it was found.
#[derive(Clone, Copy)]
pub struct Dialled<A> {
    /// The frontend.
    pub frontend: &'static Frontend,
    /// Its address: the packet's destination, or the unspecified one for a node port.
    pub addr: A,
}

/// The frontend that a packet dials; `None` if the packet is none of our business.
///
/// A packet for an address that is a service's and nobody else's is ours to refuse, whatever it is.
#[inline(always)]
pub fn find_frontend<E: Entrance, F: Family>(
    headers: &Headers<F>,
) -> Option<Result<Dialled<F>, DropReason>> {
    let mut key = FrontendKey { addr: headers.tuple.dst, port: 0, proto: 0, scope: 0 };
    let Some(wildcard) = frontend(&key) else {
        return is_unallocated(headers.tuple.dst).then_some(Err(DropReason::Unallocated));
    };
    let is_node = wildcard.flags & wildcard_flags::NODE != 0;
    if headers.malformed {
        return (!is_node).then_some(Err(DropReason::Malformed));
    }
    if E::transport(headers.proto).is_none() {
        let ours = wildcard.flags & wildcard_flags::CLUSTER != 0;
        return ours.then_some(Err(DropReason::UnsupportedProtocol));
    }
    if headers.fragmentation.is_later() {
        return Some(Err(DropReason::FragmentUnknown));
    }
    key.port = headers.tuple.dst_port;
    key.proto = headers.proto;
    if let Some(frontend) = frontend(&key) {
        return Some(Ok(Dialled { frontend, addr: key.addr }));
    }
    if is_node {
        key.addr = F::default();
        if let Some(frontend) = frontend(&key) {
            return Some(Ok(Dialled { frontend, addr: key.addr }));
        }
    }
    is_refused::<E>(wildcard.flags).then_some(Err(DropReason::UnknownPort))
}

/// Whether a packet for none of an address' ports is refused. A load balancer's address may answer at
/// other ports elsewhere, but what comes from there to us would only be sent back.
#[inline(always)]
fn is_refused<E: Entrance>(wildcard: u32) -> bool {
    let returns = wildcard & wildcard_flags::LOAD_BALANCER != 0
        && wildcard & wildcard_flags::NODE == 0
        && is_from_network::<E>();
    wildcard & wildcard_flags::CLUSTER != 0 || returns
}

#[inline(always)]
fn frontend<F: Family>(key: &FrontendKey<F>) -> Option<&'static Frontend> {
    // SAFETY: an element stays readable while the program runs (RCU), even when it is deleted.
    F::frontends().get(key).map(|frontend| unsafe { &*frontend })
}

/// Whether an address is a service's and nobody else's.
#[inline(always)]
pub fn is_service_only<F: Family>(addr: F) -> bool {
    const SERVICE: u32 = wildcard_flags::CLUSTER | wildcard_flags::LOAD_BALANCER;
    let wildcard = frontend(&FrontendKey { addr, port: 0, proto: 0, scope: 0 });
    wildcard.is_some_and(|wildcard| {
        wildcard.flags & SERVICE != 0 && wildcard.flags & wildcard_flags::NODE == 0
    })
}

/// Whether the cluster gives out such addresses for services; no service has this one.
#[inline(always)]
fn is_unallocated<F: Family>(addr: F) -> bool {
    let mut found = 0;
    for index in 0..CLUSTER_RANGES {
        if let Some(range) = F::cluster_ranges().get(index) {
            // SAFETY: array elements live as long as the map.
            found |= addr.is_within(unsafe { &*range });
        }
    }
    found != 0
}

/// Whether anybody may use a frontend in the same way.
#[inline(always)]
pub fn is_plain(frontend: &Frontend) -> bool {
    const EXTRAS: u32 = frontend_flags::SPLIT
        | frontend_flags::MASQUERADE
        | frontend_flags::MASQUERADE_LOCAL
        | frontend_flags::SOURCE_RANGES;
    frontend.flags & EXTRAS == 0 && frontend.affinity_seconds == 0
}

/// The frontend for this client, whom the service's source ranges must allow.
#[inline(always)]
pub fn for_client<E: Entrance, F: Family>(
    packet: &impl Packet,
    headers: &Headers<F>,
    dialled: Dialled<F>,
) -> Result<&'static Frontend, DropReason> {
    let found = dialled.frontend;
    if found.flags & frontend_flags::SOURCE_RANGES != 0 {
        let service = found.service.to_be();
        if F::source_ranges().get(SourceRange { service, addr: headers.tuple.src }).is_none() {
            return Err(DropReason::SourceRange);
        }
    }
    let inside = found.flags & frontend_flags::SPLIT == 0
        || E::CLIENT & HOST != 0
        || origin::is_pod(packet, headers.tuple.src);
    if inside {
        return Ok(found);
    }
    let key = FrontendKey {
        addr: dialled.addr,
        port: headers.tuple.dst_port,
        proto: headers.proto,
        scope: scope::EXTERNAL,
    };
    frontend(&key).ok_or(DropReason::NoBackend)
}

/// Chooses a backend: uniform over the slots, and the same again for the same tuple, on every node
/// if the slots are a table that all have.
#[inline(always)]
pub fn select<F: Family>(tuple: &Tuple<F>, frontend: &Frontend) -> Result<Choice<F>, DropReason> {
    let count = frontend.count;
    if count == 0 {
        let silent = frontend.flags & frontend_flags::DROP != 0;
        return Err(if silent { DropReason::NoBackend } else { DropReason::Refused });
    }
    let slot = frontend.base + scale(slot_hash(tuple, frontend), count);
    choice_of(frontend, slot).ok_or(DropReason::MissingBackend)
}

/// The same with session affinity: the client's last backend, if it still is one of this frontend.
#[inline(always)]
pub fn choose<F: Family>(
    headers: &Headers<F>,
    frontend: &Frontend,
) -> Result<Choice<F>, DropReason> {
    if frontend.affinity_seconds == 0 || frontend.count == 0 {
        return select(&headers.tuple, frontend);
    }
    let kept = affinity::find::<F>(frontend, headers.tuple.src);
    let choice = match kept.and_then(|slot| choice_of(frontend, slot)) {
        Some(choice) => choice,
        None => select(&headers.tuple, frontend)?,
    };
    affinity::note(frontend, headers.tuple.src, &choice);
    Ok(choice)
}

#[inline(always)]
fn choice_of<F: Family>(frontend: &Frontend, slot: u32) -> Option<Choice<F>> {
    let id = self::slot::<F>(slot)?;
    let backend = backend::<F>(id).filter(|backend| backend.state != backend_state::FREE)?;
    Some(Choice { slot, id, backend, service: frontend.service, flags: frontend.flags })
}

/// The backend id in a slot.
#[inline(always)]
pub fn slot<F: Family>(index: u32) -> Option<u32> {
    // SAFETY: array elements live as long as the map.
    F::slots().get(index).map(|id| unsafe { *id })
}

/// The backend of an id.
#[inline(always)]
pub fn backend<F: Family>(id: u32) -> Option<&'static Backend<F>> {
    // SAFETY: array elements live as long as the map.
    F::backends().get(id).map(|backend| unsafe { &*backend })
}

/// A keyed hash of a tuple, uniform in its upper half.
#[inline(always)]
pub fn hash<F: Family>(tuple: &Tuple<F>) -> u64 {
    let key = maps::settings().map_or(0, |settings| settings.hash_key);
    let ports = u64::from(tuple.src_port) << 16 | u64::from(tuple.dst_port);
    mix(tuple.dst.mix(tuple.src.mix(u64::from(key) << 32 | ports)))
}

/// The hash that chooses a slot. Where the slots are a table that every node has alike, so is the hash:
/// without the secret, and without the address that was dialled, which for a node port is each node's
/// own.
///
/// Arithmetic and no branches, which would double what the verifier has to go through.
#[inline(always)]
fn slot_hash<F: Family>(tuple: &Tuple<F>, frontend: &Frontend) -> u64 {
    let unless = |flag: u32| u64::from((frontend.flags / flag) & 1).wrapping_sub(1);
    let own = unless(frontend_flags::MAGLEV);
    let key = maps::settings().map_or(0, |settings| settings.hash_key);
    let src_port = u64::from(tuple.src_port) & unless(frontend_flags::ANY_PORT);
    let ports = src_port << 16 | u64::from(tuple.dst_port);
    let of_client = tuple.src.mix((u64::from(key) & own) << 32 | ports);
    let of_both = tuple.dst.mix(of_client);
    mix(of_client ^ (of_client ^ of_both) & own)
}

/// The finalizer of SplitMix64: every bit of the input moves every bit of the output.
#[inline(always)]
pub fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Maps a hash to `0..count` by its upper half: uniform, and cheaper than a division.
#[inline(always)]
pub fn scale(hash: u64, count: u32) -> u32 {
    (((hash >> 32) * u64::from(count)) >> 32) as u32
}
