// SPDX-License-Identifier: Apache-2.0
//! A frame on the host: plain memory, and what the kernel's helpers would do with it.

use pintle_abi::{addr::proto, exit::Exit, fragment::HELD_FRAME_LEN};
use pintle_ebpf::{
    family::Family,
    kernel::SocketHandle,
    packet::{ChecksumKind, Covered, Packet, Refused},
};

use super::{Offload, Place};
use crate::world::{MTU, Origin};

/// A frame in memory of which only a part can be read directly, as with the kernel's buffers.
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    linear: usize,
    /// The length behind which nothing may be pulled into the linear part.
    head: usize,
    offload: Offload,
    pub(super) reinjected: Vec<Vec<u8>>,
    origin: Origin,
    at: Place,
    /// Whether the node's routes lead anywhere.
    exits: bool,
}

impl Buffer {
    pub(super) fn new(frame: &[u8], offload: Offload, origin: Origin, at: Place) -> Self {
        let (bytes, reinjected) = (frame.to_vec(), Vec::new());
        let (linear, head) = head(frame).map_or((0, usize::MAX), |head| (head, head));
        Self { bytes, linear, head, offload, reinjected, origin, at, exits: false }
    }

    /// A frame in the memory of its driver: all of it can be read.
    pub(super) fn of_driver(frame: &[u8], at: Place, exits: bool) -> Self {
        let mut buffer = Self::new(frame, Offload::None, Origin::Elsewhere, at);
        (buffer.linear, buffer.head) = (frame.len(), usize::MAX);
        buffer.exits = exits;
        buffer
    }
}

/// Where the head of an SCTP packet ends that is still to be cut: its chunks are in other buffers.
/// Every long one is such a packet here.
fn head(frame: &[u8]) -> Option<usize> {
    const LONG: usize = 1_000;
    let (network, protocol) = if frame[12..14] == [0x08, 0x00] { (20, 9) } else { (40, 6) };
    let is_cut_later = frame.len() > LONG && frame[14 + protocol] == proto::SCTP;
    is_cut_later.then_some(14 + network + 12)
}

impl Packet for Buffer {
    fn start(&self) -> usize {
        self.bytes.as_ptr() as usize
    }

    fn end(&self) -> usize {
        self.start() + self.linear
    }

    fn len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn ifindex(&self) -> u32 {
        self.at.ifindex
    }

    fn arrived_at(&self) -> u32 {
        self.origin.arrived_at()
    }

    fn is_for_host(&self) -> bool {
        true
    }

    fn way_out<F: Family>(&self, _to: F) -> u32 {
        self.at.way_out
    }

    fn find_exit<F: Family>(&self, _from: F, _to: F, len: u32) -> Option<Exit> {
        (self.exits && len <= MTU).then_some(Exit {
            ifindex: 1,
            mtu: MTU as u16,
            ..Exit::default()
        })
    }

    fn take_exit(&mut self, _exit: &Exit) -> bool {
        true
    }

    fn socket(&self) -> Option<SocketHandle> {
        self.at.socket
    }

    fn ethertype(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[12], self.bytes[13]])
    }

    fn pull(&mut self, len: u32) -> Result<(), Refused> {
        if len as usize > self.bytes.len() {
            return Err(Refused);
        }
        assert!(len as usize <= self.head, "chunks must stay in their buffers");
        self.linear = self.linear.max(len as usize);
        Ok(())
    }

    fn copy(&self, offset: u32) -> [u8; 4] {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        rest.first_chunk().copied().unwrap_or_default()
    }

    fn fix_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        covered: Covered,
        kind: ChecksumKind,
    ) -> Result<(), Refused> {
        let place = offset as usize..offset as usize + 2;
        let field = self.bytes.get_mut(place).ok_or(Refused)?;
        let old = u16::from_ne_bytes([field[0], field[1]]);
        if kind == ChecksumKind::Udp && old == 0 {
            return Ok(());
        }
        let sum = match (self.offload, covered) {
            (Offload::None, _) => !sum(!old, difference),
            (Offload::Partial, Covered::PseudoHeader) => sum(old, difference),
            (Offload::Partial, Covered::Payload) => old,
        };
        let new = if kind == ChecksumKind::Udp && sum == 0 { 0xffff } else { sum };
        field.copy_from_slice(&new.to_ne_bytes());
        Ok(())
    }

    fn grow(&mut self, len: u32) -> Result<(), Refused> {
        self.bytes.splice(14..14, std::iter::repeat_n(0, len as usize));
        self.linear = 0;
        Ok(())
    }

    fn save(&mut self, to: *mut [u8; HELD_FRAME_LEN]) -> Result<(), Refused> {
        // SAFETY: an element of this thread's maps.
        let place = unsafe { &mut *to };
        place.get_mut(..self.bytes.len()).ok_or(Refused)?.copy_from_slice(&self.bytes);
        Ok(())
    }

    fn replace(&mut self, from: *const [u8; HELD_FRAME_LEN], len: u32) -> Result<(), Refused> {
        // SAFETY: an element of this thread's maps.
        let place = unsafe { &*from };
        self.bytes = place.get(..len as usize).ok_or(Refused)?.to_vec();
        self.linear = 0;
        Ok(())
    }

    fn reinject(&mut self) -> Result<(), Refused> {
        self.reinjected.push(self.bytes.clone());
        Ok(())
    }

    fn truncate(&mut self, len: u32) -> Result<(), Refused> {
        self.bytes.truncate(len as usize);
        self.linear = self.linear.min(self.bytes.len());
        Ok(())
    }
}

fn sum(word: u16, difference: u32) -> u16 {
    let mut sum = u32::from(word) + (difference & 0xffff) + (difference >> 16);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
