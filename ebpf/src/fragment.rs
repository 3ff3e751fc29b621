// SPDX-License-Identifier: Apache-2.0
//! Later fragments have no ports: the first fragment leaves them here for the others.

use pintle_abi::{
    flow::is_expired,
    fragment::{FRAGMENT_TIMEOUT_NS, Fragment, FragmentKey},
};

use crate::{
    family::Family,
    kernel::{IfPresent, now_ns},
    packet::Headers,
};

/// Notes the ports of a first fragment, or completes the tuple of a later one from that note.
///
/// `false` if the first fragment of a later one was not seen.
#[inline(always)]
pub fn resolve<F: Family>(headers: &mut Headers<F>) -> bool {
    if headers.fragmentation.is_whole() {
        return true;
    }
    let key = key(headers);
    if !headers.fragmentation.is_later() {
        let ports = Fragment {
            seen_ns: now_ns(),
            src_port: headers.tuple.src_port,
            dst_port: headers.tuple.dst_port,
            pad: 0,
        };
        // An LRU map always has room, unless the kernel is out of memory; then the datagram is lost.
        let _ = F::fragments().insert(&key, &ports, IfPresent::Replace);
        return true;
    }
    let Some(ports) = F::fragments().get(&key) else { return false };
    // SAFETY: an element stays readable while the program runs (RCU).
    let ports = unsafe { &*ports };
    // The identification may have come round again since.
    if is_expired(now_ns(), ports.seen_ns, FRAGMENT_TIMEOUT_NS) {
        return false;
    }
    headers.tuple.src_port = ports.src_port;
    headers.tuple.dst_port = ports.dst_port;
    true
}

/// The datagram of a fragment.
#[inline(always)]
pub fn key<F: Family>(headers: &Headers<F>) -> FragmentKey<F> {
    FragmentKey {
        src: headers.tuple.src,
        dst: headers.tuple.dst,
        id: headers.id,
        proto: headers.proto,
        pad: [0; 3],
    }
}
