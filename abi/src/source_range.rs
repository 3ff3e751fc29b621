// SPDX-License-Identifier: Apache-2.0
//! Prefixes of addresses: who may use a service, which addresses are the cluster's.

use crate::abi_struct;

abi_struct! {
    /// Addresses that agree with `addr` wherever `mask` has ones. All zeros contains nothing.
    pub struct Prefix<A> = (8, 32) {
        /// The address, 0 where the mask is.
        pub addr: A,
        /// The mask; its ones come first.
        pub mask: A,
    }
}

abi_struct! {
    /// What a key of `SOURCE_RANGES` holds behind its prefix length, which counts the bits of the
    /// service's number, too: every service has ranges of its own.
    pub struct SourceRange<A> = (8, 20) {
        /// Number of the service port, big-endian: a trie compares from the highest bit on.
        pub service: u32,
        /// The address.
        pub addr: A,
    }
}

/// Bits of [`SourceRange::service`] in front of the address.
pub const SERVICE_BITS: u32 = 32;

/// Entries of `CLUSTER_RANGES`; a cluster has one or two.
pub const CLUSTER_RANGES: u32 = 4;
