// SPDX-License-Identifier: Apache-2.0
//! SCTP at the hooks: what happens is what happens to other connections, in programs of its own, so
//! that the common ones do not know of it.
//!
//! A packet for which an entry was made starts again, and then finds its association.

use core::marker::PhantomData;

use pintle_abi::{addr::Tuple, counter::Hook, drop_reason::DropReason};

use super::{Entrance, Next, Step, entrance};
use crate::{
    connect::Attempt,
    family::{Family, Transport, Version},
    flow::{self, Found},
    lb,
    nat::{self, Hop},
    packet::{Headers, Packet, Shape},
    sctp,
};

/// A hook at which connections begin, for packets of SCTP and no others.
pub struct Sctp<E>(PhantomData<E>);

impl<E: Entrance> Entrance for Sctp<E> {
    const HOOK: Hook = E::HOOK;
    const CLIENT: u16 = E::CLIENT;

    #[inline(always)]
    fn transport(_: u8) -> Option<Transport> {
        Some(Transport::Sctp)
    }

    #[inline(always)]
    fn rewrite<F: Family, P: Packet>(
        packet: &mut P,
        headers: &Headers<F>,
        to: &Tuple<F>,
        hop: Hop,
    ) -> Result<(), DropReason> {
        nat::rewrite_sctp(packet, headers, to, hop)
    }
}

/// A packet at a hook where connections begin.
#[inline(always)]
pub fn handle<E: Entrance, F: Family, P: Packet>(packet: &mut P, _: Version<F>) -> Step {
    let Some(headers) = sctp::parse::<F, P>(packet) else { return entrance::pass::<E>() };
    if !headers.fragmentation.is_whole() {
        return fragment::<E, F, P>(packet, &headers);
    }
    match entrance::known::<Sctp<E>, F, P>(packet, &headers, Shape::Plain) {
        // Without an overflow map nothing is lost while it is needed: there is nothing to restore.
        Some(Ok(step)) if step.next == Next::Restore => match stays_with_kernel(&headers) {
            true => entrance::pass::<E>(),
            false => Step::SCTP_CONNECT,
        },
        Some(result) => conclude::<E>(result),
        None if entrance::is_passing::<E>(packet) => entrance::pass::<E>(),
        None => Step::SCTP_CONNECT,
    }
}

/// A packet of no association that is known here. The argument of the step that led here is a number
/// of [`Attempt`].
#[inline(always)]
pub fn connect<E: Entrance, F: Family, P: Packet>(packet: &mut P, attempt: u32) -> Step {
    let Some(headers) = sctp::parse::<F, P>(packet) else { return entrance::pass::<E>() };
    let attempt = Attempt::of(attempt);
    conclude::<E>(entrance::dial_thoroughly::<Sctp<E>, F, P>(packet, &headers, attempt))
}

/// Whether the kernel's own connection tracking translates the association.
#[inline(always)]
fn stays_with_kernel<F: Family>(headers: &Headers<F>) -> bool {
    let Found::Kernel(flow) = flow::find(Transport::Sctp, &headers.tuple) else { return false };
    flow::stays_with_kernel(flow, headers)
}

#[inline(always)]
fn conclude<E: Entrance>(result: Result<Step, DropReason>) -> Step {
    match result {
        Ok(Step { next: Next::Unusual, argument }) => Step { next: Next::Sctp, argument },
        Err(DropReason::NoSourcePort) => Step::SCTP_MOVE_PORT,
        Err(DropReason::NoMasqueradePort) => Step::SCTP_MOVE_MASQUERADE,
        result => entrance::conclude::<E>(result),
    }
}

/// A fragment cannot be translated: nobody knows here how long the packet is, and later ones have no
/// ports. SCTP finds out what fits into a packet, so there are none in practice.
#[inline(always)]
fn fragment<E: Entrance, F: Family, P: Packet>(packet: &P, headers: &Headers<F>) -> Step {
    let ours = if entrance::is_passing::<E>(packet) {
        false
    } else if headers.fragmentation.is_later() {
        lb::is_service_only(headers.tuple.dst)
    } else {
        is_tracked(headers) || lb::find_frontend::<Sctp<E>, F>(headers).is_some()
    };
    if !ours {
        return entrance::leave::<E>(packet);
    }
    Step::dropped::<E>(DropReason::FragmentUnknown)
}

/// Whether a packet is of an association and has to be translated somewhere.
#[inline(always)]
pub(super) fn is_tracked<F: Family>(headers: &Headers<F>) -> bool {
    matches!(
        flow::find(Transport::Sctp, &headers.tuple),
        Found::FromClient(_) | Found::FromBackend(_)
    )
}
