// SPDX-License-Identifier: Apache-2.0
//! `xdp_md` as a [`Packet`], and the ways that a frame leaves the hook: the kernel has no buffer for it
//! yet, so nobody helps with checksums, neighbours and devices.

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_ABORTED, XDP_TX},
        xdp_md,
    },
    helpers::generated::{
        bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
    },
};
use pintle_abi::{
    device::{Device, device_flags},
    exit::Exit,
    fragment::HELD_FRAME_LEN,
};
use pintle_ebpf::{
    checksum::Difference,
    family::{Family, extensions::Walked},
    kernel::SocketHandle,
    maps,
    packet::{ChecksumKind, Covered, Packet, Refused, read, set_at},
    wire::ethernet,
};

use crate::{
    context::load_pointer,
    fib::{self, FOUND, Lookup},
};

/// The link-layer addresses at the start of a frame: who it is for, then who it is from.
type Macs = [u16; 6];

/// A frame in the memory of its driver.
pub struct Frame {
    context: *mut xdp_md,
    /// Its length, what lies in other pages included.
    len: u32,
    /// The device that it leaves by, and the addresses with which it does.
    exit: (u32, Macs),
}

impl Frame {
    /// The frame of a context, as long as its first piece.
    #[inline(always)]
    pub fn new(context: *mut xdp_md) -> Self {
        let mut frame = Self { context, len: 0, exit: (0, [0; 6]) };
        frame.len = (frame.end() - frame.start()) as u32;
        frame
    }

    /// The same with its whole length. The kernel is asked only if its header says that there is more than
    /// the first piece (frames of several have padding at most behind what they say): a call takes as long as
    /// a look-up.
    #[inline(always)]
    pub fn measured<F: Family>(mut self) -> Self {
        let claimed = read(&self, ethernet::LEN + F::TOTAL_LEN)
            .map_or(u32::MAX, |len| ethernet::LEN + F::UNCOUNTED + u32::from(u16::from_be(len)));
        if claimed > self.len {
            // SAFETY: the context is the one the kernel handed to the program.
            self.len = unsafe { bpf_xdp_get_buff_len(self.context) } as u32;
        }
        self
    }

    /// The context that the kernel handed to the program.
    #[inline(always)]
    pub fn context(&self) -> *mut xdp_md {
        self.context
    }

    /// Sends it where [`Packet::take_exit`] has found that its way leads.
    #[inline(always)]
    pub fn leave(&mut self) -> u32 {
        let (ifindex, macs) = self.exit;
        if set_at(self, 0, macs).is_err() {
            return XDP_ABORTED;
        }
        if ifindex == self.ifindex() {
            return XDP_TX;
        }
        // SAFETY: the helper has no precondition.
        unsafe { bpf_redirect(ifindex, 0) as u32 }
    }

    /// Sends what it has become, an answer, where the node's routes lead; back to whom it came from if its
    /// neighbour is not known, for it is too late to leave it to tc.
    #[inline(always)]
    pub fn answer<F: Family>(&mut self) -> u32 {
        let (src, dst) = (read(self, ethernet::LEN + F::SRC), read(self, ethernet::LEN + F::DST));
        let (Some(src), Some(dst)) = (src, dst) else { return XDP_ABORTED };
        let found = self.find_exit::<F>(src, dst, self.len.wrapping_sub(ethernet::LEN));
        if found.is_some_and(|exit| self.take_exit(&exit)) {
            return self.leave();
        }
        let Some([a, b, c, d, e, f]) = read::<Macs>(self, 0) else { return XDP_ABORTED };
        if set_at(self, 0, [d, e, f, a, b, c]).is_err() {
            return XDP_ABORTED;
        }
        XDP_TX
    }

