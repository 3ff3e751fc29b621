// SPDX-License-Identifier: Apache-2.0
//! The kernel's forwarding table, asked from any hook.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_fib_lookup;
use pintle_ebpf::{family::Family, hooks::way::LOOPBACK};

/// `BPF_FIB_LKUP_RET_SUCCESS`: there is a route, and the neighbour is known.
pub const FOUND: i64 = 0;
/// `BPF_FIB_LKUP_RET_NO_NEIGH`: there is a route, the neighbour has to be asked first.
pub const FOUND_WITHOUT_NEIGHBOUR: i64 = 7;

/// `struct bpf_fib_lookup` of `linux/bpf.h`.
#[repr(C)]
pub struct Lookup {
    /// Address family; its place takes the TOS of the answer.
    pub family: u8,
    protocol: u8,
    ports: [u16; 2],
    /// Length of the packet, to be compared with the MTU of the route; with 0 the kernel compares what
    /// it has, unless that is to be segmented. Afterwards that MTU.
    pub len: u16,
    /// Where the packet came in; afterwards where it leaves.
    pub ifindex: u32,
    tos: u32,
    /// The source address.
    pub src: [u32; 4],
    /// The destination; afterwards the next hop.
    pub dst: [u32; 4],
    vlan: u32,
    /// Afterwards the link-layer addresses: that of the device, then that of the neighbour.
    pub macs: [u16; 6],
}

const _: () = assert!(size_of::<Lookup>() == 64);

impl Lookup {
    /// The question about a packet that came in at a device; 0 for what the host itself sends.
    #[inline(always)]
    pub fn new<F: Family>(from: u32, src: F, dst: F, len: u16) -> Self {
        let ifindex = if from == 0 { LOOPBACK } else { from };
        let (protocol, ports, tos, vlan, macs) = (0, [0; 2], 0, 0, [0; 6]);
        let (src, dst) = (src.words(), dst.words());
        let family = F::ADDRESS_FAMILY;
        Self { family, protocol, ports, len, ifindex, tos, src, dst, vlan, macs }
    }

    /// Asks; afterwards `ifindex`, `family` and `dst` are those of the next hop, if one is found.
    #[inline(always)]
    pub fn ask(&mut self, context: *mut c_void) -> i64 {
        let place = core::ptr::from_mut(self).cast();
        // SAFETY: the struct has the layout and the length that the helper expects.
        unsafe { bpf_fib_lookup(context, place, size_of::<Self>() as i32, 0) }
    }
}

/// The device through which the node's routes lead to an address; 0 if they do not.
#[inline(always)]
pub fn way_out<F: Family>(context: *mut c_void, from: u32, to: F) -> u32 {
    // A packet that is too long for the device leaves through it nevertheless, in fragments.
    const FITS: u16 = 1;
    let mut lookup = Lookup::new(from, F::default(), to, FITS);
    match lookup.ask(context) {
        FOUND | FOUND_WITHOUT_NEIGHBOUR => lookup.ifindex,
        _ => 0,
    }
}
