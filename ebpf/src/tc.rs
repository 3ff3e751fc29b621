// SPDX-License-Identifier: Apache-2.0
//! `__sk_buff` as a [`Packet`], and the ways that a packet leaves a hook.

use core::arch::asm;

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT,
        bpf_adj_room_mode,
    },
    helpers::generated::{
        bpf_clone_redirect, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_peer,
        bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_change_type, bpf_skb_load_bytes,
        bpf_skb_pull_data, bpf_skb_store_bytes,
    },
};
use pintle_abi::{device::Device, fragment::HELD_FRAME_LEN};
use pintle_ebpf::{
    family::{
        Family,
        extensions::{self, Walked},
    },
    kernel::SocketHandle,
    maps, nat,
    packet::{ChecksumKind, Covered, Packet, Refused, set_at},
    sctp,
};

use crate::{context::load_pointer, fib};

/// `PACKET_HOST` of `linux/if_packet.h`.
const PACKET_HOST: u32 = 0;

/// Puts the packet into the pod behind a host-side interface.
#[inline(always)]
pub fn deliver(skb: &Skb, ifindex: u32) -> i32 {
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

/// Hands the packet to the host's stack, as if it came in at a device.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn receive(skb: *mut __sk_buff, ifindex: u32) -> i32 {
    let device = maps::DEVICES.get(&ifindex);
    // SAFETY: an element stays readable while the program runs (RCU).
    let mac = device.map_or([0; 3], |device| unsafe { mac_words(&*device) });
    // The kernel takes a frame for somebody else's unless it carries the device's own address.
    if set_at(&mut Skb(skb), 0, mac).is_err() {
        return TC_ACT_SHOT as i32;
    }
    // SAFETY: the helper has no precondition.
    unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) as i32 }
}

#[inline(always)]
fn mac_words(device: &Device) -> [u16; 3] {
    let [a, b, c, d, e, f] = device.mac;
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]), u16::from_ne_bytes([e, f])]
}

/// The kernel's packet buffer.
pub struct Skb(pub *mut __sk_buff);

impl Skb {
    /// The argument of the step that this program takes.
    #[inline(always)]
    pub fn argument(&self) -> u32 {
        // SAFETY: the context is the one the kernel handed to the program.
        unsafe { (&raw const (*self.0).cb[0]).read_volatile() }
    }