    /// What is known of the device at which it came in.
    #[inline(always)]
    fn device(&self) -> Option<&'static Device> {
        // SAFETY: an element stays readable while the program runs (RCU).
        maps::DEVICES.get(&self.ifindex()).map(|device| unsafe { &*device })
    }

    /// Whether frames may be sent out of a device from here: out of the one they came in by, which every
    /// driver with XDP can do, and of those whose drivers are known to take them.
    #[inline(always)]
    fn is_exit(&self, ifindex: u32) -> bool {
        if ifindex == self.ifindex() {
            return true;
        }
        let device = maps::DEVICES.get(&ifindex);
        // SAFETY: an element stays readable while the program runs (RCU).
        device.is_some_and(|device| unsafe { (*device).flags } & device_flags::TAKES_FRAMES != 0)
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn start(&self) -> usize {
        load_pointer!(xdp_md, self.context, data)
    }

    #[inline(always)]
    fn end(&self) -> usize {
        load_pointer!(xdp_md, self.context, data_end)
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        self.len
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is the one the kernel handed to the program.
        unsafe { (&raw const (*self.context).ingress_ifindex).read_volatile() }
    }

    #[inline(always)]
    fn arrived_at(&self) -> u32 {
        self.ifindex()
    }

    #[inline(always)]
    fn is_for_host(&self) -> bool {
        let (Some(device), Some(to)) = (self.device(), read::<[u16; 3]>(self, 0)) else {
            return false;
        };
        let [a, b, c, d, e, f] = device.mac;
        is_same(to, [[a, b], [c, d], [e, f]].map(u16::from_ne_bytes))
    }

    #[inline(always)]
    fn way_out<F: Family>(&self, to: F) -> u32 {
        fib::way_out(self.context.cast(), self.ifindex(), to)
    }

    #[inline(always)]
    fn find_exit<F: Family>(&self, from: F, to: F, len: u32) -> Option<Exit> {
        let mut lookup = Lookup::new(self.ifindex(), from, to, len as u16);
        if lookup.ask(self.context.cast()) != FOUND || !self.is_exit(lookup.ifindex) {
            return None;
        }
        let host = read(self, 0)?;
        let [a, b, c, d, e, f] = lookup.macs;
        Some(Exit { ifindex: lookup.ifindex, mtu: lookup.len, host, macs: [d, e, f, a, b, c] })
    }

    #[inline(always)]
    fn take_exit(&mut self, exit: &Exit) -> bool {
        self.exit = (exit.ifindex, exit.macs);
        let is_for_host = read(self, 0).is_some_and(|to| is_same(to, exit.host));
        // One in several pieces not every other driver takes.
        is_for_host
            && (exit.ifindex == self.ifindex() || self.start() + self.len as usize == self.end())
    }

    #[inline(always)]
    fn ethertype(&self) -> u16 {
        read(self, ethernet::ETHERTYPE).unwrap_or(0)
    }

    #[inline(always)]
    fn socket(&self) -> Option<SocketHandle> {
        None
    }

    #[inline(always)]
    fn pull(&mut self, len: u32) -> Result<(), Refused> {
        if self.start() + len as usize <= self.end() { Ok(()) } else { Err(Refused) }
    }

    #[inline(always)]
    fn fix_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        _: Covered,
        kind: ChecksumKind,
    ) -> Result<(), Refused> {
        self.fix_transport(offset, difference, 0, kind)
    }

    /// By arithmetic: [`pintle_ebpf::hooks::early::takes`] leaves alone what may be partial.
    #[inline(always)]
    fn fix_transport(
        &mut self,
        offset: u32,
        addresses: u32,
        ports: u32,
        kind: ChecksumKind,
    ) -> Result<(), Refused> {
        let before: u16 = read(self, offset).ok_or(Refused)?;
        // UDP's 0 says that there is no checksum.
        if kind == ChecksumKind::Udp && before == 0 {
            return Ok(());
        }
        let sum = Difference::NONE.word(addresses).word(ports).apply(before);
        set_at(self, offset, if kind == ChecksumKind::Udp && sum == 0 { u16::MAX } else { sum })
    }

    /// Packets with extension headers are left to tc.
    #[inline(always)]
    fn walk_extensions(&mut self, offset: u32, proto: u8) -> Walked {
        Walked::nowhere(offset, proto)
    }

    #[inline(always)]
    fn copy(&self, offset: u32) -> [u8; 4] {
        read(self, offset).unwrap_or_default()
    }

    #[inline(always)]
    fn grow(&mut self, len: u32) -> Result<(), Refused> {
        let link: [u16; ethernet::LEN as usize / 2] = read(self, 0).ok_or(Refused)?;
        // SAFETY: the context is the one the kernel handed to the program.
        done(unsafe { bpf_xdp_adjust_head(self.context, -(len as i32)) })?;
        self.len += len;
        set_at(self, 0, link)
    }

    #[inline(always)]
    fn truncate(&mut self, len: u32) -> Result<(), Refused> {
        let difference = len.wrapping_sub(self.len) as i32;
        // SAFETY: as above.
        done(unsafe { bpf_xdp_adjust_tail(self.context, difference) })?;
        self.len = len;
        Ok(())
    }

    #[inline(always)]
    fn save(&mut self, _: *mut [u8; HELD_FRAME_LEN]) -> Result<(), Refused> {
        Err(Refused)
    }

    #[inline(always)]
    fn replace(&mut self, _: *const [u8; HELD_FRAME_LEN], _: u32) -> Result<(), Refused> {
        Err(Refused)
    }

    #[inline(always)]
    fn reinject(&mut self) -> Result<(), Refused> {
        Err(Refused)
    }
}

/// Whether two link-layer addresses are one.
#[inline(always)]
fn is_same(one: [u16; 3], other: [u16; 3]) -> bool {
    (one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) == 0
}

#[inline(always)]
fn done(code: i64) -> Result<(), Refused> {
    if code == 0 { Ok(()) } else { Err(Refused) }
}
