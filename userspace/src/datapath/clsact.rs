// SPDX-License-Identifier: Apache-2.0
//! Filters on clsact qdiscs over netlink: what aya does not do. It adds and removes filters of known
//! priority and handle; here they are listed, and the qdisc itself is removed.

use std::{ffi::CStr, io};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use pintle_abi::counter::Hook;

use crate::node::{IfIndex, wire};

/// Priority of our filters: a number that nobody else is likely to have.
pub const PRIORITY: u16 = 0x5049;
/// Handle of our filters.
pub const HANDLE: u32 = 0x5049;

const HEADER: usize = 16;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const TC_H_INGRESS: u32 = 0xffff_fff2;
const TC_H_EGRESS: u32 = 0xffff_fff3;
/// The handle that the kernel gives every clsact qdisc.
const CLSACT_HANDLE: u32 = 0xffff_0000;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
/// Larger than any netlink datagram of the kernel (32 KiB).
const DATAGRAM: usize = 64 * 1024;

/// A filter on a clsact qdisc.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Its priority; lower runs first.
    pub priority: u16,
    /// Its handle, unique within the priority.
    pub handle: u32,
    /// The name of its program; its kind if it is no BPF filter.
    pub name: String,
}

impl Filter {
    /// One of ours: the place alone could be somebody else's.
    pub fn is_ours(&self, hook: Hook) -> bool {
        (self.priority, self.handle) == (PRIORITY, HANDLE) && self.name == hook.as_str()
    }
}

/// The filters of an interface on the side of a hook; none without a clsact qdisc.
pub fn filters(index: IfIndex, hook: Hook) -> io::Result<Vec<Filter>> {
    let parent = match hook {
        Hook::FromPod | Hook::FromNet | Hook::Xdp => TC_H_INGRESS,
        Hook::ToPod | Hook::ToNet => TC_H_EGRESS,
    };
    let mut found = Vec::new();
    exchange(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, index, 0, parent, |body| {
        found.extend(filter(body));
    })?;
    Ok(found)
}

/// Removes the clsact qdisc of an interface, with every filter on it.
pub fn remove_qdisc(index: IfIndex) -> io::Result<()> {
    exchange(libc::RTM_DELQDISC, libc::NLM_F_ACK, index, CLSACT_HANDLE, TC_H_CLSACT, |_| {})
}

/// Every interface of this thread's network namespace.
pub fn interfaces() -> io::Result<Vec<(IfIndex, String)>> {
    // SAFETY: the call takes nothing; its result is an array that ends with a null name, and is
    // freed once, after the last read.
    unsafe {
        let list = libc::if_nameindex();
        if list.is_null() {
            return Err(io::Error::last_os_error());
        }
        let mut found = Vec::new();
        let mut entry = list;
        while !(*entry).if_name.is_null() {
            let name = CStr::from_ptr((*entry).if_name).to_string_lossy().into_owned();
            found.push((IfIndex((*entry).if_index), name));
            entry = entry.add(1);
        }
        libc::if_freenameindex(list);
        Ok(found)
    }
}

/// Sends one request about an interface and hands every answer to `visit`.
fn exchange(
    kind: u16,
    flags: libc::c_int,
    index: IfIndex,
    handle: u32,
    parent: u32,
    mut visit: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    let mut request = vec![0; HEADER];
    request.extend([0_u32, index.0, handle, parent, 0].iter().flat_map(|word| word.to_ne_bytes()));
    let length = request.len() as u32;
    request[0..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    socket.send(&request, 0)?;
    let mut datagram = Vec::with_capacity(DATAGRAM);
    loop {
        datagram.clear();
        socket.recv(&mut datagram, 0)?;
        for (kind, _, body) in wire::messages(&datagram) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => return wire::answer(body),
                _ => visit(body),
            }
        }
    }
}

/// The filter that a message tells of; each priority also has a message without a handle.
fn filter(body: &[u8]) -> Option<Filter> {
    let (handle, info) = (wire::u32_at(body, 8)?, wire::u32_at(body, 16)?);
    let mut found = Filter { priority: (info >> 16) as u16, handle, name: String::new() };
    for (kind, value) in wire::attributes(body.get(20..)?) {
        match kind {
            TCA_KIND if found.name.is_empty() => found.name = wire::text(value),
            TCA_OPTIONS => {
                let name = wire::attributes(value).find(|(kind, _)| *kind == TCA_BPF_NAME);
                if let Some((_, name)) = name {
                    found.name = wire::text(name);
                }
            }
            _ => {}
        }
    }
    (handle != 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_program_in_our_place_is_ours() {
        let ours = Filter { priority: PRIORITY, handle: HANDLE, name: "to_pod".into() };
        assert!(ours.is_ours(Hook::ToPod));
        assert!(!ours.is_ours(Hook::FromPod));
        assert!(!Filter { name: "bpf".into(), ..ours.clone() }.is_ours(Hook::ToPod));
        assert!(!Filter { priority: 1, ..ours }.is_ours(Hook::ToPod));
    }

    /// Needs no privilege: every namespace may read its own tables.
    #[test]
    fn an_interface_without_clsact_has_no_filters() {
        let all = interfaces().unwrap();
        let (lo, _) = all.iter().find(|(_, name)| name == "lo").unwrap();
        assert_eq!(filters(*lo, Hook::ToPod).unwrap(), []);
    }
}
