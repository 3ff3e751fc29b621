// SPDX-License-Identifier: Apache-2.0
//! A packet as the pod of its hook sees it: which end that is, and what its policies say.

use pintle_abi::{counter::Hook, drop_reason::DropReason};

use super::{End, Occasion, ask};
use crate::{
    family::Family,
    hooks::{Entrance, way::LOOPBACK},
    packet::{Headers, Packet},
};

/// Whether a packet that is about to enter a pod was made on this node. Own-node traffic is always let in
/// (kubelet probes), by where it was made and never by its address.
#[inline(always)]
pub fn is_from_node<E: Entrance>(packet: &impl Packet) -> bool {
    E::HOOK as u32 == Hook::ToPod as u32 && packet.arrived_at() <= LOOPBACK
}

/// Which end the hook's pod is of a connection whose packet this end sends.
#[inline(always)]
pub fn own_end<E: Entrance>(sender: End) -> End {
    match (E::HOOK, sender) {
        (Hook::ToPod, End::Client) => End::Server,
        (Hook::ToPod, End::Server) => End::Client,
        (_, sender) => sender,
    }
}

/// Of the epochs at which client and server allowed a connection, the one of the hook's pod.
#[inline(always)]
pub fn own_epoch<E: Entrance>(sender: End, egress: u32, ingress: u32) -> u32 {
    match own_end::<E>(sender) {
        End::Client => egress,
        End::Server => ingress,
    }
}

/// Asks the policies of the hook's pod about a packet that this end sends.
#[inline(always)]
pub fn ask_own<E: Entrance, F: Family>(
    packet: &impl Packet,
    headers: &Headers<F>,
    sender: End,
    occasion: Occasion,
) -> Result<(), DropReason> {
    let tuple = &headers.tuple;
    let peer = if E::HOOK as u32 == Hook::ToPod as u32 { tuple.src } else { tuple.dst };
    let port = match sender {
        End::Client => tuple.dst_port,
        End::Server => tuple.src_port,
    };
    ask::<E, F>((own_end::<E>(sender), packet.ifindex()), peer, (headers.proto, port), occasion)
}
