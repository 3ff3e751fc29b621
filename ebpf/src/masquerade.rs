// SPDX-License-Identifier: Apache-2.0
//! Masquerading: the backend sees an address of this node, so its replies come back through us.
//!
//! It is done only where that is needed: towards other nodes for clients outside and where the traffic
//! policy or the configuration asks for it. The ports are none that the host's own sockets use.

use pintle_abi::{
    addr::Tuple,
    counter::Hook,
    drop_reason::DropReason,
    service::{backend_state, frontend_flags},
};

use crate::{
    connect::Attempt,
    family::Family,
    hooks::Entrance,
    kernel::random,
    lb::{self, Choice},
    maps, origin,
    packet::Packet,
};

/// Whether the client of a common connection is masqueraded, or may have to be.
#[inline(always)]
pub fn is_common<E: Entrance, F: Family>(packet: &impl Packet, src: F, choice: &Choice<F>) -> bool {
    if choice.backend.state == backend_state::LOCAL {
        return false;
    }
    E::HOOK as u32 != Hook::FromPod as u32
        || (choice.flags & frontend_flags::MASQUERADE_OTHERS != 0 && !origin::is_pod(packet, src))
}

/// The address that the backend sees instead of the client's; `None` if it sees the client.
#[inline(always)]
pub fn address<E: Entrance, F: Family, P: Packet>(
    packet: &P,
    src: F,
    choice: &Choice<F>,
) -> Result<Option<F>, DropReason> {
    let local = choice.backend.state == backend_state::LOCAL;
    if !is_needed::<E, F>(packet, src, choice, local) {
        return Ok(None);
    }
    let mut own = F::default();
    if !local && let Some(device) = maps::DEVICES.get(&packet.way_out(choice.backend.addr)) {
        // SAFETY: an element stays readable while the program runs (RCU).
        own = F::own_address(unsafe { &*device });
    }
    if own == F::default() {
        own = maps::settings().map_or(F::default(), F::node_address);
    }
    if own == F::default() {
        return Err(DropReason::NoMasqueradeAddress);
    }
    Ok((own != src).then_some(own))
}

#[inline(always)]
fn is_needed<E: Entrance, F: Family>(
    packet: &impl Packet,
    src: F,
    choice: &Choice<F>,
    local: bool,
) -> bool {
    let flags = choice.flags;
    match E::HOOK {
        // The host's own address is right unless the way out has another, as an overlay has; and
        // nobody but the host itself can answer a loopback address.
        Hook::ToNet => !local || src.is_loopback() != 0,
        _ if local => flags & frontend_flags::MASQUERADE_LOCAL != 0,
        Hook::FromNet | Hook::Xdp => true,
        Hook::FromPod | Hook::ToPod => {
            let always = flags & frontend_flags::MASQUERADE_LOCAL != 0;
            // A pod's packets through the stack keep its address: the policies in netfilter go by it,
            // and its replies come back anyway.
            let usual = flags & frontend_flags::MASQUERADE != 0 && is_fast_path_on();
            let others = flags & frontend_flags::MASQUERADE_OTHERS != 0;
            always || usual || (others && !origin::is_pod(packet, src))
        }
    }
}

#[inline(always)]
fn is_fast_path_on() -> bool {
    maps::settings().is_some_and(|settings| settings.fast_path != 0)
}

/// The source port of a masqueraded client, in network byte order: its own if that is one of ours,
/// then one that its tuple gives, so that a flow that was lost gets it again; then any.
#[inline(always)]
pub fn port<F: Family>(client: &Tuple<F>, attempt: Attempt) -> Result<u16, DropReason> {
    let settings = maps::settings().ok_or(DropReason::NoMasqueradePort)?;
    let (base, count) = (settings.masquerade_base, settings.masquerade_count);
    if count == 0 {
        return Err(DropReason::NoMasqueradePort);
    }
    let own = u16::from_be(client.src_port);
    let draw = if attempt == Attempt::MovedMasquerade {
        u64::from(random()) << 32
    } else if own.wrapping_sub(base) < count {
        return Ok(client.src_port);
    } else {
        lb::hash(client)
    };
    Ok(base.wrapping_add(lb::scale(draw, u32::from(count)) as u16).to_be())
}
