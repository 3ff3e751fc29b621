// SPDX-License-Identifier: Apache-2.0
//! The hooks: each file tells what happens to a packet there, top to bottom.

use pintle_abi::drop_reason::DropReason;

use crate::flow::Attempt;

pub mod from_pod;
pub mod to_pod;

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
    /// The packet is a fragment, or has IP options or extension headers.
    Unusual,
    /// The packet is ICMP: it may quote a packet of ours.
    Icmp,
    /// A new connection is not of the common kind; the argument is a number of
    /// [`crate::flow::Attempt`].
    Connect,
    /// A fragment came before its first one.
    Hold,
    /// A fragment: it follows its first one, or others may wait for it.
    Release,
    /// The client is to be told that its packet is dropped, for the reason in the argument.
    Refuse,
}

impl Step {
    /// On to the next program.
    pub const PASS: Self = Self { next: Next::Pass, argument: 0 };
    /// No further.
    pub const DROP: Self = Self { next: Next::Drop, argument: 0 };
    /// The packet is of an unusual shape.
    pub const UNUSUAL: Self = Self { next: Next::Unusual, argument: 0 };
    /// What stood in the packet's way is done: its connection is known, or no fragment waits for it.
    pub const AGAIN: Self = Self { next: Next::Unusual, argument: 1 };
    /// The packet is ICMP.
    pub const ICMP: Self = Self { next: Next::Icmp, argument: 0 };
    /// A fragment came before its first one.
    pub const HOLD: Self = Self { next: Next::Hold, argument: 0 };
    /// The packet is a fragment.
    pub const RELEASE: Self = Self { next: Next::Release, argument: 0 };
    /// A new connection is not of the common kind.
    pub const CONNECT: Self = Self { next: Next::Connect, argument: Attempt::Thorough as u32 };
    /// A new connection has the tuple of a live one on the backend's side: it needs another port.
    pub const MOVE_PORT: Self = Self { next: Next::Connect, argument: Attempt::Moved as u32 };

    /// Straight into the pod behind a host-side interface.
    #[inline(always)]
    pub fn deliver(ifindex: u32) -> Self {
        Self { next: Next::Deliver, argument: ifindex }
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
        if self == Self::MOVE_PORT { DropReason::NoSourcePort } else { DropReason::StepMissing }
    }
}
