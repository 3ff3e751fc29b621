// SPDX-License-Identifier: Apache-2.0
//! Session affinity: a client keeps its backend while it opens connections often enough.
//!
//! An entry remembers the slot that its backend was seen in. Mostly the backend is still there; where
//! the slots of the frontend have changed they are searched, once. The slot's own content decides:
//! blocks of slots are used again, for the same frontend and for others.

use pintle_abi::{
    affinity::{Affinity, AffinityKey},
    flow::is_expired,
    service::Frontend,
};

use crate::{
    family::Family,
    kernel::{IfPresent, now_ns, position},
    lb::{self, Choice},
};

/// The slot of the backend that a client of a service had, if it is still one of this frontend.
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
    let is_ours = entry.slot.wrapping_sub(frontend.base) < frontend.count;
    if is_ours && lb::slot::<F>(entry.slot) == Some(entry.backend) {
        return Some(entry.slot);
    }
    search::<F>(frontend, entry.backend)
}

/// Remembers a client's backend.
#[inline(always)]
pub fn note<F: Family>(frontend: &Frontend, client: F, choice: &Choice<F>) {
    let entry = Affinity {
        last_used_ns: now_ns(),
        backend: choice.id,
        generation: choice.backend.generation,
        slot: choice.slot,
        pad: 0,
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
fn search<F: Family>(frontend: &Frontend, backend: u32) -> Option<u32> {
    let search = Search { base: frontend.base, backend };
    let found = position(frontend.count, &search, |search, index| {
        lb::slot::<F>(search.base + index) == Some(search.backend)
    });
    found.map(|index| frontend.base + index)
}
