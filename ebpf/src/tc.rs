// SPDX-License-Identifier: Apache-2.0
//! The tc programs: `__sk_buff` as a [`Packet`], actions as return codes.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, bpf_adj_room_mode},
    helpers::generated::{
        bpf_l4_csum_replace, bpf_redirect_peer, bpf_skb_adjust_room, bpf_skb_change_tail,
        bpf_skb_change_type, bpf_skb_pull_data,
    },
    macros::classifier,
    programs::TcContext,
};
use pintle_abi::addr::{V4, V6};
use pintle_ebpf::{
    hooks::{Action, from_pod, to_pod},
    packet::{ChecksumKind, Covered, Packet, Refused},
    wire::ethernet::ethertype,
};

/// On to the next program: `TCX_NEXT`, and `TC_ACT_UNSPEC` for clsact. Returning 0 would cut off
/// the programs and filters behind us.
const NEXT: i32 = -1;

/// `PACKET_HOST` of `linux/if_packet.h`.
const PACKET_HOST: u32 = 0;

/// Traffic that leaves a local pod: ingress of the host side of its veth.
#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    let mut skb = Skb(ctx.as_ptr().cast());
    let action = match skb.ethertype() {
        ethertype::IPV4 => from_pod::handle::<V4, _>(&mut skb),
        ethertype::IPV6 => from_pod::handle::<V6, _>(&mut skb),
        _ => return NEXT,
    };
    finish(&skb, action)
}

/// Traffic that reaches a local pod through the host's stack: egress of the same device.
#[classifier]
pub fn to_pod(ctx: TcContext) -> i32 {
    let mut skb = Skb(ctx.as_ptr().cast());
    let action = match skb.ethertype() {
        ethertype::IPV4 => to_pod::handle::<V4, _>(&mut skb),
        ethertype::IPV6 => to_pod::handle::<V6, _>(&mut skb),
        _ => return NEXT,
    };
    finish(&skb, action)
}

/// The action's number.
#[inline(always)]
fn finish(skb: &Skb, action: Action) -> i32 {
    match action {
        Action::Pass => NEXT,
        Action::Drop => TC_ACT_SHOT as i32,
        Action::Deliver(ifindex) => deliver(skb, ifindex),
    }
}

#[inline(always)]
fn deliver(skb: &Skb, ifindex: u32) -> i32 {
    // On a bridge the frame carries the gateway's MAC, which is not the veth's: the packet counts as
    // somebody else's, and the pod would ignore it. Kernels from 6.15 on do this by themselves.
    // SAFETY: the context is the one the kernel handed to the program.
    unsafe {
        if (*skb.0).pkt_type != PACKET_HOST {
            bpf_skb_change_type(skb.0, PACKET_HOST);
        }
        bpf_redirect_peer(ifindex, 0) as i32
    }
}

/// The kernel's packet buffer.
struct Skb(*mut __sk_buff);

impl Packet for Skb {
    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the context is the one the kernel handed to the program.
        unsafe { (*self.0).data as usize }
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.0).data_end as usize }
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ifindex }
    }

    #[inline(always)]
    fn ethertype(&self) -> u16 {
        // SAFETY: as above.
        unsafe { (*self.0).protocol as u16 }
    }

    #[inline(always)]
    fn pull(&mut self, len: u32) -> Result<(), Refused> {
        // SAFETY: as above.
        done(unsafe { bpf_skb_pull_data(self.0, len) })
    }

    #[inline(always)]
    fn fix_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        covered: Covered,
        kind: ChecksumKind,
    ) -> Result<(), Refused> {
        let covered = match covered {
            Covered::PseudoHeader => BPF_F_PSEUDO_HDR,
            Covered::Payload => 0,
        };
        let kind = match kind {
            ChecksumKind::Plain => 0,
            ChecksumKind::Udp => BPF_F_MARK_MANGLED_0,
        };
        // The helper knows whether the checksum is partial, which a program cannot see. A field size
        // of 0 says that the last argument is a difference.
        let flags = u64::from(covered | kind);
        // SAFETY: as above.
        done(unsafe { bpf_l4_csum_replace(self.0, offset, 0, u64::from(difference), flags) })
    }

    #[inline(always)]
    fn grow(&mut self, len: u32) -> Result<(), Refused> {
        let mode = bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
        // SAFETY: as above.
        done(unsafe { bpf_skb_adjust_room(self.0, len as i32, mode, 0) })
    }

    #[inline(always)]
    fn truncate(&mut self, len: u32) -> Result<(), Refused> {
        // SAFETY: as above.
        done(unsafe { bpf_skb_change_tail(self.0, len, 0) })
    }
}

#[inline(always)]
fn done(code: i64) -> Result<(), Refused> {
    if code == 0 { Ok(()) } else { Err(Refused) }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program from which this can be reached.
    loop {}
}

/// The programs' licence to the kernel; the source is Apache-2.0, which alone would bar GPL helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
