// SPDX-License-Identifier: Apache-2.0
//! Session affinity: a client keeps its backend while it opens connections often enough.
//!
//! An entry remembers the block of slots that its backend was seen in. While the frontend has the same
//! block the backend is one of it; otherwise the new block is searched, once.

use pintle_abi::{
    affinity::{Affinity, AffinityKey},
    flow::is_expired,
    service::Frontend,
};

use crate::{
    family::Family,
    kernel::{IfPresent, any, now_ns},
    lb::{self, Choice},
};

/// The backend that a client of a service had, if it is still among those of this frontend.
#[inline(always)]
pub fn find<F: Family>(frontend: &Frontend, client: F) -> Option<u32> {
    let entry = F::affinity().get(&AffinityKey { service: frontend.service, client })?;
    // SAFETY: an element stays readable while the program runs (RCU).
    let entry = unsafe { &*entry };
    let timeout = u64::from(frontend.affinity_seconds) * 1_000_000_000;
    let gone = lb::backend::<F>(entry.backend)
        .is_none_or(|backend| backend.generation != entry.generation);
    if gone || is_expired(now_ns(), entry.last_used_ns, timeout) {
        return None;
    }
    let same_block = (entry.base, entry.count) == (frontend.base, frontend.count);
    (same_block || is_among::<F>(frontend, entry.backend)).then_some(entry.backend)
}

/// Remembers a client's backend.
#[inline(always)]
pub fn note<F: Family>(frontend: &Frontend, client: F, choice: &Choice<F>) {
    let entry = Affinity {
        last_used_ns: now_ns(),
        backend: choice.id,
        generation: choice.backend.generation,
        base: frontend.base,
        count: frontend.count,
    };
    let key = AffinityKey { service: frontend.service, client };
    // An LRU map always has room, unless the kernel is out of memory; then the client is forgotten.
    let _ = F::affinity().insert(&key, &entry, IfPresent::Replace);
}

/// What a search for a backend needs.
struct Search {
    base: u32,
    backend: u32,
}

#[inline(always)]
fn is_among<F: Family>(frontend: &Frontend, backend: u32) -> bool {
    let search = Search { base: frontend.base, backend };
    any(frontend.count, &search, |search, index| {
        // SAFETY: array elements live as long as the map.
        F::slots().get(search.base + index).is_some_and(|id| unsafe { *id } == search.backend)
    })
}
