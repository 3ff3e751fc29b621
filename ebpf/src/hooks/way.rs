// SPDX-License-Identifier: Apache-2.0
//! Which way a packet of a tracked connection leaves a hook.
//!
//! The host's stack must see both directions of a connection or none, and it takes no packet from
//! outside whose source is one of its own addresses. So what is masqueraded skips the stack both
//! ways, and what takes the stack is translated back only behind it, at egress of the client's device.

use pintle_abi::{
    counter::{Counter, Hook},
    flow::{Flow, flow_flags},
};

use super::{Entrance, Next, Step};
use crate::{family::Family, lb, maps, nat::Hop, packet::Packet, report};

const DELIVER: u32 = Next::Deliver as u32;
const SEND: u32 = Next::Send as u32;
const RECEIVE: u32 = Next::Receive as u32;

/// The loopback device, in every network namespace.
pub const LOOPBACK: u32 = 1;

/// What a hook does with a packet of a tracked connection.
#[derive(Clone, Copy)]
pub struct Way {
    /// Where it goes.
    pub step: Step,
    /// Who lowers its TTL.
    pub hop: Hop,
    /// Whether it is translated here; otherwise another hook does it.
    pub translated: bool,
}

impl Way {
    /// On to the next program.
    pub const PASS: Self = Self { step: Step::PASS, hop: Hop::InStack, translated: true };
    const UNTOUCHED: Self = Self { translated: false, ..Self::PASS };

    #[inline(always)]
    fn deliver(ifindex: u32) -> Self {
        Self { step: Step::deliver(ifindex), hop: Hop::Here, translated: true }
    }

    /// A packet at the end of its life goes through the stack, which tells its sender.
    #[inline(always)]
    fn send(ttl: u8, otherwise: u32) -> Self {
        if ttl <= 1 {
            return Self::receive(LOOPBACK);
        }
        Self { step: Step::send(otherwise), hop: Hop::Here, translated: true }
    }

    #[inline(always)]
    fn receive(ifindex: u32) -> Self {
        Self { step: Step::receive(ifindex), hop: Hop::InStack, translated: true }
    }

    /// The way, counted if it skips the stack. From here on the verifier does not tell ways apart: all
    /// packets are rewritten alike.
    #[inline(always)]
    pub fn taken<E: Entrance>(self, packet: &impl Packet) -> Self {
        if self.step != Step::PASS {
            report::count(E::HOOK, Counter::Redirected);
        }
        let here = packet.veil(u32::from(self.hop == Hop::Here)) != 0;
        let next = match packet.veil(self.step.next as u32) {
            DELIVER => Next::Deliver,
            SEND => Next::Send,
            RECEIVE => Next::Receive,
            _ => Next::Pass,
        };
        Self {
            step: Step { next, argument: packet.veil(self.step.argument) },
            hop: if here { Hop::Here } else { Hop::InStack },
            translated: self.translated,
        }
    }

    /// Takes the count back: policies are asked first.
    #[inline(always)]
    pub fn not_taken<E: Entrance>(self) -> Self {
        if self.step != Step::PASS {
            report::uncount(E::HOOK, Counter::Redirected);
        }
        self
    }
}

/// The way of a packet from the client to the backend behind an interface; 0 if there is none.
#[inline(always)]
pub fn to_backend<E: Entrance>(ttl: u8, flags: u16, ifindex: u32) -> Way {
    // Only a packet that comes in can be put into a pod.
    if E::HOOK as u32 == Hook::ToNet as u32 {
        return Way::send(ttl, 0);
    }
    let ours = flags & (flow_flags::HAIRPIN | flow_flags::MASQUERADED) != 0;
    if ifindex != 0 && (ours || is_fast(ttl, flags)) {
        return Way::deliver(ifindex);
    }
    if flags & flow_flags::MASQUERADED != 0 {
        return Way::send(ttl, 0);
    }
    Way::PASS
}

/// The way of a packet from the backend to the client.
#[inline(always)]
pub fn to_client<E: Entrance>(packet: &impl Packet, ttl: u8, flags: u16, ifindex: u32) -> Way {
    let hook = E::HOOK as u32;
    let leaves = hook == Hook::ToNet as u32;
    if flags & flow_flags::HOST != 0 {
        let is_there = hook == Hook::FromNet as u32 && packet.ifindex() == ifindex;
        return if leaves || is_there { Way::PASS } else { Way::receive(ifindex) };
    }
    let masqueraded = flags & flow_flags::MASQUERADED != 0;
    let fast = hook == Hook::FromPod as u32 && is_fast(ttl, flags);
    if flags & flow_flags::OUTSIDE != 0 {
        return if masqueraded || fast {
            Way::send(ttl, ifindex)
        } else if leaves {
            Way::PASS
        } else {
            Way::UNTOUCHED
        };
    }
    if masqueraded && leaves {
        return Way::send(ttl, 0);
    }
    if masqueraded || fast || flags & flow_flags::HAIRPIN != 0 {
        return Way::deliver(ifindex);
    }
    Way::UNTOUCHED
}

/// Whether a flow may skip the host's stack, and this packet of it.
#[inline(always)]
fn is_fast(ttl: u8, flags: u16) -> bool {
    flags & flow_flags::FAST != 0
        && ttl > 1
        && maps::settings().is_some_and(|settings| settings.fast_path != 0)
}

/// The interface of a flow's backend; 0 if it has none or is gone.
#[inline(always)]
pub fn backend_ifindex<F: Family>(packet: &impl Packet, flow: &Flow<F>) -> u32 {
    if flow.flags & flow_flags::HAIRPIN != 0 {
        return packet.ifindex();
    }
    lb::backend::<F>(flow.backend)
        .filter(|backend| backend.generation == flow.generation)
        .map_or(0, |backend| backend.ifindex)
}
