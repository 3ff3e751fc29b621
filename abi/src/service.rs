// SPDX-License-Identifier: Apache-2.0
//! Frontends, slots and backends: from a service address to a pod in one hash and two array loads.

use crate::abi_struct;

abi_struct! {
    /// An address that clients dial.
    ///
    /// `port` 0 with `proto` 0 is the wildcard entry of an address: it exists while the address has
    /// any frontend, or is one of the node's own; its flags are those of [`wildcard_flags`].
    /// A node port is a frontend of the unspecified address.
    pub struct FrontendKey<A> = (8, 20) {
        /// Service address.
        pub addr: A,
        /// Service port, network byte order.
        pub port: u16,
        /// IP protocol number.
        pub proto: u8,
        /// One of [`scope`].
        pub scope: u8,
    }
}

/// Values of [`FrontendKey::scope`].
pub mod scope {
    /// For everybody, or for pods and the host if the frontend is split.
    pub const INTERNAL: u8 = 0;
    /// For clients outside the cluster, where [`super::frontend_flags::SPLIT`] says so.
    pub const EXTERNAL: u8 = 1;
}

/// Bits of [`Frontend::flags`] in the wildcard entry of an address.
pub mod wildcard_flags {
    /// A cluster address: what is for none of its ports is refused.
    pub const CLUSTER: u32 = 1 << 0;
    /// An address of a load balancer: what comes from outside for none of its ports is refused, or
    /// it would go back and forth between us and the router that sent it.
    pub const LOAD_BALANCER: u32 = 1 << 1;
    /// An address of this node at which node ports answer.
    pub const NODE: u32 = 1 << 2;
}

/// Bits of [`Frontend::flags`].
pub mod frontend_flags {
    /// The frontend has no usable backend: drop silently instead of refusing.
    pub const DROP: u32 = 1 << 0;
    /// Clients outside the cluster have a frontend of their own, in [`super::scope::EXTERNAL`].
    pub const SPLIT: u32 = 1 << 1;
    /// Clients that are no local pods are masqueraded on their way to another node.
    pub const MASQUERADE_OTHERS: u32 = 1 << 2;
    /// Every client is masqueraded on its way to another node.
    pub const MASQUERADE: u32 = 1 << 3;
    /// Every client is masqueraded, also on its way to a pod of this node.
    pub const MASQUERADE_LOCAL: u32 = 1 << 4;
    /// Only clients in the service's source ranges may use it.
    pub const SOURCE_RANGES: u32 = 1 << 5;
    /// The slots are a table that every node has alike, and every node chooses the same slot.
    pub const MAGLEV: u32 = 1 << 6;
    /// That slot is the same whatever port the client dials from.
    pub const ANY_PORT: u32 = 1 << 7;
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
    /// The backend is in use, somewhere else.
    pub const LIVE: u16 = 1;
    /// The backend is in use, on this node.
    pub const LOCAL: u16 = 2;
}
