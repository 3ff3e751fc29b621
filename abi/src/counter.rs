// SPDX-License-Identifier: Apache-2.0
//! Counters, per CPU, by hook: a row per hook, a column per counter or drop reason.

use crate::drop_reason::DropReason;

macro_rules! hooks {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Where a program is attached.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Hook { $($(#[$meta])* $name = $number,)* }

        impl Hook {
            /// Every hook, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name, also the program's.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

hooks! {
    /// Packets that leave a local pod: tc ingress of the host side of its veth.
    FromPod = 0, "from_pod";
    /// Packets for a local pod that come through the host's stack: tc egress of the same device.
    ToPod = 1, "to_pod";
    /// Packets that come from the network: tc ingress of uplinks and overlay devices.
    FromNet = 2, "from_net";
    /// Packets that leave for the network, the host's own included: tc egress of the same devices and
    /// of loopback.
    ToNet = 3, "to_net";
    /// Packets that come from the network, before the kernel has a buffer for them: XDP of uplinks. What
    /// passes here meets `from_net`.
    Xdp = 4, "xdp";
}

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What a hook counts beside drops.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[$meta])* $name = $number,)* }

        impl Counter {
            /// Every counter, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The words shown to people.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// Packets that are none of our business.
    Passed = 0, "passed";
    /// Packets from a client to a backend of a service, translated here or by the client's socket.
    Forward = 1, "to a service";
    /// Packets from such a backend to the client.
    Reply = 2, "from a service";
    /// ICMP errors translated.
    IcmpError = 3, "icmp errors";
    /// Packets that were redirected past the host's stack (a part of the above).
    Redirected = 4, "redirected";
    /// Connections for which a backend was chosen.
    NewFlow = 5, "new flows";
    /// Flow entries that went to the overflow map because the flow map was full.
    Overflow = 6, "overflow flows";
    /// Flows found in part and completed again.
    Restored = 7, "restored flows";
    /// Source ports changed to keep two connections to one backend apart.
    PortMoved = 8, "moved source ports";
    /// Fragments kept until their first one comes.
    Held = 9, "held fragments";
    /// Fragments that were kept and went on; what is missing here was lost with its datagram.
    Released = 10, "released fragments";
    /// Connections that got a source address of this node (a part of the new flows).
    Masqueraded = 11, "masqueraded flows";
    /// Packets whose pods' policies were asked: first ones, and those that come after a change.
    Judged = 12, "judged";
    /// Packets that audited policies would have dropped (a part of the above).
    WouldDrop = 13, "would drop";
    /// Allowed connections for which no flow map had room: their replies are judged by themselves.
    Untracked = 14, "untracked flows";
    /// Connections that a pod's socket has translated, redirected all the same (a part of the new flows).
    OfSocket = 15, "flows of sockets";
}

/// The row behind those of the hooks: sockets that are translated or refused when they dial.
pub const CONNECT_ROW: u32 = 5;

/// The name of that row.
pub const CONNECT: &str = "connect";

const _: () = assert!(Hook::ALL.len() <= CONNECT_ROW as usize);

/// Columns of a row: the counters, then the drop reasons.
pub const COLUMNS: u32 = 48;

const _: () = assert!(Counter::ALL.len() + DropReason::ALL.len() <= COLUMNS as usize);

/// Index in `COUNTERS` of a hook's counter.
#[inline(always)]
pub const fn counter_index(hook: Hook, counter: Counter) -> u32 {
    counter_in(hook as u32, counter)
}

/// Index in `COUNTERS` of a row's counter.
#[inline(always)]
pub const fn counter_in(row: u32, counter: Counter) -> u32 {
    row * COLUMNS + counter as u32
}

/// Index in `COUNTERS` of a hook's drop reason.
#[inline(always)]
pub const fn drop_index(hook: Hook, reason: DropReason) -> u32 {
    drop_in(hook as u32, reason)
}

/// Index in `COUNTERS` of a row's drop reason.
#[inline(always)]
pub const fn drop_in(row: u32, reason: DropReason) -> u32 {
    row * COLUMNS + Counter::ALL.len() as u32 + reason as u32
}

/// Entries of `COUNTERS`.
pub const COUNTER_ENTRIES: u32 = (CONNECT_ROW + 1) * COLUMNS;
