// SPDX-License-Identifier: Apache-2.0
//! Settings of the node, in a pinned map so that they outlive the agent that chose them.

use crate::{
    abi_struct,
    addr::{V4, V6},
    source_range::Prefix,
};

/// Values of [`Settings::detect`].
pub mod detect {
    /// A packet is of a local pod if its interface is ([`crate::device::device_flags::POD`]).
    pub const INTERFACE: u32 = 0;
    /// A packet is of a local pod if its source lies in `pods_v4` or `pods_v6`.
    pub const ADDRESS: u32 = 1;
}

abi_struct! {
    /// One per node, at index 0 of `SETTINGS`.
    pub struct Settings = 120 {
        /// Secret key of the backend choice. Drawn once and kept: the same tuple finds the same
        /// backend again after its flow was lost.
        pub hash_key: u32,
        /// 1 if packets may be redirected past the host's stack.
        pub fast_path: u32,
        /// Source address that a pod sees when it reaches itself through a service.
        pub hairpin_v4: V4,
        /// The same for IPv6.
        pub hairpin_v6: V6,
        /// Address that stands for masqueraded clients where the way out has none of its own.
        pub node_v4: V4,
        /// The same for IPv6.
        pub node_v6: V6,
        /// Addresses of pods, as `detectLocalMode` has them.
        pub pods_v4: Prefix<V4>,
        /// The same for IPv6.
        pub pods_v6: Prefix<V6>,
        /// One of [`detect`].
        pub detect: u32,
        /// 1 while kube-proxy's connections are taken over: what no flow is known of and is no first
        /// segment passes.
        pub take_over: u32,
        /// First source port of masqueraded clients.
        pub masquerade_base: u16,
        /// Number of those ports; 0 refuses to masquerade.
        pub masquerade_count: u16,
        /// One of [`crate::socket::socket_scope`].
        pub socket_scope: u32,
        /// Cookie of the node's own network namespace.
        pub node_netns: u64,
        /// One of [`crate::policy::policy_mode`].
        pub policy: u32,
        /// What was allowed at another epoch is judged again. Never 0 while policies hold; it moves
        /// after the maps, where something that was allowed may not be any more.
        pub policy_epoch: u32,
    }
}
