// SPDX-License-Identifier: Apache-2.0
//! The hooks: each file tells what happens to a packet there, top to bottom.

use pintle_abi::{
    addr::Tuple,
    counter::Hook,
    drop_reason::DropReason,
    flow::flow_flags::{HOST, OUTSIDE},
};

use crate::{
    connect::Attempt,
    family::{Family, Transport},
    nat::{self, Hop},
    packet::{Headers, Packet},
    report,
};

pub mod early;
pub mod entrance;
pub mod judge;
pub mod sctp;
pub mod to_pod;
pub mod way;

/// A hook at which connections begin.
pub trait Entrance {
    /// The hook.
    const HOOK: Hook;
    /// Bits of [`pintle_abi::flow::flow_flags`] that say where its clients are.
    const CLIENT: u16;

    /// The transport of a protocol number, `None` if the hook's programs do not deal with it.
    #[inline(always)]
    fn transport(protocol: u8) -> Option<Transport> {
        Transport::common(protocol)
    }

    /// Gives a packet of such a transport another tuple.
    #[inline(always)]
    fn rewrite<F: Family, P: Packet>(
        packet: &mut P,
        headers: &Headers<F>,
        to: &Tuple<F>,
        hop: Hop,
    ) -> Result<(), DropReason> {
        nat::rewrite(packet, headers, to, hop)
    }
}

/// Traffic that leaves a local pod.
pub struct FromPod;
/// Traffic that comes from the network: clients outside, and replies of remote backends.
pub struct FromNet;
/// The same before the kernel has a buffer for it, see [`early`].
pub struct Xdp;
/// Traffic that leaves for the network: the host's own connections, and replies to clients outside.
pub struct ToNet;

/// Traffic that reaches a local pod through the host's stack. No connection is made there, but policies
/// are asked.
pub struct ToPod;

impl Entrance for ToPod {
    const HOOK: Hook = Hook::ToPod;
    const CLIENT: u16 = 0;
}

impl Entrance for FromPod {
    const HOOK: Hook = Hook::FromPod;
    const CLIENT: u16 = 0;
}

impl Entrance for FromNet {
    const HOOK: Hook = Hook::FromNet;
    const CLIENT: u16 = OUTSIDE;
}

impl Entrance for Xdp {
    const HOOK: Hook = Hook::Xdp;
    const CLIENT: u16 = OUTSIDE;
}

impl Entrance for ToNet {
    const HOOK: Hook = Hook::ToNet;
    const CLIENT: u16 = HOST;
}

/// Whether a hook's packets come from the network.
#[inline(always)]
pub fn is_from_network<E: Entrance>() -> bool {
    E::CLIENT & OUTSIDE != 0
}

/// What is left to do after a step through a hook.
///
/// Rare work is done by programs of its own: it must not cost the common packet registers and stack,
/// nor the verifier its patience. Each starts again from the headers.
///
/// A struct and not an enum with fields, so that `argument` has a value on every path: LLVM would
/// widen a register that holds a pointer on the paths where it does not matter, and the verifier
/// refuses arithmetic on pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What comes next.
    pub next: Next,
    /// Its argument, 0 if it has none.
    pub argument: u32,
}

/// What comes next.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// On to the next program, then to the host's stack or the pod.
    Pass,
    /// No further.
    Drop,
    /// Straight into the pod behind the host-side interface in the argument.
    Deliver,
    /// To wherever the node's routes lead. Where they do not: out of the interface in the argument,
    /// or if that is 0 through the host's stack, which may do more than a redirect can.
    Send,
    /// Into the host's stack, as if it came in at the interface in the argument.
    Receive,
    /// The packet is a fragment, or has IP options or extension headers.
    Unusual,
    /// The packet is ICMP: it may quote a packet of ours.
    Icmp,
    /// The packet is SCTP.
    Sctp,
    /// An association is new; the argument is a number of [`crate::connect::Attempt`].
    SctpConnect,
    /// A new connection is not of the common kind; the argument is a number of
    /// [`crate::connect::Attempt`].
    Connect,
    /// The main entry of a connection was lost.
    Restore,
    /// A fragment came before its first one.
    Hold,
    /// A fragment: it follows its first one, or others may wait for it.
    Release,
    /// The client is to be told that its packet is dropped, for the reason in the argument.
    Refuse,
    /// Policies have to be asked, about a packet's source or a translated connection.
    Judge,
    /// Policies have to be asked, about a packet that is not translated.
    Direct,
}

