// SPDX-License-Identifier: Apache-2.0
//! Session affinity: which backend a client of a service port has.

use crate::abi_struct;

abi_struct! {
    /// A client of a service port, whatever the address it dials and the port it uses.
    pub struct AffinityKey<A> = (8, 20) {
        /// Number of the service port.
        pub service: u32,
        /// The client, as this node sees it.
        pub client: A,
    }
}

abi_struct! {
    /// The backend of that client.
    pub struct Affinity = 24 {
        /// When it last opened a connection, `CLOCK_MONOTONIC` in ns.
        pub last_used_ns: u64,
        /// Backend id.
        pub backend: u32,
        /// Generation of the backend when it was chosen.
        pub generation: u32,
        /// The slot that the backend was last seen in: while it is there, and the slot is one of the
        /// frontend's, the client keeps it.
        pub slot: u32,
        /// Reserved; 0.
        pub pad: u32,
    }
}
