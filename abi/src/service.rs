// SPDX-License-Identifier: Apache-2.0
//! Frontends, slots and backends: from a service address to a pod in one hash and two array loads.

use crate::abi_struct;

abi_struct! {
    /// An address that clients dial.
    ///
    /// `port` 0 with `proto` 0 is the wildcard entry of an address: it exists while the address has
    /// any frontend, and says that packets for other ports of it are ours to refuse.
    pub struct FrontendKey<A> = (8, 20) {
        /// Service address.
        pub addr: A,
        /// Service port, network byte order.
        pub port: u16,
        /// IP protocol number.
        pub proto: u8,
        /// Reserved for traffic policies; 0.
        pub scope: u8,
    }
}

/// Bits of [`Frontend::flags`].
pub mod frontend_flags {
    /// The frontend has no usable backend: drop silently instead of refusing.
    pub const DROP: u32 = 1 << 0;
}

abi_struct! {
    /// What a frontend leads to: backend ids stand in `SLOTS[base .. base + count]`.
    pub struct Frontend = 20 {
        /// Number of the service port, for counters and names; 0 in a wildcard entry.
        pub service: u32,
        /// First slot.
        pub base: u32,
        /// Number of slots; 0 when there is no usable backend.
        pub count: u32,
        /// Bits of [`frontend_flags`].
        pub flags: u32,
        /// Session affinity timeout in seconds; 0 for none.
        pub affinity_seconds: u32,
    }
}

abi_struct! {
    /// An address that can answer, stored once whatever the number of frontends that lead to it.
    ///
    /// The generation is never 0 for a live backend and changes whenever the id is given up, so a
    /// flow that remembers (id, generation) notices that its backend is gone.
    pub struct Backend<A> = (20, 32) {
        /// Pod address.
        pub addr: A,
        /// Host-side interface of the pod if it is local and may be reached by redirect; else 0.
        pub ifindex: u32,
        /// Incremented when the id is given up and when it is given out again.
        pub generation: u32,
        /// MTU of that interface in bytes; 0 if `ifindex` is.
        pub mtu: u32,
        /// Pod port, network byte order.
        pub port: u16,
        /// One of [`backend_state`].
        pub state: u16,
    }
}

/// Values of [`Backend::state`].
pub mod backend_state {
    /// The id is free; the remaining fields mean nothing, except the generation.
    pub const FREE: u16 = 0;
    /// The backend is in use.
    pub const LIVE: u16 = 1;
}