impl Step {
    /// On to the next program.
    pub const PASS: Self = Self { next: Next::Pass, argument: 0 };
    /// No further.
    pub const DROP: Self = Self { next: Next::Drop, argument: 0 };
    /// The packet is of an unusual shape.
    pub const UNUSUAL: Self = Self { next: Next::Unusual, argument: 0 };
    /// What stood in the packet's way is done: the connection is complete, or no fragment waits for it.
    pub const AGAIN: Self = Self { next: Next::Unusual, argument: Attempt::Thorough as u32 };
    /// The packet is ICMP.
    pub const ICMP: Self = Self { next: Next::Icmp, argument: 0 };
    /// The packet is SCTP.
    pub const SCTP: Self = Self { next: Next::Sctp, argument: 0 };
    /// An association is new.
    pub const SCTP_CONNECT: Self = Self { next: Next::SctpConnect, ..Self::CONNECT };
    /// A fragment came before its first one.
    pub const HOLD: Self = Self { next: Next::Hold, argument: 0 };
    /// The packet is a fragment.
    pub const RELEASE: Self = Self { next: Next::Release, argument: 0 };
    /// The main entry of a connection was lost.
    pub const RESTORE: Self = Self { next: Next::Restore, argument: 0 };
    /// A new connection is not of the common kind.
    pub const CONNECT: Self = Self { next: Next::Connect, argument: Attempt::Thorough as u32 };
    /// A new connection has the tuple of a live one on the backend's side: it needs another port.
    pub const MOVE_PORT: Self = Self { next: Next::Connect, argument: Attempt::Moved as u32 };
    /// The same for a masqueraded client.
    pub const MOVE_MASQUERADE: Self =
        Self { next: Next::Connect, argument: Attempt::MovedMasquerade as u32 };
    /// A new association needs another port, see [`Self::MOVE_PORT`].
    pub const SCTP_MOVE_PORT: Self = Self { next: Next::SctpConnect, ..Self::MOVE_PORT };
    /// The same for a masqueraded client.
    pub const SCTP_MOVE_MASQUERADE: Self =
        Self { next: Next::SctpConnect, ..Self::MOVE_MASQUERADE };

    /// Policies have to be asked about a packet's connection, or its source.
    pub const JUDGE: Self = Self { next: Next::Judge, argument: 0 };
    /// Policies have to be asked about a packet that is not to be translated.
    pub const DIRECT: Self = Self { next: Next::Direct, argument: 0 };

    /// No further: counts the reason, where the packet's fate is sealed.
    #[inline(always)]
    pub fn dropped<E: Entrance>(reason: DropReason) -> Self {
        report::dropped(E::HOOK, reason);
        Self::DROP
    }

    /// The connection is known since an attempt, of which this is the number: on from the headers.
    #[inline(always)]
    pub fn dialled(attempt: u32) -> Self {
        Self { next: Next::Unusual, argument: attempt }
    }

    /// Straight into the pod behind a host-side interface.
    #[inline(always)]
    pub fn deliver(ifindex: u32) -> Self {
        Self { next: Next::Deliver, argument: ifindex }
    }

    /// To wherever the node's routes lead, or else out of an interface.
    #[inline(always)]
    pub fn send(otherwise: u32) -> Self {
        Self { next: Next::Send, argument: otherwise }
    }

    /// Into the host's stack through an interface.
    #[inline(always)]
    pub fn receive(ifindex: u32) -> Self {
        Self { next: Next::Receive, argument: ifindex }
    }

    /// The client is told that its packet is dropped.
    #[inline(always)]
    pub fn refuse(reason: DropReason) -> Self {
        Self { next: Next::Refuse, argument: reason as u32 }
    }

    /// Why the packet is dropped when the step cannot be taken: its program is not there, or the
    /// chain of programs is as long as the kernel allows.
    #[inline(always)]
    pub fn failure(self) -> DropReason {
        // After the last step that the kernel allows there may be a port, but none is left for the
        // packet: the next one goes.
        if self.next == Next::Refuse {
            return DropReason::StepMissing;
        }
        match Attempt::of(self.argument) {
            Attempt::Moved => DropReason::NoSourcePort,
            Attempt::MovedMasquerade => DropReason::NoMasqueradePort,
            Attempt::Common | Attempt::Thorough => DropReason::StepMissing,
        }
    }
}
