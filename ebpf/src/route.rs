// SPDX-License-Identifier: Apache-2.0
//! Where the node's routes lead: the kernel's forwarding table, and a redirect to what it answers.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    helpers::generated::{bpf_fib_lookup, bpf_redirect_neigh},
};
use pintle_abi::addr::{V4, V6, proto};
use pintle_ebpf::{
    family::Family,
    hooks::way::LOOPBACK,
    packet::{Packet, at, field},
    wire::{ethernet, ipv4, ipv6},
};

use crate::tc::{Skb, receive};

/// `BPF_FIB_LKUP_RET_SUCCESS` and `BPF_FIB_LKUP_RET_NO_NEIGH`: there is a route, the neighbour may
/// have to be asked first.
const FOUND: i64 = 0;
const FOUND_WITHOUT_NEIGHBOUR: i64 = 7;

/// `struct bpf_fib_lookup` of `linux/bpf.h`.
#[repr(C)]
struct Lookup {
    family: u8,
    protocol: u8,
    ports: [u16; 2],
    /// Length of the packet, to be compared with the MTU of the route; with 0 the kernel compares what
    /// it has, unless that is to be segmented.
    len: u16,
    ifindex: u32,
    tos: u32,
    src: [u32; 4],
    /// Afterwards the next hop.
    dst: [u32; 4],
    vlan: u32,
    macs: [u32; 3],
}

const _: () = assert!(size_of::<Lookup>() == 64);

/// Length of `struct bpf_redir_neigh`.
const NEIGHBOUR_LEN: i32 = 20;
/// No action: a redirect is not possible.
const NOWHERE: i32 = 0;

impl Lookup {
    #[inline(always)]
    fn new<F: Family>(skb: *mut __sk_buff, src: F, dst: F, len: u16) -> Self {
        // What the host itself sends has come in nowhere.
        // SAFETY: the context is the one the kernel handed to the program.
        let from = match unsafe { (&raw const (*skb).ingress_ifindex).read_volatile() } {
            0 => LOOPBACK,
            ifindex => ifindex,
        };
        let (protocol, ports, tos, vlan, macs) = (0, [0; 2], 0, 0, [0; 3]);
        let (src, dst) = (src.words(), dst.words());
        let family = F::ADDRESS_FAMILY;
        Self { family, protocol, ports, len, ifindex: from, tos, src, dst, vlan, macs }
    }

    /// Asks; afterwards `ifindex`, `family` and `dst` are those of the next hop, if one is found.
    #[inline(always)]
    fn ask(&mut self, skb: *mut __sk_buff) -> i64 {
        let place = core::ptr::from_mut(self).cast();
        // SAFETY: the struct has the layout and the length that the helper expects.
        unsafe { bpf_fib_lookup(skb.cast(), place, size_of::<Self>() as i32, 0) }
    }
}

/// The device through which the node's routes lead to an address; 0 if they do not.
#[inline(always)]
pub fn way_out<F: Family>(skb: *mut __sk_buff, to: F) -> u32 {
    // A packet that is too long for the device leaves through it nevertheless, in fragments.
    const FITS: u16 = 1;
    let mut lookup = Lookup::new(skb, F::default(), to, FITS);
    match lookup.ask(skb) {
        FOUND | FOUND_WITHOUT_NEIGHBOUR => lookup.ifindex,
        _ => 0,
    }
}

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
    let mut lookup = Lookup::new::<F>(skb, field(header, F::SRC), field(header, F::DST), len);
    let answer = lookup.ask(skb);
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
