// SPDX-License-Identifier: Apache-2.0
//! Access to a packet, and what is known of it once its headers are read.

use pintle_abi::{addr::Tuple, exit::Exit, fragment::HELD_FRAME_LEN};

use crate::{
    family::{
        Family,
        extensions::{self, Walked},
    },
    kernel::SocketHandle,
    nat, sctp,
};

/// The kernel refused to change a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// Which checksum a rewrite has to keep right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumKind {
    /// TCP, ICMP and ICMPv6: an ordinary checksum.
    Plain,
    /// UDP: 0 stands for none and must stay 0; a result of 0 is sent as 0xffff.
    Udp,
}

/// What part of the packet a change of its checksum comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    /// The pseudo-header. A partial checksum (offload) contains it.
    PseudoHeader,
    /// The transport header or payload. A partial checksum does not contain it yet.
    Payload,
}

/// A frame with its link-layer header, as a hook sees it.
///
/// Any method that changes the packet invalidates pointers derived from `start`.
pub trait Packet {
    /// First byte of the linear part.
    fn start(&self) -> usize;
    /// End of the linear part.
    fn end(&self) -> usize;
    /// Length of the whole frame in bytes.
    fn len(&self) -> u32;
    /// Whether there is no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The device whose hook runs.
    fn ifindex(&self) -> u32;
    /// The device at which the packet came in; 0 if it was made on this host.
    fn arrived_at(&self) -> u32;
    /// Whether the packet was made on this host, and did not come in at some device.
    #[inline(always)]
    fn is_from_host(&self) -> bool {
        self.arrived_at() == 0
    }
    /// Whether the frame is addressed to this host, and not overheard or for many.
    fn is_for_host(&self) -> bool;
    /// The device through which the node's routes lead to an address; 0 if they do not.
    fn way_out<F: Family>(&self, to: F) -> u32;
    /// How packets like this one, of `len` bytes, leave for an address without the kernel's help; `None` if
    /// they cannot.
    fn find_exit<F: Family>(&self, _from: F, _to: F, _len: u32) -> Option<Exit> {
        None
    }
    /// Notes how the packet leaves; `false` if it cannot do so, or is for another host.
    fn take_exit(&mut self, _exit: &Exit) -> bool {
        false
    }
    /// EtherType, network byte order.
    fn ethertype(&self) -> u16;
    /// The socket that sent the packet, where that is known: as long as it has passed no stack but its own.
    fn socket(&self) -> Option<SocketHandle>;
    /// The number itself, but one that the verifier knows nothing of: it would follow each constant
    /// through all that comes after.
    fn veil(&self, number: u32) -> u32 {
        number
    }
    /// Makes the first `len` bytes linear.
    fn pull(&mut self, len: u32) -> Result<(), Refused>;
    /// Corrects a transport checksum at `offset` by a folded difference.
    fn fix_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        covered: Covered,
        kind: ChecksumKind,
    ) -> Result<(), Refused>;
    /// Four bytes of the frame, wherever they are, and zeroes behind its end; the packet stays as it
    /// is.
    fn copy(&self, offset: u32) -> [u8; 4];
    /// Inserts `len` bytes between the link-layer and the network header.
    fn grow(&mut self, len: u32) -> Result<(), Refused>;
    /// Cuts the frame to `len` bytes.
    fn truncate(&mut self, len: u32) -> Result<(), Refused>;
    /// Copies the whole frame to a place, if it is large enough.
    fn save(&mut self, to: *mut [u8; HELD_FRAME_LEN]) -> Result<(), Refused>;
    /// Replaces the whole frame by `len` bytes from a place.
    fn replace(&mut self, from: *const [u8; HELD_FRAME_LEN], len: u32) -> Result<(), Refused>;
    /// Sends a copy of the frame on its way from this hook, as if it came in now.
    fn reinject(&mut self) -> Result<(), Refused>;
    /// Corrects a transport checksum, see [`nat::fix_transport`].
    fn fix_transport(
        &mut self,
        offset: u32,
        addresses: u32,
        ports: u32,
        kind: ChecksumKind,
    ) -> Result<(), Refused>
    where
        Self: Sized,
    {
        nat::fix_transport(self, offset, addresses, ports, kind)
    }
    /// Corrects a checksum of SCTP, see [`sctp::fix`].
    fn fix_sctp(&mut self, offset: u32, change: u32, len: u32) -> Result<(), Refused>
    where
        Self: Sized,
    {
        sctp::fix(self, offset, change, len)
    }
    /// Finds the transport header behind the IPv6 extension header at `offset`.
    fn walk_extensions(&mut self, offset: u32, proto: u8) -> Walked
    where
        Self: Sized,
    {
        extensions::walk(self, offset, proto)
    }
}

