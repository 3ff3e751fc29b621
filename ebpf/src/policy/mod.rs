// SPDX-License-Identifier: Apache-2.0
//! Network policy: whether a packet has to be judged, and what a pod's policies say.
//!
//! A connection is judged in its original direction, after service translation and before
//! masquerading: egress of the client if that is a local pod, ingress of the server if that is one.
//! Each hook of a pod asks for its own pod's side only; one that puts a packet straight into another
//! pod asks for that side, too. What was allowed is remembered in the flow entry, for the epoch at
//! which it was; what was denied is asked again with the next packet.
//!
//! The work is done by programs of its own ([`crate::hooks::judge`]). What stands here is what the
//! common programs need to know: with policies off, that they are off.

use pintle_abi::{
    addr::{V4, borrowed},
    counter::Hook,
    drop_reason::DropReason,
    flow::Flow,
    policy::{Endpoint, policy_mode},
};

use crate::{
    family::Family,
    hooks::{Entrance, Next, way::Way},
    maps,
    packet::Packet,
};

pub mod direct;
pub mod orientation;
pub mod other;
pub mod own;
pub mod verdict;

pub use verdict::{End, Occasion, endpoint};

use verdict::{ALLOWED, Question, v6};

/// The epoch at which verdicts count; 0 while policies do not hold. Without branches, for the verifier.
#[inline(always)]
pub fn epoch() -> u32 {
    let Some(settings) = maps::settings() else { return 0 };
    let on = borrowed(0, u64::from(settings.policy), 0) as u32;
    // An epoch of 0 would make everything look judged.
    let first = borrowed(u64::from(settings.policy_epoch), 1, 0) as u32;
    on * (settings.policy_epoch + first)
}

/// [`epoch`] as a function that the kernel verifies once, whoever calls it.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[inline(never)]
pub extern "C" fn current_epoch() -> u32 {
    epoch()
}

/// Whether a hook is at a pod's interface.
#[inline(always)]
pub fn is_at_pod<E: Entrance>() -> bool {
    matches!(E::HOOK, Hook::FromPod | Hook::ToPod)
}

/// What is known of a packet from its pod alone. Numbers, because the verifier would follow each variant
/// through all that comes after.
pub mod standing {
    /// No policy selects the pod, or none holds.
    pub const FREE: u32 = 0;
    /// Some policy selects the pod.
    pub const POLICED: u32 = 1;
    /// Nothing is known of the pod, or it uses a source that is not its own.
    pub const DOUBTFUL: u32 = 2;
}

/// The [`standing`] of a packet with this source.
#[inline(always)]
pub fn standing<E: Entrance, F: Family>(packet: &impl Packet, src: F) -> u32 {
    if E::HOOK as u32 == Hook::FromPod as u32 {
        F::standing(packet.ifindex(), src)
    } else {
        standing::FREE
    }
}

/// The [`standing`] of an IPv4 packet, as a function that the kernel verifies once.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[inline(never)]
pub extern "C" fn standing_v4(ifindex: u32, src: u32) -> u32 {
    of_source(ifindex, V4(src))
}

/// The same of an IPv6 packet.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[inline(never)]
pub extern "C" fn standing_v6(ifindex: u32, high: u64, low: u64) -> u32 {
    of_source(ifindex, v6(high, low))
}

/// The [`standing`] of the pod behind an interface, whatever source it uses; a function that the kernel
/// verifies once.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[inline(never)]
pub extern "C" fn pod_standing(ifindex: u32) -> u32 {
    of_pod(ifindex, |_| true)
}

/// The epoch at which policies select neither the pod behind an interface nor the one behind another, which
/// is 0 if nothing has to be asked there; 0 if some policy does, or none holds. A function that the kernel
/// verifies once.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[inline(never)]
pub extern "C" fn unselected_at(pod: u32, other: u32) -> u32 {
    // Before the maps are read: what changes meanwhile is judged again.
    let epoch = epoch();
    let is_free = |ifindex| of_pod(ifindex, |_| true) == standing::FREE;
    if epoch != 0 && is_free(pod) && (other == 0 || is_free(other)) { epoch } else { 0 }
}

#[inline(always)]
fn of_source<F: Family>(ifindex: u32, src: F) -> u32 {
    of_pod(ifindex, |endpoint| F::pod_address(endpoint) == src)
}

#[inline(always)]
fn of_pod(ifindex: u32, is_own: impl Fn(&Endpoint) -> bool) -> u32 {
    let mode = maps::settings().map_or(policy_mode::OFF, |settings| settings.policy);
    if mode == policy_mode::OFF {
        return standing::FREE;
    }
    match endpoint(ifindex) {
        Some(endpoint) if is_own(endpoint) => u32::from(endpoint.rules() != 0),
        None if mode == policy_mode::OPEN => standing::FREE,
        Some(_) | None => standing::DOUBTFUL,
    }
}

/// Whether what was allowed has to be judged again before the packet goes this way.
#[inline(always)]
pub fn is_stale<E: Entrance, A>(flow: &Flow<A>, sender: End, way: &Way) -> bool {
    if E::HOOK as u32 == Hook::ToNet as u32 {
        return false;
    }
    // Without branches, each of which would double what the verifier has to follow.
    let own = u32::from(E::HOOK as u32 == Hook::FromPod as u32);
    let differs = way.step.next as u32 ^ Next::Deliver as u32;
    let other = borrowed(u64::from(differs), 1, 0) as u32;
    let (egress, ingress) = match sender {
        End::Client => (own, other),
        End::Server => (other, own),
    };
    changed_since(flow.egress_epoch, flow.ingress_epoch, egress, ingress) != 0
}

/// 1 if a side that is asked for was allowed at another epoch than this, else 0. A function that the
/// kernel verifies once, whoever calls it.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[inline(never)]
pub extern "C" fn changed_since(egress: u32, ingress: u32, of_egress: u32, of_ingress: u32) -> u32 {
    let epoch = epoch();
    let changed = ((egress ^ epoch) * of_egress) | ((ingress ^ epoch) * of_ingress);
    u32::from(epoch != 0 && changed != 0)
}

/// Asks the policies of a pod, which is this end and behind that interface, about a peer, protocol and
/// port of the server. A denial counts where the question is answered, so who gets one drops the packet.
#[inline(always)]
pub fn ask<E: Entrance, F: Family>(
    pod: (End, u32),
    peer: F,
    what: (u8, u16),
    occasion: Occasion,
) -> Result<(), DropReason> {
    let question = Question::new(E::HOOK as u32, pod, what, occasion);
    match F::judge(question.place, peer, question.what) {
        ALLOWED => Ok(()),
        code => Err(verdict::reason(code)),
    }
}

/// The same about a tracked connection: the epoch at which it was allowed is noted in its entry.
#[inline(always)]
pub fn renew<E: Entrance, F: Family>(
    judged: &mut u32,
    pod: (End, u32),
    peer: F,
    what: (u8, u16),
) -> Result<(), DropReason> {
    // Before the maps are read: what changes meanwhile is judged again.
    let epoch = epoch();
    ask::<E, F>(pod, peer, what, Occasion::of(*judged))?;
    *judged = epoch;
    Ok(())
}
