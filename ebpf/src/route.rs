// SPDX-License-Identifier: Apache-2.0
//! Redirects of packets with a buffer of the kernel to where the node's routes lead.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    helpers::generated::bpf_redirect_neigh,
};
use pintle_abi::addr::{V4, V6, proto};
use pintle_ebpf::{
    family::Family,
    hooks::way::LOOPBACK,
    packet::{Packet, at, field},
    wire::{ethernet, ipv4, ipv6},
};

use crate::{
    fib::{FOUND, FOUND_WITHOUT_NEIGHBOUR, Lookup},
    tc::{Skb, receive},
};

/// Length of `struct bpf_redir_neigh`.
const NEIGHBOUR_LEN: i32 = 20;
/// No action: a redirect is not possible.
const NOWHERE: i32 = 0;

/// Sends the packet where the node's routes lead to its destination. Where a redirect cannot do that
/// (no route, an encapsulation, longer than the MTU): out of a device, or through the host's stack.
#[inline(always)]
pub fn send<F: Family>(skb: *mut __sk_buff, otherwise: u32) -> i32 {
    let sent =
        if F::ICMP == proto::ICMP { send_v4(skb, otherwise) } else { send_v6(skb, otherwise) };
    if sent == NOWHERE { receive(skb, LOOPBACK) } else { sent }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_v4(skb: *mut __sk_buff, otherwise: u32) -> i32 {
    send_by_routes::<V4>(skb, otherwise)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_v6(skb: *mut __sk_buff, otherwise: u32) -> i32 {
    send_by_routes::<V6>(skb, otherwise)
}

#[inline(always)]
fn send_by_routes<F: Family>(skb: *mut __sk_buff, otherwise: u32) -> i32 {
    let packet = Skb(skb);
    let header = if F::ICMP == proto::ICMP {
        at::<[u8; ipv4::MIN_LEN as usize]>(&packet, ethernet::LEN).map(|header| header.cast::<u8>())
    } else {
        at::<[u8; ipv6::LEN as usize]>(&packet, ethernet::LEN).map(|header| header.cast::<u8>())
    };
    let Some(header) = header else { return TC_ACT_SHOT as i32 };
    // What is to be segmented fits afterwards.
    // SAFETY: the context is the one the kernel handed to the program.
    let len = match unsafe { (*skb).gso_size } {
        0 => packet.len().wrapping_sub(ethernet::LEN) as u16,
        _ => 0,
    };
    let (src, dst) = (field(header, F::SRC), field(header, F::DST));
    let mut lookup = Lookup::new::<F>(packet.arrived_at(), src, dst, len);
    let answer = lookup.ask(skb.cast());
    if answer == FOUND {
        // `struct bpf_redir_neigh` is a family and an address: they are made of what is there, for
        // stack is scarce.
        lookup.src[3] = lookup.family.into();
        let neighbour = (&raw mut lookup.src[3]).cast();
        // SAFETY: the family and the address that follows it have the layout that the helper expects.
        return unsafe { bpf_redirect_neigh(lookup.ifindex, neighbour, NEIGHBOUR_LEN, 0) as i32 };
    }
    let device = if answer == FOUND_WITHOUT_NEIGHBOUR { lookup.ifindex } else { otherwise };
    if device == 0 {
        return NOWHERE;
    }
    // Without a neighbour the kernel routes the packet anew. It has to while the neighbour is asked: when
    // the answer comes, the packet goes where its route leads, which is that of the service address.
    // SAFETY: the helper expects nothing in place of a neighbour.
    unsafe { bpf_redirect_neigh(device, core::ptr::null_mut(), 0, 0) as i32 }
}
