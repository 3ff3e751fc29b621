// SPDX-License-Identifier: Apache-2.0
//! Network policy: what user space has compiled the policies to.
//!
//! A pod's interface leads to its rulesets, the peer's address to its class, the ports to a port class
//! of the ruleset; (ruleset, class) is a row of verdicts with a bit for each port class.

use crate::{
    abi_struct,
    addr::{V4, V6},
};

/// Values of [`crate::settings::Settings::policy`].
pub mod policy_mode {
    /// Nothing is judged.
    pub const OFF: u32 = 0;
    /// Policies hold; a pod whose interface is not in `ENDPOINTS` neither sends nor receives.
    pub const CLOSED: u32 = 1;
    /// Policies hold; what is not in `ENDPOINTS` is not judged.
    pub const OPEN: u32 = 2;
}

/// Rulesets that have no rows.
pub mod ruleset {
    /// Nothing is judged.
    pub const OPEN: u32 = 0;
    /// Everything is dropped: the policies did not fit into the maps.
    pub const CLOSED: u32 = 1;
}

abi_struct! {
    /// A pod of this node, keyed by the ifindex of the host side of its veth.
    ///
    /// It is *policed* if any of its rulesets is not [`ruleset::OPEN`]; then all its connections are
    /// tracked, so that replies pass.
    pub struct Endpoint = 40 {
        /// Its address, and the only source it may use; 0 if it has none of the family.
        pub v4: V4,
        /// The same for IPv6.
        pub v6: V6,
        /// Ruleset of what it sends.
        pub egress: u32,
        /// Ruleset of what it receives.
        pub ingress: u32,
        /// Ruleset of what it sends to itself through a service.
        pub hairpin_egress: u32,
        /// Ruleset of what it receives from itself through a service.
        pub hairpin_ingress: u32,
        /// Reserved; 0.
        pub flags: u32,
    }
}

impl Endpoint {
    /// Whether any of its rulesets has rules, as a number that is not 0: without branches, each of
    /// which would double what the verifier has to follow.
    #[inline(always)]
    pub fn rules(&self) -> u32 {
        self.egress | self.ingress | self.hairpin_egress | self.hairpin_ingress
    }
}

abi_struct! {
    /// What a key of `POLICY_PORTS` holds behind its prefix length: [`RULESET_BITS`] for whatever has
    /// no node of its own, [`PROTOCOL_BITS`] for any port of a protocol, up to [`PORT_BITS`] for
    /// a port.
    pub struct PolicyPort = 8 {
        /// The ruleset, big-endian: a trie compares from the highest bit on.
        pub ruleset: u32,
        /// IP protocol number.
        pub proto: u8,
        /// Reserved; 0.
        pub pad: u8,
        /// Port of the server, network byte order; 0 if the protocol has none.
        pub port: u16,
    }
}

/// Prefix length of a ruleset's other protocols.
pub const RULESET_BITS: u32 = 32;
/// Prefix length of a protocol's ports, all of them.
pub const PROTOCOL_BITS: u32 = 48;
/// Prefix length of a port.
pub const PORT_BITS: u32 = 64;

/// Port classes of a ruleset: bits of a [`Row`].
pub const PORT_CLASSES: u32 = 256;

abi_struct! {
    /// Key of `POLICY_ROWS`.
    pub struct RowKey = 8 {
        /// The ruleset.
        pub ruleset: u32,
        /// The peer's class.
        pub class: u32,
    }
}

abi_struct! {
    /// The verdicts of a ruleset about peers of a class: a bit for each port class.
    pub struct Row = 64 {
        /// What is allowed.
        pub allow: [u64; 4],
        /// What would be allowed if the audited policies held.
        pub staged: [u64; 4],
    }
}

abi_struct! {
    /// A conversation without ports, from who began it. Keyed as the server sees it.
    pub struct OtherKey<A> = (12, 36) {
        /// Who began it.
        pub client: A,
        /// The other one.
        pub server: A,
        /// IP protocol number.
        pub proto: u32,
    }
}

abi_struct! {
    /// What is remembered of it.
    pub struct OtherFlow = 24 {
        /// Time of the last packet, `CLOCK_MONOTONIC` in ns.
        pub last_seen_ns: u64,
        /// The epoch at which the client's egress was allowed; 0 for never.
        pub egress_epoch: u32,
        /// The same of the server's ingress.
        pub ingress_epoch: u32,
        /// Bits of [`crate::flow::flow_flags`].
        pub flags: u32,
        /// Reserved; 0.
        pub pad: u32,
    }
}

/// How long an idle conversation without ports is kept: `nf_conntrack_generic_timeout`, in ns.
pub const OTHER_TIMEOUT_NS: u64 = 600_000_000_000;
/// The same for questions of ICMP: `nf_conntrack_icmp_timeout`.
pub const ICMP_TIMEOUT_NS: u64 = 30_000_000_000;

/// Values of [`DeniedKey::outcome`] beside the numbers of drop reasons.
pub mod outcome {
    /// The packet passed; with the audited policies it would not.
    pub const WOULD_DROP: u8 = u8::MAX;
}

abi_struct! {
    /// Why packets were denied, or would be: what user space needs to name tier, policy and rule.
    pub struct DeniedKey = 16 {
        /// The pod that was judged: the host side of its veth.
        pub ifindex: u32,
        /// The ruleset.
        pub ruleset: u32,
        /// The peer's class.
        pub class: u32,
        /// The port class.
        pub port_class: u16,
        /// 0 if the pod is the client, 1 if it is the server.
        pub ingress: u8,
        /// Number of a [`crate::drop_reason::DropReason`], or one of [`outcome`].
        pub outcome: u8,
    }
}

abi_struct! {
    /// How often, and the last one.
    pub struct Denied = 40 {
        /// How many packets.
        pub packets: u64,
        /// When the last one was judged, `CLOCK_MONOTONIC` in ns.
        pub last_seen_ns: u64,
        /// The peer's address, in the first word if it is IPv4.
        pub peer: [u32; 4],
        /// Port of the server, network byte order; 0 if the protocol has none.
        pub port: u16,
        /// IP protocol number.
        pub proto: u8,
        /// One of [`crate::socket::family`].
        pub family: u8,
        /// Number of the hook.
        pub hook: u32,
    }
}

abi_struct! {
    /// What allowed connections: a bit of a row.
    pub struct AllowedKey = 12 {
        /// The ruleset.
        pub ruleset: u32,
        /// The peer's class.
        pub class: u32,
        /// The port class.
        pub port_class: u32,
    }
}

abi_struct! {
    /// How many it allowed.
    pub struct Allowed = 8 {
        /// Connections of TCP, UDP and SCTP, each counted when its pod allows it for the first time.
        pub connections: u64,
    }
}
