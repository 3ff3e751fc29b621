// SPDX-License-Identifier: Apache-2.0
//! Settings of the node, in a pinned map so that they outlive the agent that chose them.

use crate::{
    abi_struct,
    addr::{V4, V6},
};

abi_struct! {
    /// One per node, at index 0 of `SETTINGS`.
    pub struct Settings = 32 {
        /// Secret key of the backend choice. Drawn once and kept: the same tuple finds the same
        /// backend again after its flow was lost.
        pub hash_key: u32,
        /// 1 if packets may be redirected past the host's stack.
        pub fast_path: u32,
        /// Source address that a pod sees when it reaches itself through a service.
        pub hairpin_v4: V4,
        /// The same for IPv6.
        pub hairpin_v6: V6,
        /// Reserved; 0.
        pub pad: u32,
    }
}
