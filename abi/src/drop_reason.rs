// SPDX-License-Identifier: Apache-2.0
//! Why a packet was dropped: variant, number and text from one line each.

macro_rules! drop_reasons {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a packet was dropped. Every dropped packet counts exactly one reason.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DropReason { $($(#[$meta])* $name = $number,)* }

        impl DropReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The words shown to people.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

drop_reasons! {
    /// A packet on a service address is shorter than its headers claim, or they contradict themselves.
    Malformed = 0, "malformed";
    /// The service has no usable backend and its traffic policy asks for silence.
    NoBackend = 1, "no backend";
    /// The service has no usable backend; the client was told (TCP reset, ICMP port unreachable).
    Refused = 2, "refused, no backend";
    /// The service address has no such port; the client was told (TCP reset, ICMP port unreachable).
    UnknownPort = 3, "refused, unknown port";
    /// The client would have been told, but answers are limited in rate.
    RefusedSilently = 4, "refused, answer suppressed";
    /// A protocol that a service cannot have.
    UnsupportedProtocol = 5, "unsupported protocol";
    /// Neither flow map took the entry.
    FlowTableFull = 6, "flow table full";
    /// No source port is left to keep two connections to one backend apart.
    NoSourcePort = 7, "no source port";
    /// A fragment whose first fragment was not seen.
    FragmentUnknown = 8, "fragment without first";
    /// The kernel refused to change the packet.
    RewriteFailed = 9, "rewrite failed";
    /// A slot or backend that a frontend leads to is not there. Never happens; counted to prove it.
    MissingBackend = 10, "missing backend";
    /// An ICMP error to a service address about a connection that is not tracked.
    IcmpUnknownFlow = 11, "icmp error of no flow";
    /// A rare step's program is not in its place. Never happens; counted to prove it.
    StepMissing = 12, "step missing";
    /// The client is in none of the service's source ranges.
    SourceRange = 13, "source not allowed";
    /// No source port is left to masquerade one more client towards this backend.
    NoMasqueradePort = 14, "no masquerade port";
    /// An address of the cluster's service range that no service has.
    Unallocated = 15, "unallocated address";
    /// The node has no address to masquerade with.
    NoMasqueradeAddress = 16, "no masquerade address";
    /// The policies of the pod that sends it do not allow it.
    DeniedEgress = 17, "policy denied egress";
    /// The policies of the pod that would receive it do not allow it.
    DeniedIngress = 18, "policy denied ingress";
    /// Nothing is known of the pod yet.
    NotProgrammed = 19, "policy not programmed";
    /// The policies of the pod did not fit into the maps.
    PolicyCapacity = 20, "policy capacity";
    /// A ruleset has no row for the peer's class. Never happens; counted to prove it.
    RowMissing = 21, "policy row missing";
    /// A pod uses a source address that is not its own.
    Spoofed = 22, "source not the pod's";
}