    /// Leaves an argument to the program of the next step.
    #[inline(always)]
    pub fn set_argument(&self, argument: u32) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0).cb[0]).write_volatile(argument) };
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn start(&self) -> usize {
        load_pointer!(__sk_buff, self.0, data)
    }

    #[inline(always)]
    fn end(&self) -> usize {
        load_pointer!(__sk_buff, self.0, data_end)
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is the one the kernel handed to the program.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // Volatile, or LLVM loads from one of two places by a computed pointer, which the verifier
        // refuses for the context.
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).ifindex).read_volatile() }
    }

    #[inline(always)]
    fn veil(&self, number: u32) -> u32 {
        // The verifier forgets what the context holds.
        // SAFETY: as above.
        unsafe {
            let place = &raw mut (*self.0).cb[1];
            place.write_volatile(number);
            place.read_volatile()
        }
    }

    #[inline(always)]
    fn arrived_at(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).ingress_ifindex).read_volatile() }
    }

    #[inline(always)]
    fn is_for_host(&self) -> bool {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).pkt_type).read_volatile() == PACKET_HOST }
    }

    #[inline(always)]
    fn way_out<F: Family>(&self, to: F) -> u32 {
        fib::way_out(self.0.cast(), self.arrived_at(), to)
    }

    #[inline(always)]
    fn ethertype(&self) -> u16 {
        // SAFETY: as above.
        unsafe { (*self.0).protocol as u16 }
    }

    #[inline(always)]
    fn socket(&self) -> Option<SocketHandle> {
        // SAFETY: as above; of this union the kernel fills one member.
        let socket = unsafe { (&raw const (*self.0).__bindgen_anon_2.sk).read_volatile() };
        if socket.is_null() { None } else { Some(socket) }
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
    fn copy(&self, offset: u32) -> [u8; 4] {
        let mut bytes = [0; 4];
        let to = (&raw mut bytes).cast();
        // SAFETY: the place has room for so many bytes; see above for the context.
        unsafe { bpf_skb_load_bytes(self.0.cast(), offset, to, 4) };
        bytes
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

    #[inline(always)]
    fn save(&mut self, to: *mut [u8; HELD_FRAME_LEN]) -> Result<(), Refused> {
        let len = frame_len(self.len())?;
        // SAFETY: the place has room for the longest length; see above for the context.
        done(unsafe { bpf_skb_load_bytes(self.0.cast(), 0, to.cast(), len) })
    }

    #[inline(always)]
    fn replace(&mut self, from: *const [u8; HELD_FRAME_LEN], len: u32) -> Result<(), Refused> {
        let len = frame_len(len)?;
        self.truncate(len)?;
        // SAFETY: the place holds the longest length; see above for the context.
        done(unsafe { bpf_skb_store_bytes(self.0, 0, from.cast(), len, 0) })
    }

    #[inline(always)]
    fn reinject(&mut self) -> Result<(), Refused> {
        // SAFETY: as above.
        done(unsafe { bpf_clone_redirect(self.0, self.ifindex(), u64::from(BPF_F_INGRESS)) })
    }

    #[inline(always)]
    fn fix_transport(
        &mut self,
        offset: u32,
        addresses: u32,
        ports: u32,
        kind: ChecksumKind,
    ) -> Result<(), Refused> {
        let udp = u32::from(kind == ChecksumKind::Udp);
        done(fix_transport(self.0, offset, addresses, ports, udp) as i64)
    }

    #[inline(always)]
    fn fix_sctp(&mut self, offset: u32, change: u32, len: u32) -> Result<(), Refused> {
        done(fix_sctp(self.0, offset, change, len) as i64)
    }

    #[inline(always)]
    fn walk_extensions(&mut self, offset: u32, proto: u8) -> Walked {
        Walked::from_bits(walk_extensions(self.0, offset, u32::from(proto)))
    }
}

/// Farthest place of a transport checksum; what the headers lead to is nearer.
const FARTHEST: u32 = 0x1fff;

/// [`nat::fix_transport`] as a function that is verified once, see [`walk_extensions`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fix_transport(
    skb: *mut __sk_buff,
    offset: u32,
    addresses: u32,
    ports: u32,
    udp: u32,
) -> u64 {
    let kind = if udp != 0 { ChecksumKind::Udp } else { ChecksumKind::Plain };
    if offset > FARTHEST {
        return 1;
    }
    u64::from(nat::fix_transport(&mut Skb(skb), offset, addresses, ports, kind).is_err())
}

/// [`sctp::fix`] as a function that is verified once, see [`walk_extensions`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fix_sctp(skb: *mut __sk_buff, offset: u32, change: u32, len: u32) -> u64 {
    if offset > FARTHEST {
        return 1;
    }
    u64::from(sctp::fix(&mut Skb(skb), offset, change, len).is_err())
}

/// [`extensions::walk`] as a function that the kernel verifies once, whoever calls it: that is what
/// an exported name makes of it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_extensions(skb: *mut __sk_buff, offset: u32, proto: u32) -> u64 {
    extensions::walk(&mut Skb(skb), offset, proto as u8).bits()
}

/// A length that fits a held frame, in a form whose bounds the verifier sees.
#[inline(always)]
fn frame_len(len: u32) -> Result<u32, Refused> {
    const MASK: u32 = HELD_FRAME_LEN as u32 - 1;
    let mut below = u64::from(len.wrapping_sub(1));
    if below > u64::from(MASK) {
        return Err(Refused);
    }
    // The mask changes nothing any more, but from it the verifier learns the bounds; LLVM would take
    // it away.
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!(
            "{below} &= {mask}",
            below = inout(reg) below,
            mask = const MASK,
            options(pure, nomem, nostack),
        );
    }
    Ok(below as u32 + 1)
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