/// A pointer to a value at an offset of the frame, if it lies in the linear part.
#[inline(always)]
pub fn at<T>(packet: &impl Packet, offset: u32) -> Option<*mut T> {
    let start = packet.start() + offset as usize;
    if start + size_of::<T>() > packet.end() {
        return None;
    }
    Some(start as *mut T)
}

/// Reads an integer at an offset of the frame, in memory order.
#[inline(always)]
pub fn read<T: Copy>(packet: &impl Packet, offset: u32) -> Option<T> {
    at::<T>(packet, offset).map(|place| load(place))
}

/// Loads a value from packet memory.
#[inline(always)]
pub(crate) fn load<T: Copy>(place: *const T) -> T {
    // The verifier accepts unaligned packet access on the machines we run on, and one load is a
    // quarter of the instructions that `read_unaligned` becomes.
    #[cfg(target_arch = "bpf")]
    // SAFETY: `at` has checked the bounds.
    return unsafe { *place };
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: `at` has checked the bounds.
    return unsafe { place.read_unaligned() };
}

/// Stores a value to packet memory.
#[inline(always)]
pub(crate) fn store<T: Copy>(place: *mut T, value: T) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: `at` has checked the bounds; see `load` for the alignment.
    unsafe {
        *place = value;
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: `at` has checked the bounds.
    unsafe {
        place.write_unaligned(value);
    }
}

/// A field of a header whose bounds are checked.
#[inline(always)]
pub fn field<T: Copy>(header: *const u8, offset: u32) -> T {
    load(header.wrapping_add(offset as usize).cast())
}

/// Writes a field of a header whose bounds are checked.
#[inline(always)]
pub fn set<T: Copy>(header: *mut u8, offset: u32, value: T) {
    store(header.wrapping_add(offset as usize).cast(), value);
}

/// Writes an integer at an offset of the frame, in memory order.
#[inline(always)]
pub fn set_at<T: Copy>(packet: &mut impl Packet, offset: u32, value: T) -> Result<(), Refused> {
    store(at::<T>(packet, offset).ok_or(Refused)?, value);
    Ok(())
}

/// Makes the first `len` bytes readable, or as many as there are.
#[inline(always)]
pub fn ensure(packet: &mut impl Packet, len: u32) {
    if packet.start() + len as usize > packet.end() {
        let have = packet.len();
        if packet.start() + have as usize != packet.end() {
            // On failure the reads that follow find nothing, which they handle.
            let _ = packet.pull(if have < len { have } else { len });
        }
    }
}

/// Where a packet stands in a fragmented datagram: the offset below, "more fragments" above.
///
/// Bits and not an enum: the verifier follows every constant through all code that depends on it,
/// but forgets a number that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragmentation(u32);

impl Fragmentation {
    /// The datagram is not fragmented.
    pub const WHOLE: Self = Self(0);

    /// From a nonzero offset in whatever unit, and whether more fragments follow (0 or 1).
    #[inline(always)]
    pub fn new(offset: u16, more: u32) -> Self {
        Self(u32::from(offset) | more << 16)
    }

    /// The datagram is not fragmented.
    #[inline(always)]
    pub fn is_whole(self) -> bool {
        self.0 == 0
    }

    /// The first of several fragments.
    #[inline(always)]
    pub fn is_first(self) -> bool {
        !self.is_whole() && !self.is_later()
    }

    /// Not the first fragment: it has no transport header.
    #[inline(always)]
    pub fn is_later(self) -> bool {
        self.0 & 0xffff != 0
    }
}

/// What a reader of headers is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Whole datagrams without IP options or extension headers, as nearly all are.
    Plain,
    /// Anything.
    Any,
}

/// Result of reading the headers.
#[derive(Clone, Copy, Debug)]
pub enum Parsed<A> {
    /// What they say.
    Headers(Headers<A>),
    /// They are not of the shape the reader is ready for.
    Unusual,
    /// Not a packet of this family, or too short to have addresses.
    Foreign,
}

impl<A> Parsed<A> {
    /// The headers, if they could be read.
    #[inline(always)]
    pub fn headers(self) -> Option<Headers<A>> {
        match self {
            Self::Headers(headers) => Some(headers),
            Self::Unusual | Self::Foreign => None,
        }
    }
}

/// What the headers say. Offsets are from the start of the frame.
#[derive(Clone, Copy, Debug)]
pub struct Headers<A> {
    /// Addresses and ports; ports are 0 where there are none.
    pub tuple: Tuple<A>,
    /// Start of the transport header.
    pub transport: u32,
    /// End of the packet; padding may follow in the frame.
    pub end: u32,
    /// Identification of the datagram, for fragments only.
    pub id: u32,
    /// IP protocol number of the payload.
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags, or those that [`crate::sctp`] makes of a chunk; 0 for other protocols.
    pub tcp_flags: u8,
    /// Whether the datagram is fragmented.
    pub fragmentation: Fragmentation,
    /// The packet is shorter than its headers claim, or they contradict themselves.
    pub malformed: bool,
}
