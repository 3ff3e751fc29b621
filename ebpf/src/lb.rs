// SPDX-License-Identifier: Apache-2.0
//! Which service a packet is for, and which backend takes a connection.

use pintle_abi::{
    addr::Tuple,
    drop_reason::DropReason,
    service::{Backend, Frontend, FrontendKey, backend_state, frontend_flags},
};

use crate::{
    family::{Family, Transport},
    maps,
    packet::Headers,
};

/// The backend chosen for a connection.
#[derive(Clone, Copy)]
pub struct Choice<A: 'static> {
    /// Its id.
    pub id: u32,
    /// The backend itself; a reference, so that nothing is copied.
    pub backend: &'static Backend<A>,
    /// Number of the service port.
    pub service: u32,
}

/// The frontend that a packet dials; `None` if its destination is no service address at all.
///
/// A packet for a service address that no frontend takes is ours to refuse.
#[inline(always)]
pub fn find_frontend<F: Family>(
    headers: &Headers<F>,
) -> Option<Result<&'static Frontend, DropReason>> {
    let mut key = FrontendKey { addr: headers.tuple.dst, port: 0, proto: 0, scope: 0 };
    F::frontends().get(&key)?;
    if headers.malformed {
        return Some(Err(DropReason::Malformed));
    }
    if Transport::of(headers.proto).is_none() {
        return Some(Err(DropReason::UnsupportedProtocol));
    }
    if headers.fragmentation.is_later() {
        return Some(Err(DropReason::FragmentUnknown));
    }
    key.port = headers.tuple.dst_port;
    key.proto = headers.proto;
    // SAFETY: an element stays readable while the program runs (RCU), even when it is deleted.
    let frontend = F::frontends().get(&key).map(|frontend| unsafe { &*frontend });
    Some(frontend.ok_or(DropReason::UnknownPort))
}

/// Chooses a backend: uniform over the slots, and the same again for the same tuple.
#[inline(always)]
pub fn select<F: Family>(tuple: &Tuple<F>, frontend: &Frontend) -> Result<Choice<F>, DropReason> {
    let count = frontend.count;
    if count == 0 {
        let silent = frontend.flags & frontend_flags::DROP != 0;
        return Err(if silent { DropReason::NoBackend } else { DropReason::Refused });
    }
    let slot = scale(hash(tuple), count);
    let id = F::slots().get(frontend.base + slot).ok_or(DropReason::MissingBackend)?;
    // SAFETY: array elements live as long as the map.
    let id = unsafe { *id };
    let backend = backend::<F>(id).ok_or(DropReason::MissingBackend)?;
    if backend.state == backend_state::FREE {
        return Err(DropReason::MissingBackend);
    }
    Ok(Choice { id, backend, service: frontend.service })
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
