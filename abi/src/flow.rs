// SPDX-License-Identifier: Apache-2.0
//! Flow entries: a connection as the client sees it, and as the backend sees it.
//!
//! A connection has two entries in the flow map of its protocol. Both are keyed by a *canonical*
//! tuple (lower end first), so a packet finds its entry with one lookup whatever its direction:
//! - the **alias**, keyed by the tuple of the client's side (client, service address);
//! - the **main** entry, keyed by the tuple of the backend's side (client, backend address).
//!
//! Each entry holds the tuple of the *other* side, oriented from the client to the server, which is
//! all that a rewrite needs: replies are translated even after the service is deleted.

use crate::abi_struct;

/// Bits of [`Flow::flags`].
pub mod flow_flags {
    /// This is the alias; otherwise it is the main entry.
    pub const ALIAS: u16 = 1 << 0;
    /// The client stands in the first half of the canonical key.
    pub const CLIENT_FIRST: u16 = 1 << 1;
    /// Packets of both directions are redirected past the host's stack.
    pub const FAST: u16 = 1 << 2;
    /// Client and backend are the same pod.
    pub const HAIRPIN: u16 = 1 << 3;
    /// The backend sees an address of this node instead of the client's.
    pub const MASQUERADED: u16 = 1 << 4;
    /// The client is behind `client_ifindex`, an uplink.
    pub const OUTSIDE: u16 = 1 << 5;
    /// The client is this host; replies come to it through `client_ifindex`.
    pub const HOST: u16 = 1 << 6;
    /// The kernel's own connection tracking translates it: kube-proxy opened it, before we took over.
    /// Its packets pass. There is no main entry.
    pub const KERNEL: u16 = 1 << 7;
    /// Nothing is translated: it is tracked because one of its ends is a pod that policies select.
    /// There is no alias, and `other` is the connection's own tuple.
    pub const DIRECT: u16 = 1 << 8;
    /// The client's socket was translated when it dialled: its packets carry the backend's address
    /// already. There is no alias, and `other` is the connection's own tuple.
    pub const SOCKET: u16 = 1 << 9;
}

/// Bits of [`Flow::forward`] and [`Flow::reply`]: what was seen of one direction.
pub mod seen {
    /// A packet.
    pub const ANY: u8 = 1 << 0;
    /// A TCP segment without SYN.
    pub const DATA: u8 = 1 << 1;
    /// A TCP FIN.
    pub const FIN: u8 = 1 << 2;
    /// A TCP RST; withdrawn by a later segment.
    pub const RST: u8 = 1 << 3;
    /// The backend's FIN came before the client's, so that the backend waits in TIME_WAIT.
    pub const CLOSES: u8 = 1 << 4;
}

abi_struct! {
    /// One side of a tracked connection. In an alias `other`, `flags`, `backend`, `generation` and what it was
    /// last told of the client matter; the counts of both make up those of the connection.
    pub struct Flow<A> = (64, 88) {
        /// Time of the last packet, `CLOCK_MONOTONIC` in ns.
        pub last_seen_ns: u64,
        /// Packets of both directions.
        pub packets: u64,
        /// Bytes of both directions, link-layer header included.
        pub bytes: u64,
        /// Tuple of the same connection on its other side, from client to server.
        pub other: crate::addr::Tuple<A>,
        /// Number of the service port.
        pub service: u32,
        /// Backend id.
        pub backend: u32,
        /// Generation of the backend when it was chosen.
        pub generation: u32,
        /// Where the client is: the host side of its pod's veth, or an uplink.
        pub client_ifindex: u32,
        /// Bits of [`flow_flags`].
        pub flags: u16,
        /// Bits of [`seen`] from client to backend. Written by packets of that direction only.
        pub forward: u8,
        /// Bits of [`seen`] from backend to client. Written by packets of that direction only.
        pub reply: u8,
        /// The policy epoch at which the client's egress was allowed; 0 for never. Each of a pod's
        /// hooks asks for its own pod's side only.
        pub egress_epoch: u32,
        /// The same of the server's ingress.
        pub ingress_epoch: u32,
    }
}

/// How long packets of XDP go on without the main entry once it was told of one: to the end of a period of
/// 2^27 ns, about an eighth of a second.
pub const SETTLED_SHIFT: u32 = 27;

/// Whether a TCP connection is over: no more data can come, and the client may open another with the
/// same tuple. By arithmetic, because the programs ask it for every packet of a client.
#[inline(always)]
pub const fn is_closed(forward: u8, reply: u8) -> bool {
    let ends = (forward | reply) & seen::RST | forward & reply & seen::FIN;
    ends != 0
}

/// State of a tracked TCP connection, derived from what was [`seen`] of its directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    /// The client's SYN is unanswered.
    SynSent,
    /// The backend has answered, the client has not confirmed.
    SynReceived,
    /// The handshake is complete.
    Established,
    /// One side has sent FIN.
    Closing,
    /// Both sides have sent FIN, the backend first: it takes late segments of this connection for
    /// 60 s, and another client's SYN with the same tuple for one of them (RFC 9293, 3.10.7.4).
    TimeWait,
    /// Both sides have sent FIN, or one has sent RST.
    Closed,
}

impl TcpState {
    /// The state that follows from the bits of both directions.
    #[inline(always)]
    pub fn of(forward: u8, reply: u8) -> Self {
        let both = forward & reply;
        let any = forward | reply;
        if any & seen::RST != 0 {
            Self::Closed
        } else if both & seen::FIN != 0 {
            if reply & seen::CLOSES != 0 { Self::TimeWait } else { Self::Closed }
        } else if any & seen::FIN != 0 {
            Self::Closing
        } else if reply & seen::ANY == 0 && forward & seen::DATA == 0 {
            Self::SynSent
        } else if forward & seen::DATA == 0 {
            Self::SynReceived
        } else {
            Self::Established
        }
    }

    /// The word shown to people and used as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::TimeWait => "time-wait",
            Self::Closed => "closed",
        }
    }

    /// How long an idle flow of this state is kept, in ns.
    ///
    /// Established and half-closed follow kube-proxy's defaults (`tcpEstablishedTimeout`,
    /// `tcpCloseWaitTimeout`), TIME_WAIT follows Linux (`TCP_TIMEWAIT_LEN`); a closed one is kept
    /// for the retransmits of its last segments.
    pub const fn timeout_ns(self) -> u64 {
        const SECOND: u64 = 1_000_000_000;
        match self {
            Self::SynSent | Self::SynReceived | Self::TimeWait => 60 * SECOND,
            Self::Established => 24 * 3600 * SECOND,
            Self::Closing => 3600 * SECOND,
            Self::Closed => 5 * SECOND,
        }
    }
}

/// How long an idle UDP flow is kept, in ns: `nf_conntrack_udp_timeout` while unanswered,
/// `nf_conntrack_udp_timeout_stream` afterwards.
pub const fn udp_timeout_ns(reply: u8) -> u64 {
    if reply & seen::ANY == 0 { 30_000_000_000 } else { 120_000_000_000 }
}

/// Whether more than `timeout_ns` have passed since `last_seen_ns`. Another CPU may have been there
/// a moment after `now_ns` was read, and a clock that wraps does no harm.
#[inline(always)]
pub const fn is_expired(now_ns: u64, last_seen_ns: u64, timeout_ns: u64) -> bool {
    now_ns.wrapping_sub(last_seen_ns).cast_signed() > timeout_ns.cast_signed()
}
